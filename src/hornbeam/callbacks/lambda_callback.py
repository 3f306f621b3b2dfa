"""A callback made of functions."""

from hornbeam.callbacks.callback import Callback


class LambdaCallback(Callback):
    """Calls the given functions as hooks; any hook's name may be given as a keyword.

    >>> seen = []
    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch)).on_epoch_end(3)
    >>> seen
    [3]
    """

    def __init__(
        self,
        on_epoch_begin=None,
        on_epoch_end=None,
        on_train_begin=None,
        on_train_end=None,
        on_train_batch_begin=None,
        on_train_batch_end=None,
        **kwargs,
    ):
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **kwargs,
        }
        for hook, fn in given.items():
            if fn is not None:
                setattr(self, hook, _with_logs(fn, hook))


def _with_logs(fn, hook):
    if "epoch" in hook or "batch" in hook:
        return lambda index, logs=None: fn(index, logs)
    return lambda logs=None: fn(logs)
