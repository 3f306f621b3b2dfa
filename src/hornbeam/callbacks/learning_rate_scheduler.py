"""Set the learning rate at the start of every epoch."""

import inspect

import numpy as np

from hornbeam import backend
from hornbeam.callbacks.callback import Callback
from hornbeam.utils.progbar import print_line


class LearningRateScheduler(Callback):
    """learning rate = schedule(epoch, current rate), or schedule(epoch).

    Args:
        schedule: function of the epoch (from 0) and, if it takes two, the current rate → float.
        verbose: 1 prints each rate.
    """

    def __init__(self, schedule, verbose=0):
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch, logs=None):
        optimizer = self.model.optimizer
        rate = float(backend.convert_to_numpy(optimizer.learning_rate))
        rate = self.schedule(epoch, rate) if _takes_two(self.schedule) else self.schedule(epoch)
        if not isinstance(rate, (float, np.float32, np.float64)):
            raise ValueError(
                "LearningRateScheduler: the schedule must return a float; got "
                f"{rate!r} of type {type(rate).__name__}"
            )
        optimizer.learning_rate = float(rate)
        if self.verbose > 0:
            print_line(
                f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}."
            )

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            rate = self.model.optimizer.learning_rate
            logs["learning_rate"] = float(backend.convert_to_numpy(rate))


def _takes_two(fn):
    try:
        inspect.signature(fn).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a builtin without signature
        return True
    return True
