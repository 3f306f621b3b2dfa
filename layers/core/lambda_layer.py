"""Lambda."""

import inspect
import types

from hornbeam.backend import symbolic
from hornbeam.layers.layer import Layer
from hornbeam.saving import serialization_lib


class Lambda(Layer):
    """A function as a layer.

    A model with it is saved by the function's name: register the function, or give it in
    `custom_objects` when loading. Code is never written to a file nor run from one.

    Args:
        function: called with the inputs first.
        output_shape: shape without the batch axis, or function from input shape to it; found by
            tracing when None.
        mask: the output's mask, or function `(inputs, mask)` to it.
        arguments: further keyword arguments of the function.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Lambda(lambda x: x * 2.0)(keras.ops.ones((2,))).numpy().tolist()
    [2.0, 2.0]
    """

    def __init__(self, function, output_shape=None, mask=None, arguments=None, **kwargs):
        super().__init__(**kwargs)
        if not callable(function):
            raise ValueError(
                f"Lambda: `function` must be callable, got {function!r}; a saved function must be "
                "registered or given in `custom_objects`"
            )
        self.arguments = arguments or {}
        self.function = function
        self.mask = mask
        self._output_shape = output_shape
        self.supports_masking = mask is not None
        parameters = inspect.signature(function).parameters
        self._passes = [name for name in ("mask", "training") if name in parameters]

    def call(self, inputs, mask=None, training=None):
        extra = {"mask": mask, "training": training}
        kwargs = {**self.arguments, **{name: extra[name] for name in self._passes}}
        return self.function(inputs, **kwargs)

    def compute_output_spec(self, inputs, mask=None, training=None):
        if self._output_shape is None:
            return symbolic.infer(self.call, inputs, mask=mask, training=training)
        return super().compute_output_spec(inputs)

    def compute_output_shape(self, input_shape):
        given = self._output_shape
        if given is None:
            return Layer.compute_output_shape(self, input_shape)
        if callable(given):
            return tuple(given(input_shape))
        first = input_shape
        while first and isinstance(first[0], (tuple, list)):
            first = first[0]
        return (first[0], *given)

    def compute_mask(self, inputs, mask=None):
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def get_config(self):
        config = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialization_lib.serialize_keras_object(self.dtype_policy),
            "function": _named(self.function),
            "arguments": serialization_lib.serialize_keras_object(self.arguments),
        }
        if self._output_shape is not None:
            shape = self._output_shape
            config["output_shape"] = _named(shape) if callable(shape) else list(shape)
        if self.mask is not None:
            config["mask"] = _named(self.mask) if callable(self.mask) else self.mask
        return config


def _named(function):
    if isinstance(function, types.FunctionType) and function.__name__ == "<lambda>":
        raise ValueError(
            "Lambda: a `lambda` has no name under which it could be found again; use a named "
            "function registered with `register_keras_serializable`"
        )
    return serialization_lib.serialize_keras_object(function)
