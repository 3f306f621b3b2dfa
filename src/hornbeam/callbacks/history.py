"""Record of the logs of every epoch."""

from hornbeam.callbacks.callback import Callback


class History(Callback):
    """`history[name]` lists the value of `name` at the end of each epoch, `epoch` the numbers.

    `fit` returns one, and keeps it as `model.history`, also when it is interrupted.
    """

    def __init__(self):
        super().__init__()
        self.history = {}
        self.epoch = []

    def on_train_begin(self, logs=None):
        self.epoch = []

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.append(epoch)
        for key, value in (logs or {}).items():
            self.history.setdefault(key, []).append(value)
        self.model.history = self
