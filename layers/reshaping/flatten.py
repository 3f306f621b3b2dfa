"""Flatten."""

import math

from hornbeam import ops
from hornbeam.layers.arguments import standardize_data_format
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class Flatten(Layer):
    """All axes but the first as one.

    Args:
        data_format: `"channels_first"` moves the channels to the end first, so that the result is
            that of the same data with channels last; the global setting when None.

    Input shape: `(batch, …)`. Output shape: `(batch, n)`.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Flatten()(keras.ops.ones((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=1)
        self._channels_first = self.data_format == "channels_first"
        self._build_at_init()

    def call(self, inputs):
        shape = inputs.shape
        if self._channels_first and len(shape) > 2:
            inputs = ops.transpose(inputs, (0, *range(2, len(shape)), 1))
        return ops.reshape(inputs, (shape[0], math.prod(shape[1:])))

    def compute_output_shape(self, input_shape):
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))
