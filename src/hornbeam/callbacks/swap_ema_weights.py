"""Use an optimizer's averaged weights for evaluation."""

from hornbeam import backend
from hornbeam.callbacks.callback import Callback


class SwapEMAWeights(Callback):
    """Exchange the weights with their moving averages (`use_ema=True`) for `evaluate`/`predict`.

    Args:
        swap_on_epoch: exchange at the end of every epoch too, so that what later callbacks
            save are the averages.
    """

    def __init__(self, swap_on_epoch=False):
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        self._swapped = False

    def _swap(self, to_averages):
        if self._swapped == to_averages:
            return
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        if not optimizer.use_ema:
            raise ValueError("SwapEMAWeights: the optimizer keeps no averages; set use_ema=True")
        if not optimizer.built:
            return
        averages = optimizer._averages
        for variable, average in zip(optimizer._trainable_variables, averages, strict=True):
            held = backend.convert_to_numpy(variable.value).copy()
            variable.assign(average.value)
            average.assign(held)
        self._swapped = to_averages

    def on_epoch_begin(self, epoch, logs=None):
        if self.swap_on_epoch:
            self._swap(False)

    def on_epoch_end(self, epoch, logs=None):
        if self.swap_on_epoch:
            self._swap(True)

    def on_test_begin(self, logs=None):
        self._swap(True)

    def on_test_end(self, logs=None):
        self._swap(False)

    def on_predict_begin(self, logs=None):
        self._swap(True)

    def on_predict_end(self, logs=None):
        self._swap(False)
