"""Rescaling."""

from hornbeam import ops
from hornbeam.layers.layer import Layer


class Rescaling(Layer):
    """`inputs * scale + offset`.

    Args:
        scale: factor, a number or an array that broadcasts.
        offset: summand, likewise.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Rescaling(1 / 255)(keras.ops.convert_to_tensor([255.0])).numpy().tolist()
    [1.0]
    """

    def __init__(self, scale, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs):
        dtype = self.compute_dtype
        scale = ops.convert_to_tensor(self.scale, dtype=dtype)
        offset = ops.convert_to_tensor(self.offset, dtype=dtype)
        return ops.cast(inputs, dtype) * scale + offset

    def compute_output_shape(self, input_shape):
        return input_shape
