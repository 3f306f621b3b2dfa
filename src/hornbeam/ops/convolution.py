"""Convolutions over 1 to 3 spatial dimensions."""

from __future__ import annotations

from hornbeam import backend
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops import shapes
from hornbeam.ops.pool import (
    channels_first,
    channels_last,
    is_channels_first,
    per_dimension,
    window_padding,
)

# ------------------------------------------------------------------ primitives
# x [N, *S, C], w [*K, C / groups, O], y [N, *out, O]; each is linear in both inputs, so the
# gradients of the three are the three again.


def _geometry(op):
    names = ("strides", "padding", "dilation", "groups")
    return {k: getattr(op, k) for k in names}


def _conv_spec(x, w, *, strides, padding, dilation, groups):
    sizes = tuple(
        (n + padding[2 * i] + padding[2 * i + 1] - (w.shape[i] - 1) * dilation[i] - 1) // strides[i]
        + 1
        for i, n in enumerate(x.shape[1:-1])
    )
    return Spec((x.shape[0], *sizes, w.shape[-1]), x.dtype)


def _conv_gradient(op, dy):
    x, w = op.inputs
    dx = dw = None
    if op.needs[0]:
        dx = _conv_grad_input(dy, w, input_shape=tuple(x.shape), **_geometry(op))
    if op.needs[1]:
        dw = _conv_grad_filter(x, dy, filter_shape=tuple(w.shape), **_geometry(op))
    return dx, dw


_conv = primitive("conv", _conv_spec, _conv_gradient, doc="Convolution (cross-correlation).")
_conv_grad_input = primitive(
    "conv_grad_input",
    lambda dy, w, *, input_shape, **_: Spec(tuple(input_shape), dy.dtype),
    lambda op, ddx: (
        _conv(ddx, op.inputs[1], **_geometry(op)),
        _conv_grad_filter(
            ddx, op.inputs[0], filter_shape=tuple(op.inputs[1].shape), **_geometry(op)
        ),
    ),
    doc="Gradient of conv with respect to x.",
)
_conv_grad_filter = primitive(
    "conv_grad_filter",
    lambda x, dy, *, filter_shape, **_: Spec(tuple(filter_shape), x.dtype),
    lambda op, ddw: (
        _conv_grad_input(op.inputs[1], ddw, input_shape=tuple(op.inputs[0].shape), **_geometry(op)),
        _conv(op.inputs[0], ddw, **_geometry(op)),
    ),
    doc="Gradient of conv with respect to w.",
)


# ------------------------------------------------------------------ public


def _operands(name, inputs, kernel, data_format):
    x, w = backend.convert_to_tensor(inputs), backend.convert_to_tensor(kernel)
    dtype = backend.result_type(x.dtype, w.dtype)
    if not backend.dtypes.is_float(dtype):
        dtype = backend.floatx()
    x, w = backend.cast(x, dtype), backend.cast(w, dtype)
    dims = x.ndim - 2
    if not 1 <= dims <= 3 or w.ndim != x.ndim:
        raise ValueError(
            f"{name}: expected inputs (batch, 1 to 3 spatial dimensions, channels) and a kernel of "
            f"the same rank, got {tuple(x.shape)} and {tuple(w.shape)}"
        )
    first = is_channels_first(name, data_format)
    return (channels_last(x) if first else x), w, dims, first


def _convolve(name, x, w, dims, groups, strides, padding, dilation_rate):
    strides = per_dimension(name, "strides", strides, dims)
    dilation = per_dimension(name, "dilation_rate", dilation_rate, dims)
    reach = tuple((k - 1) * d + 1 for k, d in zip(w.shape[:dims], dilation, strict=True))
    pads, _ = window_padding(name, padding, x.shape[1:-1], reach, strides)
    return _conv(x, w, strides=strides, padding=pads, dilation=dilation, groups=groups)


@op
def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolution: y[p, o] = sum over taps t and channels c of x[p * stride + t, c] w[t, c, o].

    Args:
        inputs: (batch, *spatial, channels), or (batch, channels, *spatial) for "channels_first".
        kernel: (*sizes, channels / groups, filters); the number of groups follows from it.
        strides, dilation_rate: an int or one per dimension.
        padding: "valid", or "same" (output = ceil(input / stride)).

    Returns:
        (batch, *output sizes, filters) in the layout of the inputs.
    """
    x, w, dims, first = _operands("conv", inputs, kernel, data_format)
    channels, per_group = x.shape[-1], w.shape[-2]
    if per_group < 1 or channels % per_group or w.shape[-1] % (channels // per_group):
        raise ValueError(
            f"conv: expected channels divisible into groups of {per_group} (kernel of shape "
            f"{tuple(w.shape)}) and filters divisible by their number, got {channels} channels"
        )
    groups = channels // per_group
    y = _convolve("conv", x, w, dims, groups, strides, padding, dilation_rate)
    return channels_first(y) if first else y


def _depthwise(name, x, w, dims, strides, padding, dilation_rate):
    channels, multiplier = x.shape[-1], w.shape[-1]
    if w.shape[-2] != channels:
        raise ValueError(
            f"{name}: expected a kernel (*sizes, {channels} channels, multiplier), "
            f"got {tuple(w.shape)}"
        )
    w = shapes.reshape(w, (*w.shape[:dims], 1, channels * multiplier))
    return _convolve(name, x, w, dims, channels, strides, padding, dilation_rate)


@op
def depthwise_conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolution of each channel by itself, with kernels (*sizes, channels, multiplier).

    Returns:
        (batch, *output sizes, channels * multiplier).
    """
    x, w, dims, first = _operands("depthwise_conv", inputs, kernel, data_format)
    y = _depthwise("depthwise_conv", x, w, dims, strides, padding, dilation_rate)
    return channels_first(y) if first else y


@op
def separable_conv(
    inputs,
    depthwise_kernel,
    pointwise_kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    """`depthwise_conv` followed by a convolution of size 1 that mixes the channels."""
    x, w, dims, first = _operands("separable_conv", inputs, depthwise_kernel, data_format)
    y = _depthwise("separable_conv", x, w, dims, strides, padding, dilation_rate)
    mix = backend.cast(backend.convert_to_tensor(pointwise_kernel), y.dtype)
    if mix.ndim != y.ndim or mix.shape[-2] != y.shape[-1] or any(k != 1 for k in mix.shape[:dims]):
        raise ValueError(
            f"separable_conv: expected a pointwise kernel (1, …, {y.shape[-1]}, filters), "
            f"got {tuple(mix.shape)}"
        )
    y = _convolve("separable_conv", y, mix, dims, 1, 1, "valid", 1)
    return channels_first(y) if first else y


def conv_transpose_size(size, kernel, stride, padding, output_padding, dilation):
    """Output size of a transposed convolution along one dimension, by Keras's rule."""
    reach = (kernel - 1) * dilation + 1
    if padding == "same":
        if output_padding is None:
            return size * stride
        return (size - 1) * stride + reach % 2 + output_padding
    extra = max(stride - reach, 0) if output_padding is None else output_padding
    return (size - 1) * stride + reach + extra


@op
def conv_transpose(
    inputs,
    kernel,
    strides=1,
    padding="valid",
    output_padding=None,
    data_format=None,
    dilation_rate=1,
):
    """Transposed convolution: the gradient of `conv` with respect to its input.

    Args:
        inputs: (batch, *spatial, channels), or (batch, channels, *spatial) for "channels_first".
        kernel: (*sizes, filters, channels).
        output_padding: added to the output size along each dimension; None: the default of
            "valid" is (n - 1) * stride + size (at least n * stride), of "same" n * stride.

    Returns:
        (batch, *output sizes, filters).
    """
    name = "conv_transpose"
    x, w, dims, first = _operands(name, inputs, kernel, data_format)
    if w.shape[-1] != x.shape[-1]:
        raise ValueError(
            f"{name}: expected a kernel (*sizes, filters, {x.shape[-1]} channels), "
            f"got {tuple(w.shape)}"
        )
    if padding not in ("valid", "same"):
        raise ValueError(f"{name}: expected padding 'valid' or 'same', got {padding!r}")
    strides = per_dimension(name, "strides", strides, dims)
    dilation = per_dimension(name, "dilation_rate", dilation_rate, dims)
    if output_padding is None or isinstance(output_padding, int):
        output_padding = (output_padding,) * dims
    sizes, pads = [], []
    for n, k, s, extra, d in zip(
        x.shape[1:-1], w.shape[:dims], strides, output_padding, dilation, strict=True
    ):
        if extra is not None and extra >= s:
            raise ValueError(f"{name}: expected output_padding < strides, got {extra} and {s}")
        out = conv_transpose_size(n, k, s, padding, extra, d)
        total = max((n - 1) * s + (k - 1) * d + 1 - out, 0) if padding == "same" else 0
        sizes.append(out)
        pads += [total // 2, total - total // 2]
    y = _conv_grad_input(
        x,
        w,
        input_shape=(x.shape[0], *sizes, w.shape[-2]),
        strides=strides,
        padding=tuple(pads),
        dilation=dilation,
        groups=1,
    )
    return channels_first(y) if first else y
