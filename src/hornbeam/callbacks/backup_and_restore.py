"""Go on after an interruption of training."""

import json
import os

from hornbeam.callbacks.callback import Callback
from hornbeam.utils.atomic import atomic_write


class BackupAndRestore(Callback):
    """Save weights, optimizer state and position while training; `fit` resumes from them.

    Args:
        backup_dir: folder of the backup; one per training.
        save_freq: "epoch", or a number of batches.
        double_checkpoint: accepted as in Keras; a backup is always replaced as a whole.
        delete_checkpoint: delete the backup at the end of training.

    The position is kept in the backup's file name, so that weights and position are one file
    and always belong together. After an interruption between epochs, a script that begins with
    `set_random_seed` and fits arrays ends with the very weights of an uninterrupted run.
    """

    def __init__(
        self, backup_dir, save_freq="epoch", double_checkpoint=False, delete_checkpoint=True
    ):
        super().__init__()
        if not backup_dir:
            raise ValueError("BackupAndRestore: backup_dir must be a path; got an empty one")
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise ValueError(
                f"BackupAndRestore: save_freq must be 'epoch' or a positive number of batches; "
                f"got {save_freq!r}"
            )
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._epoch = 0

    def _wants_batches(self, mode):
        return mode == "train" and self.save_freq != "epoch"

    def _metadata(self):
        return os.path.join(self.backup_dir, "training_metadata.json")

    def _newest(self):
        """(epoch to start with, path of the weights) of the backup, or None."""
        try:
            with open(self._metadata(), encoding="utf-8") as f:
                data = json.load(f)
            path = os.path.join(self.backup_dir, f"epoch_{int(data['epoch'])}.weights.h5")
            return int(data["epoch"]), path
        except FileNotFoundError:
            return None

    def on_train_begin(self, logs=None):
        found = self._newest()
        if found is None:
            self.model._initial_epoch = None
            return
        epoch, path = found
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        self.model.load_weights(path)
        self.model._initial_epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.save_freq != "epoch" and (batch + 1) % self.save_freq == 0:
            self._save(self._epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch + 1
        if self.save_freq == "epoch":
            self._save(epoch + 1)

    def _save(self, epoch):
        os.makedirs(self.backup_dir, exist_ok=True)
        old = self._newest()
        path = os.path.join(self.backup_dir, f"epoch_{epoch}.weights.h5")
        self.model.save_weights(path, overwrite=True)
        # the metadata is switched over in one step, after the new weights are on disk
        with atomic_write(self._metadata()) as f:
            f.write(json.dumps({"epoch": epoch}).encode())
        if old is not None and old[1] != path and os.path.exists(old[1]):
            os.remove(old[1])

    def on_train_end(self, logs=None):
        self.model._initial_epoch = None
        found = self._newest()
        if self.delete_checkpoint and found is not None:
            os.remove(self._metadata())
            if os.path.exists(found[1]):
                os.remove(found[1])
