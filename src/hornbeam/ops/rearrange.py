"""Ops that regroup axes: depth and space, patches (unfold, fold), einops patterns."""

from __future__ import annotations

import re

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops import index, joining, shapes
from hornbeam.ops.pool import channels_first, channels_last, is_channels_first

OPS = backend.OPS


# ------------------------------------------------------------------ depth and space


def _image_batch(name, x, data_format):
    x = backend.convert_to_tensor(x)
    if x.ndim != 4:
        raise ValueError(f"{name}: expected a batch of images (rank 4), got {tuple(x.shape)}")
    first = is_channels_first(name, data_format)
    return (channels_last(x) if first else x), first


@op(inputs=("x",))
def depth_to_space(x, block_size, data_format="channels_last"):
    """Groups of block_size^2 channels laid out as blocks of pixels.

    Shapes: (batch, h, w, c b^2) → (batch, h b, w b, c).
    """
    x, first = _image_batch("depth_to_space", x, data_format)
    n, h, w, c = x.shape
    b = int(block_size)
    if b < 1 or c % (b * b):
        raise ValueError(
            f"depth_to_space: expected channels divisible by block_size^2 = {b * b}, got {c}"
        )
    x = shapes.reshape(x, (n, h, w, b, b, c // (b * b)))
    x = shapes.reshape(shapes.transpose(x, (0, 1, 3, 2, 4, 5)), (n, h * b, w * b, c // (b * b)))
    return channels_first(x) if first else x


@op(inputs=("x",))
def space_to_depth(x, block_size, data_format="channels_last"):
    """Blocks of pixels stacked as channels: the inverse of `depth_to_space`."""
    x, first = _image_batch("space_to_depth", x, data_format)
    n, h, w, c = x.shape
    b = int(block_size)
    if b < 1 or h % b or w % b:
        raise ValueError(
            f"space_to_depth: expected height and width divisible by {b}, got {h} and {w}"
        )
    x = shapes.reshape(x, (n, h // b, b, w // b, b, c))
    x = shapes.reshape(shapes.transpose(x, (0, 1, 3, 2, 4, 5)), (n, h // b, w // b, b * b * c))
    return channels_first(x) if first else x


# ------------------------------------------------------------------ patches


def _twice(value):
    return (int(value),) * 2 if isinstance(value, (int, np.integer)) else tuple(map(int, value))


def _patch_places(size, kernel, dilation, padding, stride):
    """[taps, patches]: place in the padded image of every tap of every patch, and padded sizes."""
    h, w = (n + 2 * p for n, p in zip(size, padding, strict=True))
    rows, cols = (
        np.arange(0, n - d * (k - 1), s)
        for n, k, d, s in zip((h, w), kernel, dilation, stride, strict=True)
    )
    taps = [(i * dilation[0], j * dilation[1]) for i in range(kernel[0]) for j in range(kernel[1])]
    corner = (rows[:, None] * w + cols[None, :]).reshape(-1)
    return np.array([i * w + j for i, j in taps])[:, None] + corner[None, :], (h, w)


@op(inputs=("x",))
def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """All patches of images as columns.

    Shapes: (batch, c, h, w) → (batch, c * kernel height * kernel width, patches).
    """
    x = backend.convert_to_tensor(x)
    if x.ndim != 4:
        raise ValueError(f"unfold: expected (batch, channels, h, w), got {tuple(x.shape)}")
    kernel, dilation, padding, stride = map(_twice, (kernel_size, dilation, padding, stride))
    n, c, *size = x.shape
    places, (h, w) = _patch_places(size, kernel, dilation, padding, stride)
    x = joining.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    x = shapes.reshape(x, (n, c, h * w))
    y = index._gather(x, backend.convert_to_tensor(places, "int32"), axis=2)
    return shapes.reshape(y, (n, c * places.shape[0], places.shape[1]))


@op(inputs=("x",))
def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Patches added up to images: the transpose of `unfold`.

    Shapes: (batch, c * kernel height * kernel width, patches) → (batch, c, *output_size).
    """
    x = backend.convert_to_tensor(x)
    size, kernel = _twice(output_size), _twice(kernel_size)
    dilation, padding, stride = map(_twice, (dilation, padding, stride))
    places, (h, w) = _patch_places(size, kernel, dilation, padding, stride)
    taps, patches = places.shape
    if x.ndim != 3 or x.shape[1] % taps or x.shape[2] != patches:
        raise ValueError(
            f"fold: expected (batch, c * {taps}, {patches}) for images of {size}, "
            f"got {tuple(x.shape)}"
        )
    n, c = x.shape[0], x.shape[1] // taps
    rows = shapes.moveaxis(shapes.reshape(x, (n, c, taps * patches)), -1, 0)
    y = index._segment_reduce(
        rows, backend.convert_to_tensor(places.reshape(-1), "int32"),
        num_segments=h * w, reduction="add", wrap=False,
    )  # fmt: skip
    y = shapes.reshape(shapes.moveaxis(y, 0, -1), (n, c, h, w))
    return shapes.strided_slice(y, (0, 0, *padding), (n, c, *size), (1,) * 4)


# ------------------------------------------------------------------ patterns


def _axes(side, pattern):
    """Groups of names on one side of a pattern."""
    tokens = re.findall(r"\(|\)|\.\.\.|\w+", side)
    groups, inside = [], None
    for t in tokens:
        if t == "(":
            inside = []
        elif t == ")":
            groups.append(inside)
            inside = None
        elif inside is not None:
            inside.append(t)
        else:
            groups.append([t] if t != "1" else [])
    if inside is not None or re.sub(r"[\s\w().]", "", side):
        raise ValueError(f"rearrange: cannot read the pattern {pattern!r}")
    return groups


@op(inputs=("tensor",))
def rearrange(tensor, pattern, **axes_lengths):
    """Axes split, moved and merged by a pattern of names, as in einops.

    Args:
        pattern: "names before -> names after"; parentheses hold axes that are one in the tensor.
        axes_lengths: sizes of axes that do not follow from the shape.

    Example:

    >>> rearrange([[1, 2, 3, 4]], "a (b c) -> (a b) c", c=2).tolist()
    [[1, 2], [3, 4]]
    """
    x = backend.convert_to_tensor(tensor)
    left, arrow, right = pattern.partition("->")
    if not arrow:
        raise ValueError(f"rearrange: expected 'before -> after', got {pattern!r}")
    before, after = _axes(left, pattern), _axes(right, pattern)
    if ["..."] in before:
        at = before.index(["..."])
        dots = [[f"...{i}"] for i in range(x.ndim - len(before) + 1)]
        before[at : at + 1] = dots
        names = [d[0] for d in dots]
        spread = []
        for g in after:
            if g == ["..."]:
                spread += [[n] for n in names]
            else:
                spread.append([m for n in g for m in (names if n == "..." else [n])])
        after = spread
    if len(before) != x.ndim:
        raise ValueError(
            f"rearrange: {left.strip()!r} does not fit a tensor of shape {tuple(x.shape)}"
        )
    sizes = {k: int(v) for k, v in axes_lengths.items()}
    for group, n in zip(before, x.shape, strict=True):
        unknown = [a for a in group if a not in sizes]
        known = 1
        for a in group:
            known *= sizes.get(a, 1)
        if len(unknown) > 1 or (n % known if known else n) or (not unknown and known != n):
            raise ValueError(
                f"rearrange: the axis of size {n} cannot be split into {group} with sizes {sizes}"
            )
        if unknown:
            sizes[unknown[0]] = n // known
    order = [a for g in before for a in g]
    wanted = [a for g in after for a in g]
    if sorted(order) != sorted(wanted):
        raise ValueError(f"rearrange: expected the same names on both sides of {pattern!r}")
    x = shapes.reshape(x, tuple(sizes[a] for a in order))
    x = shapes.transpose(x, tuple(order.index(a) for a in wanted))
    merged = []
    for group in after:
        n = 1
        for a in group:
            n *= sizes[a]
        merged.append(n)
    return shapes.reshape(x, tuple(merged))


# ------------------------------------------------------------------ choice, bits


@op(inputs=("condlist", "choicelist", "default"))
def select(condlist, choicelist, default=0):
    """For each element, the choice of the first condition that holds, else `default`."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError(
            f"select: expected as many choices as conditions, got {len(choicelist)} and "
            f"{len(condlist)}"
        )
    y = default
    for c, x in zip(reversed(condlist), reversed(choicelist), strict=True):
        y = OPS["where"](c, x, y)
    return y


def _bits_spec(x, *, dtype):
    old, new = backend.dtypes.item_bytes(x.dtype), backend.dtypes.item_bytes(dtype)
    shape = list(x.shape)
    if old != new:
        shape[-1] = shape[-1] * old // new
    return Spec(tuple(shape), dtype)


_bitcast = primitive(
    "bitcast",
    _bits_spec,
    host=lambda x, dtype: x.view(dtype),
    doc="The same bytes read as another dtype.",
)


@op(inputs=("x",))
def view(x, dtype=None):
    """The bytes of `x` read as another dtype; the last axis changes its size if the items do."""
    x = backend.convert_to_tensor(x)
    dtype = x.dtype if dtype is None else backend.standardize_dtype(dtype)
    if dtype == x.dtype:
        return x
    if "bfloat16" in (dtype, x.dtype) or "bool" in (dtype, x.dtype):
        raise ValueError(f"view: cannot read {x.dtype} as {dtype}")
    old, new = backend.dtypes.item_bytes(x.dtype), backend.dtypes.item_bytes(dtype)
    if old != new and (x.ndim == 0 or x.shape[-1] * old % new):
        raise ValueError(
            f"view: the last axis of shape {tuple(x.shape)} in {x.dtype} does not divide into {dtype}"
        )
    return _bitcast(x, dtype=dtype)


@op
def psnr(x1, x2, max_val):
    """Peak signal to noise ratio, 20 log10(max_val) - 10 log10(mean((x1 - x2)^2)), in dB."""
    x1, x2 = backend.convert_to_tensor(x1), backend.convert_to_tensor(x2)
    if tuple(x1.shape) != tuple(x2.shape):
        raise ValueError(
            f"psnr: expected equal shapes, got {tuple(x1.shape)} and {tuple(x2.shape)}"
        )
    error = OPS["mean"](OPS["square"](x1 - x2))
    peak = OPS["log10"](backend.convert_to_tensor(max_val, error.dtype))
    return 20 * peak - 10 * OPS["log10"](error)
