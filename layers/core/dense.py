"""Dense."""

from hornbeam import activations, ops, quantizers
from hornbeam.layers.arguments import (
    add_named_weight,
    positive_int,
    refuse,
    store_weight_arguments,
)
from hornbeam.layers.core.quantizable import Quantizable
from hornbeam.layers.input_spec import InputSpec


class Dense(Quantizable):
    """`activation(inputs @ kernel + bias)`.

    Args:
        units: size of the output's last axis.
        activation: activation; none by default.
        use_bias: whether there is a bias.
        kernel_initializer, bias_initializer: first values.
        kernel_regularizer, bias_regularizer: penalties on the weights.
        activity_regularizer: penalty on the output.
        kernel_constraint, bias_constraint: projections of the weights.
        lora_rank, lora_alpha: must be None (not supported).
        quantization_config: how `quantize` was done, in the configuration of a quantized layer.

    Input shape: `(batch, …, n)`. Output shape: `(batch, …, units)`.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Dense(3)(keras.ops.ones((2, 5))).shape
    (2, 3)
    """

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        quantization_config=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        refuse(self, lora_rank=lora_rank)
        self.quantization_config = quantizers.get(quantization_config)
        self.units = positive_int(self, "units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        store_weight_arguments(
            self,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )
        self.input_spec = InputSpec(min_ndim=2)
        self.supports_masking = True

    _config_omit = (*Quantizable._config_omit, "lora_rank", "lora_alpha")

    def build(self, input_shape):
        size = input_shape[-1]
        self.add_quantizable_weight((size, self.units))
        self.bias = add_named_weight(self, "bias", (self.units,)) if self.use_bias else None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: size})

    def call(self, inputs, training=None):
        x = self._product(
            inputs,
            axes=-1,
            align=lambda scale: scale,
            multiply=ops.matmul,
            input_gradient=lambda dy, kernel: ops.matmul(dy, ops.transpose(kernel)),
        )
        if self.bias is not None:
            x = ops.add(x, self.bias)
        return self.activation(x)

    def _weight_scale_axes(self, shape):
        return (0,)

    def _stored_scale(self, scale):
        return ops.squeeze(scale, axis=0)

    def _scale_of_weight(self, scale):
        return scale

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)
