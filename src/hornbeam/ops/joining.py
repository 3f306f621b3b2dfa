"""Ops that join, split and repeat: concatenate, stack, split, roll, tile, repeat, pad."""

from __future__ import annotations

import builtins

import numpy as np

from hornbeam import backend
from hornbeam.backend import registry
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops._common import canonical_axis
from hornbeam.ops.shapes import (
    broadcast_to,
    expand_dims,
    ravel,
    reshape,
    static_ints,
    strided_slice,
)

OPS = backend.OPS
_view = registry.reshape

# ------------------------------------------------------------------ primitives


def _concat_spec(*xs, axis):
    shape = list(xs[0].shape)
    shape[axis] = builtins.sum(x.shape[axis] for x in xs)
    return Spec(tuple(shape), xs[0].dtype)


_concat = primitive(
    "concat",
    _concat_spec,
    lambda op, dy: _split_sizes(dy, tuple(x.shape[op.axis] for x in op.inputs), op.axis),
    doc="Tensors one after the other along `axis`.",
)


def _split_spec(x, *, sizes, axis):
    return [Spec((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype) for n in sizes]


_split = primitive(
    "split",
    _split_spec,
    lambda op, *dys: _concat(*dys, axis=op.axis),
    doc="Consecutive parts of the given sizes along `axis`.",
)


def _split_sizes(x, sizes, axis):
    if len(sizes) == 1:
        return (x,)
    return _split(x, sizes=tuple(sizes), axis=axis)


_pad = primitive(
    "pad",
    lambda x, value, *, lo, hi: Spec(
        tuple(n + a + b for n, a, b in zip(x.shape, lo, hi, strict=True)), x.dtype
    ),
    lambda op, dy: (
        dx := strided_slice(dy, op.lo, op.inputs[0].shape, (1,) * dy.ndim),
        OPS["sum"](dy) - OPS["sum"](dx) if op.needs[1] else None,
    ),
    doc="`value` around the input: lo before and hi after along every axis.",
)


# ------------------------------------------------------------------ joining


def _tensors(name, xs):
    if isinstance(xs, (tuple, list)):
        if not xs:
            raise ValueError(f"{name}: expected at least one tensor, got none")
        xs = [backend.convert_to_tensor(x) for x in xs]
    else:
        xs = list(unstack(xs))
    dtype = backend.result_type(*(x.dtype for x in xs))
    return [backend.cast(x, dtype) if x.dtype != dtype else x for x in xs]


@op(inputs=("xs",))
def concatenate(xs, axis=0):
    """Tensors joined along an existing axis; all other sizes must agree.

    Example:

    >>> concatenate([[1, 2], [3]]).tolist()
    [1, 2, 3]
    """
    xs = _tensors("concatenate", xs)
    axis = canonical_axis("concatenate", axis, xs[0].ndim)
    for x in xs[1:]:
        if x.ndim != xs[0].ndim or any(
            n != m and i != axis for i, (n, m) in enumerate(zip(x.shape, xs[0].shape, strict=True))
        ):
            raise ValueError(
                f"concatenate: expected equal shapes except along axis {axis}, "
                f"got {[tuple(x.shape) for x in xs]}"
            )
    return xs[0] if len(xs) == 1 else _concat(*xs, axis=axis)


@op(inputs=("x",))
def stack(x, axis=0):
    """Tensors of one shape joined along a new axis."""
    xs = _tensors("stack", x)
    if any(tuple(t.shape) != tuple(xs[0].shape) for t in xs):
        raise ValueError(f"stack: expected equal shapes, got {[tuple(t.shape) for t in xs]}")
    axis = canonical_axis("stack", axis, xs[0].ndim + 1)
    return concatenate([expand_dims(t, axis) for t in xs], axis=axis)


def _at_least(x, ndim):
    x = backend.convert_to_tensor(x)
    if x.ndim >= ndim:
        return x
    if ndim == 3 and x.ndim == 2:
        return expand_dims(x, 2)
    if ndim == 3 and x.ndim == 1:
        return _view(x, shape=(1, x.shape[0], 1))
    return _view(x, shape=(1,) * (ndim - x.ndim) + tuple(x.shape))


@op(inputs=("xs",))
def hstack(xs):
    """Joined along axis 1 (vectors: along axis 0)."""
    xs = [_at_least(x, 1) for x in xs]
    return concatenate(xs, axis=0 if xs[0].ndim == 1 else 1)


@op(inputs=("xs",))
def vstack(xs):
    """Joined along axis 0; vectors count as rows."""
    return concatenate([_at_least(x, 2) for x in xs], axis=0)


@op(inputs=("xs",))
def dstack(xs):
    """Joined along axis 2."""
    return concatenate([_at_least(x, 3) for x in xs], axis=2)


@op
def append(x1, x2, axis=None):
    """`x2` after `x1` along `axis` (both flattened if None)."""
    if axis is None:
        x1, x2, axis = ravel(x1), ravel(x2), 0
    return concatenate([x1, x2], axis=axis)


# ------------------------------------------------------------------ splitting


def _split_at(x, bounds, axis):
    """Parts between the bounds, which may go past the end, as NumPy has it."""
    n = x.shape[axis]
    bounds = [min(max(b + n if b < 0 else b, 0), n) for b in bounds]
    starts, ends = [0, *bounds], [*bounds, n]
    if bounds == sorted(bounds):
        return list(_split_sizes(x, [e - s for s, e in zip(starts, ends, strict=True)], axis))
    key = (builtins.slice(None),) * axis
    return [x[key + (builtins.slice(s, max(s, e)),)] for s, e in zip(starts, ends, strict=True)]


@op(inputs=("x",))
def split(x, indices_or_sections, axis=0):
    """List of parts along `axis`: equal ones (an int), or cut at the given indices.

    Example:

    >>> [p.tolist() for p in split([1, 2, 3, 4], [1, 3])]
    [[1], [2, 3], [4]]
    """
    x = backend.convert_to_tensor(x)
    axis = canonical_axis("split", axis, x.ndim)
    if isinstance(indices_or_sections, (int, np.integer)):
        n, sections = x.shape[axis], int(indices_or_sections)
        if sections < 1 or n % sections:
            raise ValueError(
                f"split: expected a number of sections that divides the size {n} of axis {axis}, "
                f"got {sections}"
            )
        return list(_split_sizes(x, (n // sections,) * sections, axis))
    return _split_at(x, static_ints("split", indices_or_sections), axis)


@op(inputs=("x",))
def array_split(x, indices_or_sections, axis=0):
    """Like `split`, but parts of unequal size are allowed (the first ones are longer)."""
    x = backend.convert_to_tensor(x)
    axis = canonical_axis("array_split", axis, x.ndim)
    if not isinstance(indices_or_sections, (int, np.integer)):
        return _split_at(x, static_ints("array_split", indices_or_sections), axis)
    sections = int(indices_or_sections)
    if sections < 1:
        raise ValueError(f"array_split: expected at least one section, got {sections}")
    short, longer = divmod(x.shape[axis], sections)
    return list(_split_sizes(x, [short + (i < longer) for i in range(sections)], axis))


@op(inputs=("x",))
def hsplit(x, indices_or_sections):
    """`split` along axis 1 (vectors: axis 0)."""
    x = backend.convert_to_tensor(x)
    return split(x, indices_or_sections, axis=0 if x.ndim == 1 else 1)


@op(inputs=("x",))
def vsplit(x, indices_or_sections):
    """`split` along axis 0."""
    return split(x, indices_or_sections, axis=0)


@op(inputs=("x",))
def dsplit(x, indices_or_sections):
    """`split` along axis 2."""
    return split(x, indices_or_sections, axis=2)


@op
def unstack(x, num=None, axis=0):
    """List of the tensors along `axis`, which is removed. `num` must be its size, if given."""
    x = backend.convert_to_tensor(x)
    axis = canonical_axis("unstack", axis, x.ndim)
    n = x.shape[axis]
    if num is not None and num != n:
        raise ValueError(f"unstack: expected num={n}, the size of axis {axis}, got {num}")
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    if n == 0:
        return []
    return [_view(t, shape=shape) for t in _split_sizes(x, (1,) * n, axis)]


# ------------------------------------------------------------------ repetition


@op(inputs=("x",))
def tile(x, repeats):
    """The whole tensor repeated along every axis.

    Example:

    >>> tile([1, 2], 2).tolist()
    [1, 2, 1, 2]
    """
    x = backend.convert_to_tensor(x)
    repeats = static_ints("tile", repeats)
    ndim = max(len(repeats), x.ndim)
    repeats = (1,) * (ndim - len(repeats)) + repeats
    shape = (1,) * (ndim - x.ndim) + tuple(x.shape)
    if all(r == 1 for r in repeats):
        return reshape(x, shape)
    apart = [n for size in shape for n in (1, size)]
    wide = [n for r, size in zip(repeats, shape, strict=True) for n in (r, size)]
    x = broadcast_to(_view(x, shape=tuple(apart)), tuple(wide))
    return _view(x, shape=tuple(r * n for r, n in zip(repeats, shape, strict=True)))


@op(inputs=("x",))
def repeat(x, repeats, axis=None):
    """Every element repeated in place along `axis` (flattened if None).

    Args:
        repeats: an int, or one count for each element along the axis (values known in advance).
    """
    x = backend.convert_to_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = canonical_axis("repeat", axis, x.ndim)
    counts = static_ints("repeat", repeats)
    if len(counts) == 1:
        x = expand_dims(x, axis + 1)
        wide = (*x.shape[: axis + 1], counts[0], *x.shape[axis + 2 :])
        shape = (*x.shape[:axis], x.shape[axis] * counts[0], *x.shape[axis + 2 :])
        return _view(broadcast_to(x, wide), shape=shape)
    if len(counts) != x.shape[axis]:
        raise ValueError(
            f"repeat: expected one count or {x.shape[axis]} (the size of axis {axis}), "
            f"got {len(counts)}"
        )
    places = np.repeat(np.arange(x.shape[axis], dtype="int32"), counts)
    return OPS["take"](x, places, axis=axis)


_PAD_MODES = ("constant", "reflect", "symmetric", "edge", "wrap")


@op(inputs=("x",))
def pad(x, pad_width, mode="constant", constant_values=None):
    """Elements added around a tensor.

    Args:
        pad_width: (before, after) for every axis, one such pair for all, or an int.
        mode: "constant" (`constant_values`, 0 if None), "reflect", "symmetric", "edge" or "wrap",
            as in NumPy.

    Example:

    >>> pad([1, 2], [(1, 2)]).tolist()
    [0, 1, 2, 0, 0]
    """
    x = backend.convert_to_tensor(x)
    if isinstance(pad_width, (int, np.integer)):
        pad_width = ((pad_width, pad_width),) * x.ndim
    elif len(pad_width) and isinstance(pad_width[0], (int, np.integer)):
        pad_width = (tuple(pad_width) * (2 // len(pad_width)),) * x.ndim
    widths = [static_ints("pad", w) for w in pad_width]
    widths = [w * 2 if len(w) == 1 else w for w in widths]
    if len(widths) == 1:
        widths *= x.ndim
    if len(widths) != x.ndim or any(len(w) != 2 or min(w) < 0 for w in widths):
        raise ValueError(
            f"pad: expected a pair of numbers >= 0 for every axis of shape {tuple(x.shape)}, "
            f"got {pad_width}"
        )
    if mode not in _PAD_MODES:
        raise ValueError(f"pad: expected a mode among {_PAD_MODES}, got {mode!r}")
    if mode != "constant":
        if constant_values is not None:
            raise ValueError(f"pad: constant_values is only for mode='constant', got mode={mode!r}")
        for axis, w in enumerate(widths):
            if w != (0, 0):
                places = np.pad(np.arange(x.shape[axis], dtype="int32"), w, mode=mode)
                x = OPS["take"](x, places, axis=axis)
        return x
    if all(w == (0, 0) for w in widths):
        return x
    value = backend.cast(
        backend.convert_to_tensor(0 if constant_values is None else constant_values), x.dtype
    )
    return _pad(x, value, lo=tuple(w[0] for w in widths), hi=tuple(w[1] for w in widths))


@op(inputs=("x",))
def roll(x, shift, axis=None):
    """Elements moved by `shift` places, from the end to the front (flattened if axis is None)."""
    x = backend.convert_to_tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(axes) == 1 and len(shifts) > 1:
        axes = tuple(axes) * len(shifts)
    for s, a in zip(shifts, axes, strict=True):
        a = canonical_axis("roll", a, x.ndim)
        n = x.shape[a]
        s = int(s) % n if n else 0
        if s:
            first, last = _split_sizes(x, (n - s, s), a)
            x = _concat(last, first, axis=a)
    return x
