"""SeparableConv2D."""

from hornbeam.layers.convolutional.base_depthwise_conv import BaseSeparableConv


class SeparableConv2D(BaseSeparableConv):
    """Depthwise, then pointwise convolution of `(batch, height, width, channels)`.

    Args:
        filters: number of output channels.
        kernel_size: size of the window, an integer or one for each axis.
        strides: step of the window.
        padding: `"valid"` or `"same"`.
        data_format: where the channels are; the global setting when None.
        dilation_rate: distance of the window's points.
        depth_multiplier: channels between the two convolutions for each input channel.
        activation: activation; none by default.
        use_bias: whether there is a bias.
        depthwise_initializer, pointwise_initializer, bias_initializer: first values.
        depthwise_regularizer, pointwise_regularizer, bias_regularizer: penalties on the weights.
        activity_regularizer: penalty on the output.
        depthwise_constraint, pointwise_constraint, bias_constraint: projections of the weights.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.SeparableConv2D(4, 3)(keras.ops.ones((1, 8, 8, 3))).shape
    (1, 6, 6, 4)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        depth_multiplier=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        pointwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(
            2,
            depth_multiplier,
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            weights={
                "depthwise_initializer": depthwise_initializer,
                "pointwise_initializer": pointwise_initializer,
                "bias_initializer": bias_initializer,
                "depthwise_regularizer": depthwise_regularizer,
                "pointwise_regularizer": pointwise_regularizer,
                "bias_regularizer": bias_regularizer,
                "depthwise_constraint": depthwise_constraint,
                "pointwise_constraint": pointwise_constraint,
                "bias_constraint": bias_constraint,
            },
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
