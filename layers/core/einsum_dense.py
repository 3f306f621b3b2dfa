"""EinsumDense."""

import re
import string

from hornbeam import activations, initializers, ops, quantizers
from hornbeam.layers.arguments import add_named_weight, refuse, store_weight_arguments
from hornbeam.layers.core.quantizable import Quantizable


class EinsumDense(Quantizable):
    """`activation(einsum(equation, inputs, kernel) + bias)`.

    Args:
        equation: such as `"ab,bc->ac"`, or with an ellipsis `"...x,xy->...y"`.
        output_shape: shape without the batch axis; None for sizes that are those of the input.
        activation: activation; none by default.
        bias_axes: letters of the output axes the bias has; None for no bias.
        kernel_initializer, bias_initializer: first values.
        kernel_regularizer, bias_regularizer: penalties on the weights.
        kernel_constraint, bias_constraint: projections of the weights.
        lora_rank, lora_alpha, gptq_unpacked_column_size: must be None (not supported).
        quantization_config: how `quantize` was done, in the configuration of a quantized layer.

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
        refuse(self, lora_rank=lora_rank)
        self.quantization_config = quantizers.get(quantization_config)
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
        *Quantizable._config_omit,
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
        self._labels = _labels(self.equation, len(input_shape))
        self.add_quantizable_weight(kernel, initializer=initializer)
        self.bias = add_named_weight(self, "bias", bias) if bias is not None else None

    def call(self, inputs, training=None):
        rows, kernel, columns = self._labels
        x = self._product(
            inputs,
            axes=tuple(i for i, c in enumerate(rows) if c not in columns),
            align=lambda scale: _align(scale, rows, columns),
            multiply=lambda x, weight: ops.einsum(self.equation, x, weight),
            input_gradient=lambda dy, weight: ops.einsum(f"{columns},{kernel}->{rows}", dy, weight),
        )
        if self.bias is not None:
            x = ops.add(x, self.bias)
        return self.activation(x)

    def _weight_scale_axes(self, shape):
        _, kernel, columns = self._labels
        return tuple(i for i, c in enumerate(kernel) if c not in columns)

    def _stored_scale(self, scale):
        _, kernel, columns = self._labels
        return _align(scale, kernel, columns)

    def _scale_of_weight(self, scale):
        _, kernel, columns = self._labels
        return _align(scale, columns, kernel)

    def compute_output_shape(self, input_shape):
        return _analyze(self, input_shape, self.partial_output_shape)[2]

    def get_config(self):
        return {**super().get_config(), "output_shape": self.partial_output_shape}


def _labels(equation, rank):
    """A letter for each axis of input, kernel and output, those of the ellipsis included."""
    rows, _, rest = equation.partition(",")
    kernel, _, columns = rest.partition("->")
    elided = rank - len(rows.replace("...", ""))
    unused = [c for c in string.ascii_letters if c not in equation][:elided]
    return tuple(part.replace("...", "".join(unused)) for part in (rows, kernel, columns))


def _align(scale, source, target):
    """`scale` with axes labelled `source` as one with axes `target`; size 1 along those it lacks.

    Axes of `source` that `target` lacks have size 1.
    """
    shared = [c for c in target if c in source]
    dropped = [i for i, c in enumerate(source) if c not in target]
    scale = ops.transpose(scale, [source.index(c) for c in shared] + dropped)
    sizes = dict(zip(shared, scale.shape, strict=False))
    return ops.reshape(scale, [sizes.get(c, 1) for c in target])


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
