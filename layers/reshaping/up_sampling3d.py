"""UpSampling3D."""

from hornbeam import ops
from hornbeam.layers.arguments import standardize_data_format, standardize_tuple
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class UpSampling3D(Layer):
    """Makes `(batch, depth, height, width, channels)` larger by whole factors.

    Args:
        size: factors.
        data_format: where the channels are; the global setting when None.
    """

    def __init__(self, size=(2, 2, 2), data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.size = standardize_tuple(size, 3, "size")
        self.input_spec = InputSpec(ndim=5)
        self._build_at_init()

    def call(self, inputs):
        first = 1 if self.data_format == "channels_last" else 2
        for axis, factor in enumerate(self.size, first):
            if factor > 1:
                inputs = ops.repeat(inputs, factor, axis=axis)
        return inputs

    def compute_output_shape(self, input_shape):
        first = 1 if self.data_format == "channels_last" else 2
        shape = list(input_shape)
        for axis, factor in enumerate(self.size, first):
            shape[axis] = None if shape[axis] is None else shape[axis] * factor
        return tuple(shape)
