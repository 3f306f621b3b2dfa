"""Pooling over 1 to 3 spatial dimensions."""

from __future__ import annotations

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops import index, shapes

OPS = backend.OPS


def per_dimension(name: str, what: str, value, dims: int) -> tuple[int, ...]:
    """`value` (an int or one per spatial dimension) as positive ints."""
    if isinstance(value, (int, np.integer)):
        value = (value,) * dims
    value = tuple(int(v) for v in value)
    if len(value) != dims or min(value) < 1:
        raise ValueError(
            f"{name}: expected {what} >= 1 for each of {dims} spatial dimensions, got {value}"
        )
    return value


def window_padding(
    name: str, padding: str, sizes, window, strides
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding (before and after, flat) and output sizes of windows moved over `sizes`.

    "valid": none; out = floor((n - k) / s) + 1. "same": out = ceil(n / s), the padding split evenly
    with the odd one after (as TensorFlow does). `window` counts dilation.
    """
    pads, out = [], []
    for n, k, s in zip(sizes, window, strides, strict=True):
        if padding == "same":
            count = -(-n // s)
            total = max((count - 1) * s + k - n, 0)
            pads += [total // 2, total - total // 2]
        elif padding == "valid":
            count = (n - k) // s + 1 if n >= k else 0
            pads += [0, 0]
        else:
            raise ValueError(f"{name}: expected padding 'valid' or 'same', got {padding!r}")
        if count < 1 and n > 0:
            raise ValueError(
                f"{name}: the window is larger than the input; expected spatial sizes >= {window}, "
                f"got {tuple(sizes)}"
            )
        out.append(max(count, 0))
    return tuple(pads), tuple(out)


def channels_last(x):
    """(batch, channels, …) → (batch, …, channels)."""
    return shapes.moveaxis(x, 1, -1)


def channels_first(x):
    """(batch, …, channels) → (batch, channels, …)."""
    return shapes.moveaxis(x, -1, 1)


def is_channels_first(name: str, data_format) -> bool:
    data_format = data_format or backend.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            f"{name}: expected data_format 'channels_last' or 'channels_first', got {data_format!r}"
        )
    return data_format == "channels_first"


# ------------------------------------------------------------------ primitives


def _pool_spec(x, *, pool_size, strides, padding):
    sizes = tuple(
        (n + padding[2 * i] + padding[2 * i + 1] - pool_size[i]) // strides[i] + 1
        for i, n in enumerate(x.shape[1:-1])
    )
    return Spec((x.shape[0], *sizes, x.shape[-1]), x.dtype)


def _windows(op):
    return {"pool_size": op.pool_size, "strides": op.strides, "padding": op.padding}


_max_pool = primitive(
    "max_pool",
    _pool_spec,
    lambda op, dy: _max_pool_grad(op.inputs[0], op.output, dy, **_windows(op)),
    doc="Maximum of every window; padding takes no part.",
)
_max_pool_grad = primitive(
    "max_pool_grad",
    lambda x, y, dy, **_: Spec(tuple(x.shape), x.dtype),
    lambda op, ddx: (
        None,
        None,
        _max_pool_pick(op.inputs[0], op.inputs[1], ddx, **_windows(op)),
    ),
    doc="dy at the first element of each window that is its maximum.",
)
_max_pool_pick = primitive(
    "max_pool_pick",
    lambda x, y, z, **_: Spec(tuple(y.shape), x.dtype),
    lambda op, dp: (
        None,
        None,
        _max_pool_grad(op.inputs[0], op.inputs[1], dp, **_windows(op)),
    ),
    doc="The elements of z at the places of the maxima of x.",
)
_average_pool = primitive(
    "average_pool",
    _pool_spec,
    lambda op, dy: _average_pool_grad(dy, shape=tuple(op.inputs[0].shape), **_windows(op)),
    doc="Mean of every window over the elements that are not padding.",
)
_average_pool_grad = primitive(
    "average_pool_grad",
    lambda dy, *, shape, **_: Spec(tuple(shape), dy.dtype),
    lambda op, ddx: _average_pool(ddx, **_windows(op)),
    doc="Equal shares of dy for the elements of its window.",
)


def _pool(name, kernel, inputs, pool_size, strides, padding, data_format):
    x = backend.convert_to_tensor(inputs)
    dims = x.ndim - 2
    if not 1 <= dims <= 3:
        raise ValueError(
            f"{name}: expected (batch, 1 to 3 spatial dimensions, channels), "
            f"got shape {tuple(x.shape)}"
        )
    first = is_channels_first(name, data_format)
    x = channels_last(x) if first else x
    size = per_dimension(name, "pool_size", pool_size, dims)
    strides = size if strides is None else per_dimension(name, "strides", strides, dims)
    pads, _ = window_padding(name, padding, x.shape[1:-1], size, strides)
    y = kernel(x, pool_size=size, strides=strides, padding=pads)
    return channels_first(y) if first else y


@op(inputs=("inputs",))
def max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """Maximum over windows of the spatial dimensions.

    Args:
        inputs: (batch, *spatial, channels), or (batch, channels, *spatial) for "channels_first".
        pool_size: size of the windows, an int or one per dimension.
        strides: steps between windows; `pool_size` if None.
        padding: "valid" (windows inside), or "same" (output = ceil(input / stride)).

    Example:

    >>> max_pool([[[1.0], [4.0], [2.0], [3.0]]], 2).tolist()
    [[[4.0], [3.0]]]
    """
    return _pool("max_pool", _max_pool, inputs, pool_size, strides, padding, data_format)


@op(inputs=("inputs",))
def average_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """Mean over windows of the spatial dimensions; padding is not counted.

    Arguments as for `max_pool`.

    Example:

    >>> average_pool([[[1.0], [4.0], [2.0], [3.0]]], 2).tolist()
    [[[2.5], [2.5]]]
    """
    x = backend.convert_to_tensor(inputs)
    if not backend.dtypes.is_float(x.dtype):
        x = backend.cast(x, backend.floatx())
    return _pool("average_pool", _average_pool, x, pool_size, strides, padding, data_format)


def _adaptive(name, kernel, reduce, inputs, output_size, data_format):
    """Window i of an axis of n elements runs from floor(i n / out) to ceil((i + 1) n / out)."""
    x = backend.convert_to_tensor(inputs)
    dims = x.ndim - 2
    first = is_channels_first(name, data_format)
    x = channels_last(x) if first else x
    if isinstance(output_size, (int, np.integer)):
        output_size = (output_size,) * dims
    if len(output_size) != dims:
        raise ValueError(f"{name}: expected {dims} output sizes, got {output_size}")
    sizes = x.shape[1:-1]
    wanted = tuple(n if o is None else int(o) for n, o in zip(sizes, output_size, strict=True))
    if all(n % o == 0 for n, o in zip(sizes, wanted, strict=True)):
        size = tuple(n // o for n, o in zip(sizes, wanted, strict=True))
        y = kernel(x, pool_size=size, strides=size, padding=(0,) * (2 * dims))
    else:  # one axis after the other: windows of unequal sizes, gathered to the longest
        y = x
        for axis, (n, o) in enumerate(zip(sizes, wanted, strict=True), start=1):
            starts = [i * n // o for i in range(o)]
            ends = [-(-(i + 1) * n // o) for i in range(o)]
            width = max(e - s for s, e in zip(starts, ends, strict=True))
            places = np.array(
                [
                    [min(s + j, e - 1) for j in range(width)]
                    for s, e in zip(starts, ends, strict=True)
                ]
            )
            windows = index._gather(y, backend.convert_to_tensor(places, "int32"), axis=axis)
            if reduce == "max":
                y = OPS["max"](windows, axis=axis + 1)
                continue
            share = np.array(
                [
                    [(s + j < e) / (e - s) for j in range(width)]
                    for s, e in zip(starts, ends, strict=True)
                ]
            )
            share = share.reshape((o, width) + (1,) * (y.ndim - axis - 1))
            y = OPS["sum"](windows * backend.convert_to_tensor(share, x.dtype), axis=axis + 1)
    return channels_first(y) if first else y


@op(inputs=("inputs",))
def adaptive_average_pool(inputs, output_size, data_format=None):
    """Mean over windows chosen so that the output has `output_size` (None keeps a size)."""
    return _adaptive(
        "adaptive_average_pool", _average_pool, "mean", inputs, output_size, data_format
    )


@op(inputs=("inputs",))
def adaptive_max_pool(inputs, output_size, data_format=None):
    """Maximum over windows chosen so that the output has `output_size` (None keeps a size)."""
    return _adaptive("adaptive_max_pool", _max_pool, "max", inputs, output_size, data_format)
