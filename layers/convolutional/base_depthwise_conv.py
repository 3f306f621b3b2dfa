"""What the depthwise convolution layers share."""

from hornbeam import ops
from hornbeam.layers.arguments import positive_int
from hornbeam.layers.convolutional.base_conv import SpatialLayer


class BaseDepthwiseConv(SpatialLayer):
    """Convolution of every channel on its own with `depth_multiplier` kernels.

    Args:
        depth_multiplier: output channels for each input channel.
    """

    def __init__(self, rank, depth_multiplier, kernel_size, **kwargs):
        super().__init__(rank, kernel_size, causal=rank == 1, **kwargs)
        self.depth_multiplier = positive_int(self, "depth_multiplier", depth_multiplier)

    def build(self, input_shape):
        channels = self._channels(input_shape)
        # The names of the weight and of its arguments differ: `kernel`, `depthwise_initializer`.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels, self.depth_multiplier),
            initializer=self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
        )
        self._build_bias(self.depth_multiplier * channels)

    def call(self, inputs):
        inputs, padding = self._pad_causal(inputs)
        outputs = ops.depthwise_conv(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finish(outputs)

    def compute_output_shape(self, input_shape):
        channels = input_shape[self._channel_axis]
        return self._output_shape(input_shape, channels * self.depth_multiplier)


class BaseSeparableConv(SpatialLayer):
    """A depthwise convolution, then a 1x1 convolution.

    Args:
        depth_multiplier: channels between the two for each input channel.
        filters: number of output channels.
    """

    def __init__(self, rank, depth_multiplier, filters, kernel_size, **kwargs):
        super().__init__(rank, kernel_size, causal=rank == 1, **kwargs)
        self.depth_multiplier = positive_int(self, "depth_multiplier", depth_multiplier)
        self.filters = positive_int(self, "filters", filters)

    def build(self, input_shape):
        channels = self._channels(input_shape)
        between = channels * self.depth_multiplier
        self.depthwise_kernel = self.add_weight(
            name="depthwise_kernel",
            shape=(*self.kernel_size, channels, self.depth_multiplier),
            initializer=self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
        )
        self.pointwise_kernel = self.add_weight(
            name="pointwise_kernel",
            shape=(*(1,) * self.rank, between, self.filters),
            initializer=self.pointwise_initializer,
            regularizer=self.pointwise_regularizer,
            constraint=self.pointwise_constraint,
        )
        self._build_bias(self.filters)

    def call(self, inputs):
        inputs, padding = self._pad_causal(inputs)
        outputs = ops.separable_conv(
            inputs,
            self.depthwise_kernel,
            self.pointwise_kernel,
            strides=self.strides,
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finish(outputs)

    def compute_output_shape(self, input_shape):
        return self._output_shape(input_shape, self.filters)
