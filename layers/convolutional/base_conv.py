"""What the convolution layers share."""

from hornbeam import activations, ops
from hornbeam.layers.arguments import (
    add_named_weight,
    positive_int,
    standardize_data_format,
    standardize_padding,
    standardize_tuple,
    store_weight_arguments,
)
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class SpatialLayer(Layer):
    """A layer that moves a window over the spatial axes: shapes, bias and activation.

    Args:
        rank: number of spatial axes.
        kernel_size, strides, dilation_rate: an integer, or one for each spatial axis.
        padding: `"valid"`, `"same"`, and for rank 1 `"causal"`.
        data_format: where the channels are; the global setting when None.
        activation: activation.
        use_bias: whether there is a bias.
        weights: initializers, regularizers and constraints by name.
    """

    def __init__(
        self,
        rank,
        kernel_size,
        strides,
        padding,
        data_format,
        dilation_rate,
        activation,
        use_bias,
        weights,
        causal=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.rank = rank
        self.kernel_size = standardize_tuple(kernel_size, rank, "kernel_size")
        self.strides = standardize_tuple(strides, rank, "strides")
        self.dilation_rate = standardize_tuple(dilation_rate, rank, "dilation_rate")
        self.padding = standardize_padding(padding, causal=causal)
        self.data_format = standardize_data_format(data_format)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        store_weight_arguments(self, **weights)
        self.input_spec = InputSpec(min_ndim=rank + 2)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{type(self).__name__}: strides {self.strides} and dilation {self.dilation_rate} "
                "cannot both be above 1"
            )

    _writes_activity_regularizer = True
    _config_omit = (*Layer._config_omit, "rank", "weights", "causal")

    @property
    def _channel_axis(self):
        return -1 if self.data_format == "channels_last" else 1

    def _channels(self, input_shape):
        """Number of channels of the input, from now on required."""
        if len(input_shape) != self.rank + 2:
            raise ValueError(
                f"{type(self).__name__} '{self.name}': expected an input of rank {self.rank + 2}, "
                f"got shape {tuple(input_shape)}"
            )
        channels = input_shape[self._channel_axis]
        if channels is None:
            raise ValueError(
                f"{type(self).__name__} '{self.name}': the number of channels must be known, got "
                f"shape {tuple(input_shape)}"
            )
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self._channel_axis: channels})
        return channels

    def _build_bias(self, size):
        self.bias = add_named_weight(self, "bias", (size,)) if self.use_bias else None

    def _pad_causal(self, inputs):
        """(inputs, padding) with the past padded where the output must not see the future."""
        if self.padding != "causal":
            return inputs, self.padding
        past = self.dilation_rate[0] * (self.kernel_size[0] - 1)
        pads = [(0, 0)] * 3
        pads[1 if self.data_format == "channels_last" else 2] = (past, 0)
        return ops.pad(inputs, pads), "valid"

    def _finish(self, outputs):
        """Bias and activation."""
        if self.bias is not None:
            bias = self.bias
            if self.data_format == "channels_first":
                bias = ops.reshape(bias, (1, -1, *(1,) * self.rank))
            outputs = ops.add(outputs, bias)
        return self.activation(outputs)

    def _output_shape(self, input_shape, channels):
        first = 1 if self.data_format == "channels_last" else 2
        shape = list(input_shape)
        shape[self._channel_axis] = channels
        for i in range(self.rank):
            size = shape[first + i]
            if size is None:
                continue
            window = self.dilation_rate[i] * (self.kernel_size[i] - 1) + 1
            reach = size - window + 1 if self.padding == "valid" else size
            if reach <= 0:
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': no window of size {self.kernel_size} "
                    f"(dilation {self.dilation_rate}) fits into the shape {tuple(input_shape)}"
                )
            shape[first + i] = -(-reach // self.strides[i])
        return tuple(shape)


class BaseConv(SpatialLayer):
    """Convolution with `filters` kernels.

    Args:
        filters: number of output channels.
        groups: the channels are split into this many groups, each convolved on its own.
    """

    def __init__(self, rank, filters, kernel_size, *, groups=1, **kwargs):
        super().__init__(rank, kernel_size, causal=rank == 1, **kwargs)
        self.filters = positive_int(self, "filters", filters)
        self.groups = positive_int(self, "groups", groups)
        if filters % groups:
            raise ValueError(
                f"{type(self).__name__}: `filters` ({filters}) must be a multiple of `groups` "
                f"({groups})"
            )

    def build(self, input_shape):
        channels = self._channels(input_shape)
        if channels % self.groups:
            raise ValueError(
                f"{type(self).__name__} '{self.name}': {channels} input channels cannot be split "
                f"into {self.groups} groups"
            )
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self.kernel = add_named_weight(self, "kernel", shape)
        self._build_bias(self.filters)

    def call(self, inputs):
        inputs, padding = self._pad_causal(inputs)
        outputs = ops.conv(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self._finish(outputs)

    def compute_output_shape(self, input_shape):
        return self._output_shape(input_shape, self.filters)
