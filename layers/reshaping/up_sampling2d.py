"""UpSampling2D."""

from hornbeam import ops
from hornbeam.layers.arguments import standardize_data_format, standardize_tuple
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class UpSampling2D(Layer):
    """Makes `(batch, height, width, channels)` larger by whole factors.

    Args:
        size: factors.
        data_format: where the channels are; the global setting when None.
        interpolation: `nearest`, `bilinear`, `bicubic`, `lanczos3` or `lanczos5`.
    """

    def __init__(self, size=(2, 2), data_format=None, interpolation="nearest", **kwargs):
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.size = standardize_tuple(size, 2, "size")
        interpolation = interpolation.lower()
        if interpolation not in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"):
            raise ValueError(f"UpSampling2D: unknown `interpolation` {interpolation!r}")
        self.interpolation = interpolation
        self.input_spec = InputSpec(ndim=4)
        self._build_at_init()

    def call(self, inputs):
        if self.interpolation != "nearest":
            height, width = (1, 2) if self.data_format == "channels_last" else (2, 3)
            size = (inputs.shape[height] * self.size[0], inputs.shape[width] * self.size[1])
            return ops.image.resize(
                inputs, size, interpolation=self.interpolation, data_format=self.data_format
            )
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
