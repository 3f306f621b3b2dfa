"""Ops that move elements without computing: reshape, transpose, slices, concatenate, pad, tile."""

from __future__ import annotations

import builtins

import numpy as np

from hornbeam import backend
from hornbeam.backend import registry
from hornbeam.backend.registry import Spec, op, primitive

OPS = backend.OPS
_view = registry.reshape


def canonical_axis(name: str, axis: int, ndim: int) -> int:
    """`axis` counted from the front; raises ValueError if there is no such axis."""
    axis = int(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name}: axis out of range; expected {-ndim} <= axis < {ndim}, got {axis}")
    return axis + ndim if axis < 0 else axis


def canonical_axes(name: str, axes, ndim: int) -> tuple[int, ...]:
    """Axes (an int, a sequence, or None for all) counted from the front, without repetition."""
    if axes is None:
        return tuple(range(ndim))
    axes = (axes,) if not isinstance(axes, (tuple, list)) else axes
    out = tuple(canonical_axis(name, a, ndim) for a in axes)
    if len(set(out)) != len(out):
        raise ValueError(f"{name}: an axis is given twice; got {tuple(axes)} for rank {ndim}")
    return out


def static_ints(name: str, values) -> tuple[int, ...]:
    """A shape or a list of sizes as ints (an int or concrete integer tensor is accepted)."""
    if isinstance(values, backend.Value):
        raise ValueError(
            f"{name}: expected sizes that are known when the function is traced, got {values!r}; "
            "use Python integers (for instance from x.shape)"
        )
    if isinstance(values, (int, np.integer)):
        return (int(values),)
    if isinstance(values, (backend.Tensor, np.ndarray)):
        values = np.asarray(values).reshape(-1)
    return tuple(int(v) for v in values)


# ------------------------------------------------------------------ primitives


def _transpose_spec(x, *, axes):
    return Spec(tuple(x.shape[a] for a in axes), x.dtype)


def _transpose_gradient(op, dy):
    inverse = [0] * len(op.axes)
    for i, a in enumerate(op.axes):
        inverse[a] = i
    return _transpose(dy, axes=tuple(inverse))


_transpose = primitive(
    "transpose", _transpose_spec, _transpose_gradient, doc="Axes in the order `axes`."
)


def _broadcast_gradient(op, dy):
    x = op.inputs[0]
    extra = dy.ndim - len(x.shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(x.shape) if n == 1 and dy.shape[i + extra] != 1
    )
    return _view(OPS["sum"](dy, axis=axes), shape=tuple(x.shape)) if axes else dy


_broadcast_to = primitive(
    "broadcast_to",
    lambda x, *, shape: Spec(tuple(shape), x.dtype),
    _broadcast_gradient,
    doc="Repeated along axes of size 1 and new leading axes.",
)


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


_slice = primitive(
    "slice",
    lambda x, *, begin, size, strides: Spec(tuple(size), x.dtype),
    lambda op, dy: _slice_grad(
        dy, begin=op.begin, strides=op.strides, shape=tuple(op.inputs[0].shape)
    ),
    doc="Elements begin + i * strides of every axis, `size` of them.",
)
_slice_grad = primitive(
    "slice_grad",
    lambda dy, *, begin, strides, shape: Spec(tuple(shape), dy.dtype),
    lambda op, dy: _slice(
        dy, begin=op.begin, size=tuple(op.inputs[0].shape), strides=op.strides
    ),
    doc="Zeros of `shape`, with the input where `slice` would read.",
)
_pad = primitive(
    "pad",
    lambda x, value, *, lo, hi: Spec(
        tuple(n + a + b for n, a, b in zip(x.shape, lo, hi, strict=True)), x.dtype
    ),
    lambda op, dy: (
        _slice(dy, begin=op.lo, size=tuple(op.inputs[0].shape), strides=(1,) * dy.ndim),
        None
        if not op.needs[1]
        else OPS["sum"](dy)
        - OPS["sum"](_slice(dy, begin=op.lo, size=op.inputs[0].shape, strides=(1,) * dy.ndim)),
    ),
    doc="`value` around the input: lo before and hi after along every axis.",
)


def _dynamic_update_gradient(op, dy):
    updates, starts = op.inputs[1], op.inputs[2]
    zeros = _broadcast_to(backend.convert_to_tensor(0, dy.dtype), shape=tuple(updates.shape))
    return (
        _dynamic_slice_update(dy, zeros, starts),
        _dynamic_slice(dy, starts, size=tuple(updates.shape)),
        None,
    )


def _dynamic_slice_gradient(op, dy):
    x, starts = op.inputs
    zeros = _broadcast_to(backend.convert_to_tensor(0, dy.dtype), shape=tuple(x.shape))
    return _dynamic_slice_update(zeros, dy, starts), None


_dynamic_slice = primitive(
    "dynamic_slice",
    lambda x, starts, *, size: Spec(tuple(size), x.dtype),
    _dynamic_slice_gradient,
    doc="A window of `size` at start indices known at run time (clamped to lie inside).",
)
_dynamic_slice_update = primitive(
    "dynamic_slice_update",
    lambda x, updates, starts: Spec(tuple(x.shape), x.dtype),
    _dynamic_update_gradient,
    doc="The first input with a window replaced.",
)


# ------------------------------------------------------------------ shape


@op(inputs=("x",))
def reshape(x, newshape):
    """Same elements in another shape; one size may be -1 and follows from the others.

    Example:

    >>> reshape([1, 2, 3, 4, 5, 6], (2, -1)).shape
    (2, 3)
    """
    x = backend.convert_to_tensor(x)
    shape = list(static_ints("reshape", newshape))
    if shape.count(-1) == 1:
        known = 1
        for n in shape:
            known *= n if n != -1 else 1
        if known == 0 or x.size % known:
            raise ValueError(
                f"reshape: the sizes do not divide the number of elements; expected a shape of "
                f"{x.size} elements (the input is {tuple(x.shape)}), got {tuple(shape)}"
            )
        shape[shape.index(-1)] = x.size // known
    if tuple(shape) == tuple(x.shape):
        return x
    return _view(x, shape=tuple(shape))


@op
def ravel(x):
    """All elements along one axis."""
    return reshape(x, (-1,) if backend.convert_to_tensor(x).size else (0,))


@op(inputs=("x",))
def expand_dims(x, axis):
    """New axes of size 1 at `axis` (an int or a tuple, positions in the result)."""
    x = backend.convert_to_tensor(x)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = canonical_axes("expand_dims", axes, x.ndim + len(axes))
    rest = iter(x.shape)
    return _view(
        x, shape=tuple(1 if i in axes else next(rest) for i in range(x.ndim + len(axes)))
    )


@op
def squeeze(x, axis=None):
    """Without the axes of size 1 (all of them, or those given)."""
    x = backend.convert_to_tensor(x)
    if axis is None:
        axes = tuple(i for i, n in enumerate(x.shape) if n == 1)
    else:
        axes = canonical_axes("squeeze", axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(
                f"squeeze: expected size 1 along axis {a}, got shape {tuple(x.shape)}"
            )
    return _view(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


@op
def transpose(x, axes=None):
    """Axes in the given order; reversed if `axes` is None.

    Example:

    >>> transpose([[1, 2], [3, 4]]).tolist()
    [[1, 3], [2, 4]]
    """
    x = backend.convert_to_tensor(x)
    if axes is None:
        axes = tuple(range(x.ndim))[::-1]
    axes = canonical_axes("transpose", tuple(axes), x.ndim)
    if len(axes) != x.ndim:
        raise ValueError(
            f"transpose: expected one entry per axis of shape {tuple(x.shape)}, got axes={axes}"
        )
    return x if axes == tuple(range(x.ndim)) else _transpose(x, axes=axes)


@op(inputs=("x",))
def moveaxis(x, source, destination):
    """Axes `source` moved to the places `destination`; the others keep their order."""
    x = backend.convert_to_tensor(x)
    source = canonical_axes("moveaxis", source, x.ndim)
    destination = canonical_axes("moveaxis", destination, x.ndim)
    if len(source) != len(destination):
        raise ValueError(
            f"moveaxis: expected as many sources as destinations, got {source} and {destination}"
        )
    order = [a for a in range(x.ndim) if a not in source]
    for d, s in sorted(zip(destination, source, strict=True)):
        order.insert(d, s)
    return transpose(x, tuple(order))


@op(inputs=("x",))
def swapaxes(x, axis1, axis2):
    """Two axes exchanged."""
    x = backend.convert_to_tensor(x)
    a, b = canonical_axis("swapaxes", axis1, x.ndim), canonical_axis("swapaxes", axis2, x.ndim)
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return transpose(x, tuple(order))


@op(inputs=("x",))
def broadcast_to(x, shape):
    """Repeated to `shape` by NumPy's broadcasting rules."""
    x = backend.convert_to_tensor(x)
    shape = static_ints("broadcast_to", shape)
    extra = len(shape) - x.ndim
    if extra < 0 or any(
        n not in (1, shape[i + extra]) for i, n in enumerate(x.shape)
    ):
        raise ValueError(
            f"broadcast_to: expected a shape that {tuple(x.shape)} can be broadcast to, got {shape}"
        )
    return x if shape == tuple(x.shape) else _broadcast_to(x, shape=shape)


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
    return [
        x[(*key, builtins.slice(s, max(s, e)))] for s, e in zip(starts, ends, strict=True)
    ]


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


# ------------------------------------------------------------------ slices


def strided_slice(x, begin, size, strides):
    """Elements begin + i * strides along every axis; the input itself if that is all of it."""
    if tuple(size) == tuple(x.shape) and all(s == 1 for s in strides):
        return x
    return _slice(x, begin=tuple(begin), size=tuple(size), strides=tuple(strides))


def _start_tensor(starts):
    if isinstance(starts, (tuple, list)):
        starts = [backend.cast(backend.convert_to_tensor(s), "int32") for s in starts]
        return stack(starts)
    starts = backend.convert_to_tensor(starts)
    return starts if starts.dtype in ("int32", "int64") else backend.cast(starts, "int32")


def _is_static(starts):
    if isinstance(starts, (tuple, list)):
        return all(isinstance(s, (int, np.integer)) for s in starts)
    return isinstance(starts, np.ndarray)


@op(inputs=("inputs", "start_indices"))
def slice(inputs, start_indices, shape):
    """Window of `shape` whose first element is at `start_indices`.

    Starts that are known only at run time are clamped so that the window lies inside. A size of -1
    means all that is left (static starts only).
    """
    x = backend.convert_to_tensor(inputs)
    size = static_ints("slice", shape)
    if len(size) != x.ndim:
        raise ValueError(f"slice: expected one size per axis of {tuple(x.shape)}, got {size}")
    if not _is_static(start_indices):
        return _dynamic_slice(x, _start_tensor(start_indices), size=size)
    begin = static_ints("slice", start_indices)
    if len(begin) != x.ndim:
        raise ValueError(f"slice: expected one start per axis of {tuple(x.shape)}, got {begin}")
    size = tuple(n - b if s == -1 else s for n, b, s in zip(x.shape, begin, size, strict=True))
    if any(b < 0 or b + s > n for n, b, s in zip(x.shape, begin, size, strict=True)):
        raise ValueError(
            f"slice: the window leaves the tensor of shape {tuple(x.shape)}; "
            f"got start_indices={begin}, shape={size}"
        )
    return strided_slice(x, begin, size, (1,) * x.ndim)


@op(inputs=("inputs", "start_indices", "updates"))
def slice_update(inputs, start_indices, updates):
    """`inputs` with the window at `start_indices` replaced by `updates`."""
    x = backend.convert_to_tensor(inputs)
    updates = backend.cast(backend.convert_to_tensor(updates), x.dtype)
    if updates.ndim != x.ndim or any(
        u > n for u, n in zip(updates.shape, x.shape, strict=True)
    ):
        raise ValueError(
            f"slice_update: expected updates that fit into {tuple(x.shape)}, "
            f"got shape {tuple(updates.shape)}"
        )
    return _dynamic_slice_update(x, updates, _start_tensor(start_indices))


@op
def flip(x, axis=None):
    """Order of the elements reversed along `axis` (an int, a tuple, or None for all)."""
    x = backend.convert_to_tensor(x)
    axes = canonical_axes("flip", axis, x.ndim)
    begin = [n - 1 if i in axes and n else 0 for i, n in enumerate(x.shape)]
    strides = [-1 if i in axes else 1 for i in range(x.ndim)]
    return strided_slice(x, begin, x.shape, strides)


@op
def fliplr(x):
    """Reversed along axis 1."""
    return flip(x, axis=1)


@op
def flipud(x):
    """Reversed along axis 0."""
    return flip(x, axis=0)


@op
def rot90(array, k=1, axes=(0, 1)):
    """Turned by 90 degrees k times, from the first towards the second of `axes`."""
    x = backend.convert_to_tensor(array)
    a, b = canonical_axes("rot90", axes, x.ndim)
    k %= 4
    if k == 0:
        return x
    if k == 2:
        return flip(x, (a, b))
    return swapaxes(flip(x, b), a, b) if k == 1 else flip(swapaxes(x, a, b), b)


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
    x = _broadcast_to(_view(x, shape=tuple(apart)), shape=tuple(wide))
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


# ------------------------------------------------------------------ looking


def shape(x):
    """Shape as a tuple (of ints; None where a KerasTensor does not know)."""
    if isinstance(x, (backend.KerasTensor, backend.Variable)) or backend.is_tensor(x):
        return tuple(x.shape)
    return np.shape(x)


def ndim(x):
    """Number of axes."""
    return len(shape(x))


def size(x):
    """Number of elements."""
    n = 1
    for d in shape(x):
        if d is None:
            return None
        n *= d
    return n


def dtype(x):
    """Name of the dtype."""
    return x.dtype if hasattr(x, "shape") and isinstance(x.dtype, str) else (
        backend.convert_to_tensor(x).dtype
    )


def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    """Tensor of an array, number, nested list, or tensor of another package.

    Python floats become `floatx()`, integers int32; arrays keep their dtype unless `dtype` is given.
    """
    if sparse or ragged:
        raise ValueError("convert_to_tensor: sparse and ragged tensors are not supported")
    if isinstance(x, backend.KerasTensor):
        return x if dtype is None else backend.cast(x, dtype)
    return backend.convert_to_tensor(x, dtype)


def array(x, dtype=None):
    """The same as `convert_to_tensor`."""
    return convert_to_tensor(x, dtype)


def convert_to_numpy(x):
    """NumPy array of its own memory."""
    return backend.convert_to_numpy(x)


def is_tensor(x):
    """Whether `x` is a hornbeam tensor (concrete or symbolic)."""
    return backend.is_tensor(x)


@op(inputs=("variable",))
def stop_gradient(variable):
    """The value itself, through which no gradient flows."""
    return registry.stop_gradient(backend.convert_to_tensor(variable))


@op
def copy(x):
    """The value, as a tensor of its own (tensors are immutable, so this costs no memory)."""
    return backend.convert_to_tensor(x)
