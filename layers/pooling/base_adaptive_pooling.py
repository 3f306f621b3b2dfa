"""What the adaptive pooling layers share."""

from hornbeam import ops
from hornbeam.layers.arguments import standardize_data_format, standardize_tuple
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class BaseAdaptivePooling(Layer):
    """Reduces windows chosen so that the spatial axes get a given size.

    Args:
        output_size: the size, an integer or one for each spatial axis.
        pool_dimensions: number of spatial axes.
        data_format: where the channels are; the global setting when None.
    """

    _pool = None

    def __init__(self, output_size, pool_dimensions, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.output_size = standardize_tuple(output_size, pool_dimensions, "output_size")
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=pool_dimensions + 2)
        self._build_at_init()

    _config_omit = (*Layer._config_omit, "pool_dimensions")

    def call(self, inputs):
        return type(self)._pool(inputs, output_size=self.output_size, data_format=self.data_format)

    def compute_output_shape(self, input_shape):
        if self.data_format == "channels_last":
            return (input_shape[0], *self.output_size, input_shape[-1])
        return (*input_shape[:2], *self.output_size)


class BaseAdaptiveAveragePooling(BaseAdaptivePooling):
    """Means of the windows."""

    @staticmethod
    def _pool(*args, **kwargs):
        return ops.adaptive_average_pool(*args, **kwargs)


class BaseAdaptiveMaxPooling(BaseAdaptivePooling):
    """The largest values of the windows."""

    @staticmethod
    def _pool(*args, **kwargs):
        return ops.adaptive_max_pool(*args, **kwargs)
