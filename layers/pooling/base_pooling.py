"""What the pooling layers share."""

from hornbeam import ops
from hornbeam.layers.arguments import (
    standardize_data_format,
    standardize_padding,
    standardize_tuple,
)
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class BasePooling(Layer):
    """Reduces windows of the spatial axes by `_pool`, an op of `hornbeam.ops`.

    Args:
        pool_size: size of the window, an integer or one for each spatial axis.
        strides: distance of the windows; the pool size when None.
        pool_dimensions: number of spatial axes.
        padding: `"valid"`, or `"same"` for an output of size `ceil(size / stride)`.
        data_format: where the channels are; the global setting when None.
    """

    _pool = None

    def __init__(
        self,
        pool_size,
        strides,
        pool_dimensions,
        padding="valid",
        data_format=None,
        name=None,
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.pool_size = standardize_tuple(pool_size, pool_dimensions, "pool_size")
        strides = self.pool_size if strides is None else strides
        self.strides = standardize_tuple(strides, pool_dimensions, "strides")
        self.pool_dimensions = pool_dimensions
        self.padding = standardize_padding(padding)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=pool_dimensions + 2)
        self._build_at_init()

    _config_omit = (*Layer._config_omit, "pool_dimensions")

    def call(self, inputs):
        return type(self)._pool(
            inputs,
            pool_size=self.pool_size,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
        )

    def compute_output_shape(self, input_shape):
        first = 1 if self.data_format == "channels_last" else 2
        shape = list(input_shape)
        for i, (size, stride) in enumerate(zip(self.pool_size, self.strides, strict=True), first):
            if shape[i] is not None:
                if self.padding == "valid":
                    shape[i] = (shape[i] - size) // stride + 1
                else:
                    shape[i] = -(-shape[i] // stride)
                if shape[i] <= 0:
                    raise ValueError(
                        f"{type(self).__name__} '{self.name}': no window of size {self.pool_size} "
                        f"fits into the shape {tuple(input_shape)}"
                    )
        return tuple(shape)


class MaxPooling(BasePooling):
    """The largest value of each window."""

    @staticmethod
    def _pool(*args, **kwargs):
        return ops.max_pool(*args, **kwargs)


class AveragePooling(BasePooling):
    """The mean of each window; padding does not count."""

    @staticmethod
    def _pool(*args, **kwargs):
        return ops.average_pool(*args, **kwargs)
