"""Conv3DTranspose."""

from hornbeam.layers.convolutional.base_conv_transpose import BaseConvTranspose


class Conv3DTranspose(BaseConvTranspose):
    """Transposed convolution of `(batch, depth, height, width, channels)`: enlarges.

    Args:
        filters: number of output channels.
        kernel_size: size of the window, an integer or one for each axis.
        strides: step of the window in the output.
        padding: `"valid"` or `"same"`.
        output_padding: by how much the output grows at its end; chosen from the strides when None.
        data_format: where the channels are; the global setting when None.
        dilation_rate: distance of the window's points.
        activation: activation; none by default.
        use_bias: whether there is a bias.
        kernel_initializer, bias_initializer: first values.
        kernel_regularizer, bias_regularizer: penalties on the weights.
        activity_regularizer: penalty on the output.
        kernel_constraint, bias_constraint: projections of the weights.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Conv3DTranspose(4, 3)(keras.ops.ones((1, 8, 8, 8, 3))).shape
    (1, 10, 10, 10, 4)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1, 1),
        padding="valid",
        data_format=None,
        output_padding=None,
        dilation_rate=(1, 1, 1),
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
            3,
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            output_padding=output_padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
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
