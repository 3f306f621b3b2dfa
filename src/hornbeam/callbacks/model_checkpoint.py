"""Save the model while it trains."""

import os
import warnings

from hornbeam.callbacks.monitor_callback import MonitorCallback
from hornbeam.utils.progbar import print_line


class ModelCheckpoint(MonitorCallback):
    """Save the model or its weights after every epoch, or every so many batches.

    A file on disk is always a whole one: it is replaced only once the new one is complete.

    Args:
        filepath: ends in `.keras` (or `.h5`), or `.weights.h5` for weights; may contain
            fields such as `{epoch:02d}` and `{val_loss:.2f}`.
        monitor: key of the logs, for `save_best_only`.
        verbose: 1 prints what is saved.
        save_best_only: save only when `monitor` improved.
        save_weights_only: `save_weights` instead of `save`.
        mode: "min", "max" or "auto".
        save_freq: "epoch" or a number of batches.
        initial_value_threshold: value that the first one has to improve on.
    """

    def __init__(
        self,
        filepath,
        monitor="val_loss",
        verbose=0,
        save_best_only=False,
        save_weights_only=False,
        mode="auto",
        save_freq="epoch",
        initial_value_threshold=None,
    ):
        super().__init__(monitor, mode, initial_value_threshold)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        if save_freq != "epoch" and not isinstance(save_freq, int):
            raise ValueError(
                f"ModelCheckpoint: save_freq must be 'epoch' or a number of batches; got "
                f"{save_freq!r}"
            )
        endings = (".weights.h5",) if save_weights_only else (".keras", ".h5")
        if not self.filepath.endswith(endings):
            raise ValueError(
                f"ModelCheckpoint: filepath must end in {' or '.join(endings)} "
                f"(save_weights_only={save_weights_only}); got {self.filepath!r}"
            )
        self._epoch = 0
        self._batches = 0
        self._last_batch = -1

    def _wants_batches(self, mode):
        return mode == "train" and self.save_freq != "epoch"

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._last_batch = -1

    def on_train_batch_end(self, batch, logs=None):
        if self.save_freq == "epoch":
            return
        # with steps_per_execution, one call stands for several batches
        self._batches += batch - self._last_batch
        self._last_batch = batch
        if self._batches >= self.save_freq:
            self._batches = 0
            self._save(self._epoch, batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch":
            self._save(epoch, None, logs)

    def _save(self, epoch, batch, logs):
        logs = logs or {}
        path = self._path(epoch, batch, logs)
        if self.save_best_only and not self._is_best(epoch, logs, path):
            return
        if self.verbose > 0 and not self.save_best_only:
            print_line(f"\nEpoch {epoch + 1}: saving model to {path}")
        if os.path.isdir(path):
            raise OSError(f"ModelCheckpoint: filepath is a folder; expected a file, got {path!r}")
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)

    def _is_best(self, epoch, logs, path):
        current = logs.get(self.monitor)
        if current is None:
            warnings.warn(
                f"ModelCheckpoint: {self.monitor!r} is not in the logs, so the model is saved "
                f"although it may not be the best; available: {', '.join(sorted(logs))}",
                stacklevel=4,
            )
            return True
        self._resolve_mode()
        improved = self._is_improvement(current, self.best)
        if self.verbose > 0:
            best = "None" if self.best is None else f"{self.best:.5f}"
            if improved:
                print_line(
                    f"\nEpoch {epoch + 1}: {self.monitor} improved from {best} to {current:.5f}, "
                    f"saving model to {path}"
                )
            else:
                print_line(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {best}")
        if improved:
            self.best = current
        return improved

    def _path(self, epoch, batch, logs):
        fields = dict(logs)
        if batch is not None:
            fields.setdefault("batch", batch + 1)
        try:
            return self.filepath.format(epoch=epoch + 1, **fields)
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint: filepath {self.filepath!r} has an unknown field {error}; "
                f"expected 'epoch' or one of {sorted(fields)}"
            ) from None
