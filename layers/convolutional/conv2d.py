"""Conv2D."""

from hornbeam.layers.convolutional.base_conv import BaseConv


class Conv2D(BaseConv):
    """Convolution of `(batch, height, width, channels)`.

    Args:
        filters: number of output channels.
        kernel_size: size of the window, an integer or one for each axis.
        strides: step of the window.
        padding: `"valid"` or `"same"`.
        data_format: where the channels are; the global setting when None.
        dilation_rate: distance of the window's points.
        groups: the channels are split into this many groups, each convolved on its own.
        activation: activation; none by default.
        use_bias: whether there is a bias.
        kernel_initializer, bias_initializer: first values.
        kernel_regularizer, bias_regularizer: penalties on the weights.
        activity_regularizer: penalty on the output.
        kernel_constraint, bias_constraint: projections of the weights.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Conv2D(4, 3)(keras.ops.ones((1, 8, 8, 3))).shape
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
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(
            2,
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
            weights={
                "kernel_initializer": kernel_initializer,
                "bias_initializer": bias_initializer,
                "kernel_regularizer": kernel_regularizer,
                "bias_regularizer": bias_regularizer,
                "kernel_constraint": kernel_constraint,
                "bias_constraint": bias_constraint,
            },
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
