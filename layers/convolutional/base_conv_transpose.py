"""What the transposed convolution layers share."""

from hornbeam import ops
from hornbeam.layers.arguments import add_named_weight, positive_int, standardize_tuple
from hornbeam.layers.convolutional.base_conv import SpatialLayer


class BaseConvTranspose(SpatialLayer):
    """The gradient of a convolution to its input, as a layer.

    Args:
        filters: number of output channels.
        output_padding: by how much the output grows at its end; None to follow the strides.
    """

    def __init__(self, rank, filters, kernel_size, *, output_padding=None, **kwargs):
        super().__init__(rank, kernel_size, **kwargs)
        self.filters = positive_int(self, "filters", filters)
        if output_padding is not None:
            output_padding = standardize_tuple(
                output_padding, rank, "output_padding", allow_zero=True
            )
            if any(p >= s for p, s in zip(output_padding, self.strides, strict=True)):
                raise ValueError(
                    f"{type(self).__name__}: `output_padding` {output_padding} must be below the "
                    f"strides {self.strides}"
                )
        self.output_padding = output_padding

    def build(self, input_shape):
        channels = self._channels(input_shape)
        self.kernel = add_named_weight(self, "kernel", (*self.kernel_size, self.filters, channels))
        self._build_bias(self.filters)

    def call(self, inputs):
        outputs = ops.conv_transpose(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finish(outputs)

    def compute_output_shape(self, input_shape):
        first = 1 if self.data_format == "channels_last" else 2
        shape = list(input_shape)
        shape[self._channel_axis] = self.filters
        for i in range(self.rank):
            size, stride = shape[first + i], self.strides[i]
            if size is None:
                continue
            window = self.dilation_rate[i] * (self.kernel_size[i] - 1) + 1
            if self.output_padding is None:
                grown = size * stride
                if self.padding == "valid":
                    grown += max(window - stride, 0)
            else:
                grown = (size - 1) * stride + window + self.output_padding[i]
                if self.padding == "same":
                    grown -= 2 * (window // 2)
            shape[first + i] = grown
        return tuple(shape)
