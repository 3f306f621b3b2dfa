"""Lower the learning rate when a value no longer improves."""

from hornbeam import backend
from hornbeam.callbacks.monitor_callback import MonitorCallback
from hornbeam.utils.progbar import print_line


class ReduceLROnPlateau(MonitorCallback):
    """learning rate · factor after `patience` epochs without improvement of `monitor`.

    Args:
        monitor: key of the logs.
        factor: below 1.
        patience: epochs to wait.
        verbose: 1 prints each change.
        mode: "min", "max" or "auto".
        min_delta: least change that counts as an improvement.
        cooldown: epochs to wait after a change.
        min_lr: least learning rate.
    """

    def __init__(
        self,
        monitor="val_loss",
        factor=0.1,
        patience=10,
        verbose=0,
        mode="auto",
        min_delta=0.0001,
        cooldown=0,
        min_lr=0.0,
        **kwargs,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1; got {factor}")
        if kwargs:
            raise TypeError(f"ReduceLROnPlateau: unknown arguments; got {sorted(kwargs)}")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self.best = None
        self.wait = 0
        self.cooldown_counter = 0

    def in_cooldown(self):
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        optimizer = self.model.optimizer
        rate = float(backend.convert_to_numpy(optimizer.learning_rate))
        logs["learning_rate"] = rate
        current = self._monitored(logs)
        if current is None:
            return
        self._resolve_mode()
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._is_improvement(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                new_rate = max(rate * self.factor, self.min_lr)
                optimizer.learning_rate = new_rate
                self.cooldown_counter = self.cooldown
                self.wait = 0
                if self.verbose > 0:
                    print_line(
                        f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to "
                        f"{new_rate}."
                    )
