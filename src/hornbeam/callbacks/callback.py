"""The `Callback` base class and the list that calls them."""

import numpy as np

from hornbeam import backend
from hornbeam.backend import tree


class Callback:
    """Base class: override the hooks you want. `self.model` and `self.params` are set by then.

    Hooks get the epoch or batch number and a dict of logs (floats): `loss`, the metrics, and at
    the end of an epoch the `val_…` values. Setting `self.model.stop_training = True` ends `fit`.

    A callback that overrides a batch hook makes `fit` return to Python after every batch; without
    one, many batches run per call.

    Example:

    >>> class Losses(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(epoch, sorted(logs))
    >>> Losses().on_epoch_end(0, {"loss": 1.0})
    0 ['loss']
    """

    def __init__(self):
        self.params = None
        self._model = None

    def set_params(self, params):
        self.params = params

    def set_model(self, model):
        self._model = model

    @property
    def model(self):
        return self._model

    def on_batch_begin(self, batch, logs=None):
        """Older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch, logs=None):
        """Older name of `on_train_batch_end`."""

    def on_epoch_begin(self, epoch, logs=None):
        """Before an epoch of `fit`."""

    def on_epoch_end(self, epoch, logs=None):
        """After an epoch of `fit` and its validation."""

    def on_train_batch_begin(self, batch, logs=None):
        """Before a batch of `fit`."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch, logs=None):
        """After a batch of `fit`; logs are the means of the epoch so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_batch_begin(self, batch, logs=None):
        """Before a batch of `evaluate`, also of validation."""

    def on_test_batch_end(self, batch, logs=None):
        """After a batch of `evaluate`, also of validation."""

    def on_predict_batch_begin(self, batch, logs=None):
        """Before a batch of `predict`."""

    def on_predict_batch_end(self, batch, logs=None):
        """After a batch of `predict`; logs hold `outputs`."""

    def on_train_begin(self, logs=None):
        """At the start of `fit`."""

    def on_train_end(self, logs=None):
        """At the end of `fit`, unless an error or an interrupt ended it."""

    def on_test_begin(self, logs=None):
        """At the start of `evaluate`, also of validation."""

    def on_test_end(self, logs=None):
        """At the end of `evaluate`, also of validation."""

    def on_predict_begin(self, logs=None):
        """At the start of `predict`."""

    def on_predict_end(self, logs=None):
        """At the end of `predict`."""

    # -- not part of Keras's protocol --------------------------------------------------------

    def _wants_batches(self, mode):
        """Whether the batch hooks of `mode` ("train", "test", "predict") do anything."""
        hooks = [f"on_{mode}_batch_begin", f"on_{mode}_batch_end"]
        if mode == "train":
            hooks += ["on_batch_begin", "on_batch_end"]
        return any(not _inherited(self, hook) for hook in hooks)

    def _close(self):
        """Release files and the like; called however `fit`, `evaluate` or `predict` end."""


def _inherited(callback, hook):
    own = getattr(callback, hook, None)
    return getattr(own, "__func__", None) is getattr(Callback, hook)


def python_logs(logs):
    """Logs with plain floats (and arrays) instead of tensors, nested dicts flattened, sorted."""
    result = {}
    for key, value in sorted((logs or {}).items()):
        if isinstance(value, dict):
            result.update(python_logs(value))
            continue
        if backend.is_tensor(value):
            value = backend.convert_to_numpy(value)
        if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0:
            value = value.item()
        result[key] = value
    return result


class CallbackList(Callback):
    """Calls each hook of all its callbacks, in order.

    Args:
        callbacks: list of callbacks.
        add_history, add_progbar: append a `History`, a `ProgbarLogger`, unless there is one.
        model: model to set.
        params: `epochs`, `steps`, `verbose`.
    """

    def __init__(self, callbacks=None, add_history=False, add_progbar=False, model=None, **params):
        super().__init__()
        from hornbeam.callbacks.history import History
        from hornbeam.callbacks.progbar_logger import ProgbarLogger

        self.callbacks = tree.flatten(callbacks) if callbacks else []
        for callback in self.callbacks:
            if not hasattr(callback, "on_epoch_end") or isinstance(callback, type):
                raise TypeError(
                    f"callbacks: expected Callback objects, got {callback!r} of type "
                    f"{type(callback).__name__}"
                    + ("; make an object: callbacks=[Class()]" if callable(callback) else "")
                )
        self._history = next((c for c in self.callbacks if isinstance(c, History)), None)
        if add_history and self._history is None:
            self._history = History()
            self.callbacks.append(self._history)
        if add_progbar and not any(isinstance(c, ProgbarLogger) for c in self.callbacks):
            self.callbacks.append(ProgbarLogger())
        self.set_model(model)
        self.set_params(params)

    def append(self, callback):
        self.callbacks.append(callback)

    def set_params(self, params):
        self.params = params
        if params:
            for callback in self.callbacks:
                callback.set_params(params)

    def set_model(self, model):
        if model is None:
            return
        super().set_model(model)
        if self._history is not None:
            model.history = self._history
        for callback in self.callbacks:
            callback.set_model(model)

    def wants_batches(self, mode):
        """Whether any callback must be called for every single batch."""
        return any(
            callback._wants_batches(mode) if isinstance(callback, Callback) else True
            for callback in self.callbacks
        )

    def progress(self, mode, batch, logs):
        """Tell those that only show progress how far the run is."""
        for callback in self.callbacks:
            if getattr(callback, "shows_progress", False):
                getattr(callback, f"on_{mode}_batch_end")(batch, logs=logs())

    def close(self):
        for callback in self.callbacks:
            if isinstance(callback, Callback):
                callback._close()

    def __iter__(self):
        return iter(self.callbacks)


def _forward(hook, takes_index):
    if takes_index:

        def call(self, index, logs=None):
            logs = python_logs(logs)
            for callback in self.callbacks:
                getattr(callback, hook)(index, logs=logs)
    else:

        def call(self, logs=None):  # type: ignore[misc]
            logs = python_logs(logs)
            for callback in self.callbacks:
                getattr(callback, hook)(logs=logs)

    call.__name__ = hook
    call.__doc__ = f"Call `{hook}` of every callback."
    return call


for _hook in [name for name in vars(Callback) if name.startswith("on_")]:
    setattr(CallbackList, _hook, _forward(_hook, "batch" in _hook or "epoch" in _hook))
