"""DepthwiseConv2D."""

from hornbeam.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv


class DepthwiseConv2D(BaseDepthwiseConv):
    """Convolution of each channel of `(batch, height, width, channels)` on its own.

    Args:
        kernel_size: size of the window, an integer or one for each axis.
        strides: step of the window.
        padding: `"valid"` or `"same"`.
        depth_multiplier: output channels for each input channel.
        data_format: where the channels are; the global setting when None.
        dilation_rate: distance of the window's points.
        activation: activation; none by default.
        use_bias: whether there is a bias.
        depthwise_initializer, bias_initializer: first values.
        depthwise_regularizer, bias_regularizer: penalties on the weights.
        activity_regularizer: penalty on the output.
        depthwise_constraint, bias_constraint: projections of the weights.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.DepthwiseConv2D(3)(keras.ops.ones((1, 8, 8, 3))).shape
    (1, 6, 6, 3)
    """

    def __init__(
        self,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=(1, 1),
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(
            2,
            depth_multiplier,
            kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            weights={
                "depthwise_initializer": depthwise_initializer,
                "bias_initializer": bias_initializer,
                "depthwise_regularizer": depthwise_regularizer,
                "bias_regularizer": bias_regularizer,
                "depthwise_constraint": depthwise_constraint,
                "bias_constraint": bias_constraint,
            },
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
