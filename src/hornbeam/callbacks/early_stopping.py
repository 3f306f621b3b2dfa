"""Stop training when a value no longer improves."""

from hornbeam.callbacks.monitor_callback import MonitorCallback
from hornbeam.utils.progbar import print_line


class EarlyStopping(MonitorCallback):
    """End `fit` after `patience` epochs without improvement of `monitor`.

    Args:
        monitor: key of the logs.
        min_delta: least change that counts as an improvement.
        patience: epochs to wait.
        verbose: 1 prints when it stops.
        mode: "min", "max" or "auto".
        baseline: value that has to be passed within `patience` epochs.
        restore_best_weights: at the end, go back to the weights of the best epoch.
        start_from_epoch: epochs to let pass first.
    """

    def __init__(
        self,
        monitor="val_loss",
        min_delta=0,
        patience=0,
        verbose=0,
        mode="auto",
        baseline=None,
        restore_best_weights=False,
        start_from_epoch=0,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_weights = None
        self.best_epoch = 0

    def on_epoch_end(self, epoch, logs=None):
        current = self._monitored(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        self._resolve_mode()
        if self.restore_best_weights and self.best_weights is None:
            # the first weights count even if no epoch is ever good enough
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        self.wait += 1
        if self._is_improvement(current, self.best):
            self.best = current
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._is_improvement(current, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.verbose > 0 and self.stopped_epoch > 0:
            print_line(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                print_line(f"Restoring the weights of the best epoch, {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)
