"""Shapes: reshape, transpose, axes, broadcasting, slices, and what a tensor looks like."""

from __future__ import annotations

import numpy as np

from hornbeam import backend
from hornbeam.backend import registry
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops._common import canonical_axis, unbroadcast

OPS = backend.OPS
_view = registry.reshape


def ordered_axes(name: str, axes, ndim: int) -> tuple[int, ...]:
    """Axes (an int, a sequence, or None for all) counted from the front, in the order given."""
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


_broadcast_to = primitive(
    "broadcast_to",
    lambda x, *, shape: Spec(tuple(shape), x.dtype),
    lambda op, dy: unbroadcast(dy, op.inputs[0].shape),
    elementwise=True,  # the tile engine broadcasts its operands: no copy where it fuses
    doc="Repeated along axes of size 1 and new leading axes.",
)


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
    lambda op, dy: _slice(dy, begin=op.begin, size=tuple(op.inputs[0].shape), strides=op.strides),
    doc="Zeros of `shape`, with the input where `slice` would read.",
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
    axes = ordered_axes("expand_dims", axes, x.ndim + len(axes))
    rest = iter(x.shape)
    return _view(x, shape=tuple(1 if i in axes else next(rest) for i in range(x.ndim + len(axes))))


@op
def squeeze(x, axis=None):
    """Without the axes of size 1 (all of them, or those given)."""
    x = backend.convert_to_tensor(x)
    if axis is None:
        axes = tuple(i for i, n in enumerate(x.shape) if n == 1)
    else:
        axes = ordered_axes("squeeze", axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(f"squeeze: expected size 1 along axis {a}, got shape {tuple(x.shape)}")
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
    axes = ordered_axes("transpose", tuple(axes), x.ndim)
    if len(axes) != x.ndim:
        raise ValueError(
            f"transpose: expected one entry per axis of shape {tuple(x.shape)}, got axes={axes}"
        )
    return x if axes == tuple(range(x.ndim)) else _transpose(x, axes=axes)


@op(inputs=("x",))
def moveaxis(x, source, destination):
    """Axes `source` moved to the places `destination`; the others keep their order."""
    x = backend.convert_to_tensor(x)
    source = ordered_axes("moveaxis", source, x.ndim)
    destination = ordered_axes("moveaxis", destination, x.ndim)
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
    if extra < 0 or any(n not in (1, shape[i + extra]) for i, n in enumerate(x.shape)):
        raise ValueError(
            f"broadcast_to: expected a shape that {tuple(x.shape)} can be broadcast to, got {shape}"
        )
    return x if shape == tuple(x.shape) else _broadcast_to(x, shape=shape)


# ------------------------------------------------------------------ slices


def strided_slice(x, begin, size, strides):
    """Elements begin + i * strides along every axis; the input itself if that is all of it."""
    if tuple(size) == tuple(x.shape) and all(s == 1 for s in strides):
        return x
    return _slice(x, begin=tuple(begin), size=tuple(size), strides=tuple(strides))


def _start_tensor(starts):
    if isinstance(starts, (tuple, list)):
        starts = [backend.cast(backend.convert_to_tensor(s), "int32") for s in starts]
        return OPS["stack"](starts)
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
    if updates.ndim != x.ndim or any(u > n for u, n in zip(updates.shape, x.shape, strict=True)):
        raise ValueError(
            f"slice_update: expected updates that fit into {tuple(x.shape)}, "
            f"got shape {tuple(updates.shape)}"
        )
    return _dynamic_slice_update(x, updates, _start_tensor(start_indices))


@op
def flip(x, axis=None):
    """Order of the elements reversed along `axis` (an int, a tuple, or None for all)."""
    x = backend.convert_to_tensor(x)
    axes = ordered_axes("flip", axis, x.ndim)
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
    a, b = ordered_axes("rot90", axes, x.ndim)
    k %= 4
    if k == 0:
        return x
    if k == 2:
        return flip(x, (a, b))
    return swapaxes(flip(x, b), a, b) if k == 1 else flip(swapaxes(x, a, b), b)


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
    return (
        x.dtype
        if hasattr(x, "shape") and isinstance(x.dtype, str)
        else (backend.convert_to_tensor(x).dtype)
    )


def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    """Tensor of an array, number, nested list, or tensor of another package.

    Python floats become `floatx()`, integers int32; arrays keep their dtype if None is given.
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
