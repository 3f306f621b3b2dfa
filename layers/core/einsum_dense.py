"""EinsumDense."""

import re

from hornbeam import activations, initializers, ops
from hornbeam.layers.arguments import add_named_weight, refuse, store_weight_arguments
from hornbeam.layers.layer import Layer


class EinsumDense(Layer):
    """`activation(einsum(equation, inputs, kernel) + bias)`.

    Args:
        equation: such as `"ab,bc->ac"`, or with an ellipsis `"...x,xy->...y"`.
        output_shape: shape without the batch axis; None for sizes that are those of the input.
        activation: activation; none by default.
        bias_axes: letters of the output axes the bias has; None for no bias.
        kernel_initializer, bias_initializer: first values.
        kernel_regularizer, bias_regularizer: penalties on the weights.
        kernel_constraint, bias_constraint: projections of the weights.
        lora_rank, lora_alpha, gptq_unpacked_column_size, quantization_config: must be None (not
            supported).

    Example:

    >>> import hornbeam as keras
    >>> layer = keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 64), bias_axes="d")
    >>> layer(keras.ops.ones((2, 3, 16))).shape
    (2, 3, 64)
    """

    def __init__(
        self,
        equation,
        output_shape,
        activation=None,
        bias_axes=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        gptq_unpacked_column_size=None,
        quantization_config=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        refuse(self, lora_rank=lora_rank, quantization_config=quantization_config)
        self.quantization_config = None
        self.equation = equation
        if isinstance(output_shape, int):
            output_shape = (output_shape,)
        self.partial_output_shape = tuple(output_shape)
        self.bias_axes = bias_axes
        self.activation = activations.get(activation)
        store_weight_arguments(
            self,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    _writes_activity_regularizer = True
    _config_omit = (
        *Layer._config_omit,
        "output_shape",
        "lora_rank",
        "lora_alpha",
        "gptq_unpacked_column_size",
    )

    def build(self, input_shape):
        kernel, bias, self.full_output_shape, axes = _analyze(
            self, input_shape, self.partial_output_shape
        )
        initializer = self.kernel_initializer
        if isinstance(initializer, initializers.VarianceScaling) and (
            initializer.input_axes is None or initializer.output_axes is None
        ):
            # Fan-in and fan-out follow from the equation, not from the position of the axes.
            initializer = initializer.clone()
            initializer.seed = self.kernel_initializer.seed
            initializer.input_axes, initializer.output_axes = axes
        self.kernel = add_named_weight(self, "kernel", kernel, initializer=initializer)
        self.bias = add_named_weight(self, "bias", bias) if bias is not None else None

    def call(self, inputs, training=None):
        x = ops.einsum(self.equation, inputs, self.kernel)
        if self.bias is not None:
            x = ops.add(x, self.bias)
        return self.activation(x)

    def compute_output_shape(self, input_shape):
        return _analyze(self, input_shape, self.partial_output_shape)[2]

    def get_config(self):
        return {**super().get_config(), "output_shape": self.partial_output_shape}


def _analyze(layer, input_shape, output_shape):
    """(kernel shape, bias shape, output shape, (input axes, output axes) of the kernel)."""
    match = re.fullmatch(
        r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?", layer.equation
    )  # noqa: E501
    if not match or (match[1] and match[3]) or (match[1], match[3]) != (match[5], match[7]):
        raise ValueError(
            f"EinsumDense '{layer.name}': expected an equation like 'ab,bc->ac', '...b,bc->...c' "
            f"or 'ab...,bc->ac...', got {layer.equation!r}"
        )
    left, inputs, kernel, outputs = bool(match[1]), match[2], match[4], match[6]
    elided = len(input_shape) - len(inputs)
    if elided < 0 or (elided and not (match[1] or match[3])):
        raise ValueError(
            f"EinsumDense '{layer.name}': the equation {layer.equation!r} does not fit an input of "
            f"shape {tuple(input_shape)}"
        )
    if left:
        sizes = dict(zip(inputs, input_shape[elided:], strict=True))
        extra = tuple(input_shape[:elided])
    else:
        sizes = dict(zip(inputs, input_shape[: len(inputs)], strict=True))
        extra = tuple(input_shape[len(inputs) :])
    # The output shape is given without the batch axis (the first letter, or in the ellipsis).
    given = (
        dict(zip(reversed(outputs), reversed(output_shape), strict=False))
        if left or not extra
        else dict(zip(outputs[1:], output_shape, strict=False))
    )  # noqa: E501
    for letter, size in given.items():
        if size is not None:
            if sizes.get(letter) not in (None, size):
                raise ValueError(
                    f"EinsumDense '{layer.name}': the output shape {output_shape} has {size} for "
                    f"axis '{letter}' of {layer.equation!r}, the input shape {tuple(input_shape)} "
                    f"has {sizes[letter]}"
                )
            sizes[letter] = size
    for letter in kernel:
        if letter not in sizes:
            raise ValueError(
                f"EinsumDense '{layer.name}': axis '{letter}' of the kernel in {layer.equation!r} "
                "is neither in the input nor sized by the output shape"
            )
    kernel_shape = tuple(sizes[letter] for letter in kernel)
    row = tuple(sizes[letter] for letter in outputs)
    full = (*extra, *row) if left else (*row, *extra)
    bias = None
    if layer.bias_axes:
        unknown = set(layer.bias_axes) - set(outputs)
        if unknown:
            raise ValueError(
                f"EinsumDense '{layer.name}': bias axes {sorted(unknown)} are not in the output of "
                f"{layer.equation!r}"
            )
        first = min(outputs.index(letter) for letter in layer.bias_axes)
        bias = tuple(sizes[c] if c in layer.bias_axes else 1 for c in outputs[first:])
        bias += () if left else (1,) * len(extra)
    contracted = [i for i, c in enumerate(kernel) if c in inputs]
    produced = [i for i, c in enumerate(kernel) if c in outputs and c not in inputs]
    return kernel_shape, bias, full, (contracted, produced)
