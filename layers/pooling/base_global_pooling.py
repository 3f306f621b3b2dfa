"""What the global pooling layers share."""

from hornbeam.layers.arguments import standardize_data_format
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class BaseGlobalPooling(Layer):
    """Reduces all spatial axes.

    Args:
        pool_dimensions: number of spatial axes.
        data_format: where the channels are; the global setting when None.
        keepdims: keep the axes, with size 1.
    """

    def __init__(self, pool_dimensions, data_format=None, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.keepdims = keepdims
        self.pool_dimensions = pool_dimensions
        first = 1 if self.data_format == "channels_last" else 2
        self._axes = tuple(range(first, first + pool_dimensions))
        self.input_spec = InputSpec(ndim=pool_dimensions + 2)
        self._build_at_init()

    _config_omit = (*Layer._config_omit, "pool_dimensions")

    def compute_output_shape(self, input_shape):
        if self.keepdims:
            return tuple(1 if i in self._axes else d for i, d in enumerate(input_shape))
        return tuple(d for i, d in enumerate(input_shape) if i not in self._axes)
