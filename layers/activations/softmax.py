"""Softmax."""

from hornbeam import activations, backend, ops
from hornbeam.layers.layer import Layer


class Softmax(Layer):
    """`exp(x) / sum(exp(x))` along an axis; masked places get (almost) nothing.

    Args:
        axis: axis, or list of axes that are normalised together.

    Call arguments: `inputs`, and `mask` of the same shape, True where an input counts.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Softmax()(keras.ops.zeros((1, 4))).numpy().tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs, mask=None):
        if mask is not None:
            lowest = large_negative_number(inputs.dtype)
            inputs = inputs + (1.0 - ops.cast(mask, inputs.dtype)) * lowest
        axis = self.axis
        if isinstance(axis, (tuple, list)) and len(axis) > 1:
            shifted = inputs - ops.stop_gradient(ops.max(inputs, axis=tuple(axis), keepdims=True))
            e = ops.exp(shifted)
            return e / ops.sum(e, axis=tuple(axis), keepdims=True)
        if isinstance(axis, (tuple, list)):
            axis = axis[0]
        return activations.softmax(inputs, axis=axis)

    def compute_output_shape(self, input_shape):
        return input_shape


def large_negative_number(dtype):
    """What masks a logit: far below any other, yet no infinity in the dtype."""
    return -3e4 if backend.standardize_dtype(dtype) == "float16" else -1e9
