"""Reading and writing at indices: getitem, take, scatter, segment sums, one-hot, and what depends
on values (nonzero, unique), which runs eagerly only.

Negative indices count from the end. An index out of range is an error that names it (the check is
one pass over the indices), never a silent clip; `segment_*` drop ids outside of [0, num_segments).
"""

from __future__ import annotations

import builtins

import numpy as np

from hornbeam import backend
from hornbeam.backend import autodiff
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.backend.tensor import from_numpy
from hornbeam.ops import creation, joining, shapes
from hornbeam.ops._common import canonical_axis

OPS = backend.OPS


def _indices(x):
    x = backend.convert_to_tensor(x)
    if x.dtype in ("int32", "int64"):
        return x
    return backend.cast(x, "int64" if x.dtype in ("uint32", "uint64") else "int32")


# ------------------------------------------------------------------ primitives


def _gather_gradient(op, dy):
    x, indices = op.inputs
    axis, n = op.axis, x.shape[op.axis]
    before, after = tuple(x.shape[:axis]), tuple(x.shape[axis + 1 :])
    places = indices.size
    rows = shapes.reshape(dy, (*before, places, *after))
    rows = shapes.moveaxis(rows, axis, 0)
    ids = shapes.reshape(indices, (places,))
    dx = _segment_reduce(rows, ids, num_segments=n, reduction="add", wrap=True)
    return shapes.moveaxis(dx, 0, axis), None


_gather = primitive(
    "gather",
    lambda x, indices, *, axis: Spec(
        (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype
    ),
    _gather_gradient,
    doc="Slices of `x` along `axis` at the indices.",
)


def _segment_gradient(op, dy):
    data, ids = op.inputs
    if op.reduction not in ("add", "max", "min"):
        raise NotImplementedError(f"segment_{op.reduction}: no gradient is defined")
    n = op.num_segments
    inside = OPS["logical_and"](
        OPS["greater_equal"](ids, -n if op.wrap else 0), OPS["less"](ids, n)
    )
    safe = OPS["where"](inside, ids, creation.zeros((), ids.dtype))
    inside = shapes.reshape(inside, (*ids.shape, *(1,) * (len(data.shape) - 1)))
    if op.reduction != "add":  # shared evenly among the elements that attain it
        best = _gather(op.output, safe, axis=0)
        hit = backend.cast(OPS["logical_and"](OPS["equal"](data, best), inside), dy.dtype)
        count = _segment_reduce(hit, ids, num_segments=n, reduction="add", wrap=op.wrap)
        return _gather(dy / OPS["maximum"](count, 1), safe, axis=0) * hit, None
    dx = _gather(dy, safe, axis=0)
    return OPS["where"](inside, dx, creation.zeros((), dy.dtype)), None


_segment_reduce = primitive(
    "segment_reduce",
    lambda data, ids, *, num_segments, reduction, wrap: Spec(
        (num_segments, *data.shape[1:]), data.dtype
    ),
    _segment_gradient,
    doc="Sum, product, maximum or minimum of the rows with the same id.",
)

# Made by the pass `sparse`, for kernels that read the sums of rows without a buffer for them.
primitive(
    "segment_order",
    lambda ids, *, num_segments, wrap: [Spec(tuple(ids.shape), "int32")] * 2,
    doc="Segments in ascending order (`num_segments` for ids out of range) and their rows.",
)
primitive(
    "segment_sums",
    lambda rows, keys, order, *, num_segments: Spec(tuple(rows.shape), rows.dtype),
    doc="The sum of a segment's rows at the first place of its segment in that order, else zeros.",
)

#: Rows that hold anything but zeros: x (n, …) → bool (n, 1, …).
nonzero_rows = primitive(
    "nonzero_rows",
    lambda x: Spec((x.shape[0], *(1,) * (len(x.shape) - 1)), "bool"),
    lambda op, dy: None,
    doc="Which rows hold anything but zeros.",
)

_take_along_axis = primitive(
    "take_along_axis",
    lambda x, indices, *, axis: Spec(tuple(indices.shape), x.dtype),
    lambda op, dy: (
        _scatter_along_axis(
            creation.zeros(op.inputs[0].shape, dy.dtype),
            op.inputs[1],
            dy,
            axis=op.axis,
            reduction="add",
        ),
        None,
    ),
    doc="x[..., indices[..., j, ...], ...] along `axis`.",
)


def _scatter_along_gradient(op, dy):
    if op.reduction != "add":
        raise NotImplementedError("scatter_along_axis: only sums have a gradient")
    return dy, None, _take_along_axis(dy, op.inputs[1], axis=op.axis)


_scatter_along_axis = primitive(
    "scatter_along_axis",
    lambda x, indices, updates, *, axis, reduction: Spec(tuple(x.shape), x.dtype),
    _scatter_along_gradient,
    doc="`x` with updates at indices along `axis`.",
)

_gather_nd = primitive(
    "gather_nd",
    lambda x, indices: Spec((*indices.shape[:-1], *x.shape[indices.shape[-1] :]), x.dtype),
    lambda op, dy: (
        _scatter_nd(
            creation.zeros(op.inputs[0].shape, dy.dtype), op.inputs[1], dy, reduction="add"
        ),
        None,
    ),
    doc="x[indices[..., 0], indices[..., 1], ...].",
)


def _scatter_nd_gradient(op, dy):
    x, indices, updates = op.inputs
    if op.reduction == "add":
        return dy, None, _gather_nd(dy, indices)
    if op.reduction == "update":
        kept = _scatter_nd(dy, indices, creation.zeros(updates.shape, dy.dtype), reduction="update")
        return kept, None, _gather_nd(dy, indices)
    if op.reduction in ("max", "min"):
        best = _gather_nd(op.output, indices)
        won = backend.cast(OPS["equal"](updates, best), dy.dtype)
        dx = OPS["where"](OPS["equal"](x, op.output), dy, creation.zeros((), dy.dtype))
        return dx, None, _gather_nd(dy, indices) * won
    raise NotImplementedError(f"scatter: no gradient is defined for reduction {op.reduction!r}")


_scatter_nd = primitive(
    "scatter_nd",
    lambda x, indices, updates, *, reduction: Spec(tuple(x.shape), x.dtype),
    _scatter_nd_gradient,
    doc="`x` with updates at the places that the last axis of `indices` names.",
)


# ------------------------------------------------------------------ reading


@op
def take(x, indices, axis=None):
    """Slices of `x` along `axis` at the indices (elements of the flattened `x` if None).

    Shapes: x (…, n, …), indices of any shape (…i…) → (…, …i…, …).

    Example:

    >>> take([10, 20, 30], [2, -1, 0]).tolist()
    [30, 30, 10]
    """
    x, indices = backend.convert_to_tensor(x), _indices(indices)
    if axis is None:
        x, axis = shapes.ravel(x), 0
    return _gather(x, indices, axis=canonical_axis("take", axis, x.ndim))


@op
def take_along_axis(x, indices, axis=None):
    """Elements at indices along `axis`; the other axes are matched (and broadcast)."""
    x, indices = backend.convert_to_tensor(x), _indices(indices)
    if axis is None:
        x, indices, axis = shapes.ravel(x), shapes.ravel(indices), 0
    if x.ndim != indices.ndim:
        raise ValueError(
            f"take_along_axis: expected indices of rank {x.ndim}, got shape {tuple(indices.shape)}"
        )
    axis = canonical_axis("take_along_axis", axis, x.ndim)
    common = np.broadcast_shapes(
        (*x.shape[:axis], 1, *x.shape[axis + 1 :]),
        (*indices.shape[:axis], 1, *indices.shape[axis + 1 :]),
    )

    def widened(t):
        return shapes.broadcast_to(t, (*common[:axis], t.shape[axis], *common[axis + 1 :]))

    return _take_along_axis(widened(x), widened(indices), axis=axis)


def _is_bool_mask(k):
    return isinstance(k, (backend.Tensor, backend.Value, np.ndarray)) and (
        k.dtype == "bool" and len(k.shape) > 0
    )


def _plain(k):
    """Whether a part of a key is basic: an int, a slice, None or an Ellipsis."""
    return k is None or k is Ellipsis or isinstance(k, (int, np.integer, builtins.slice))


def _expanded_key(x, key):
    """Key as a list with one entry per axis (and Nones), masks as index arrays."""
    key = list(key) if isinstance(key, tuple) else [key]
    parts = []
    for k in key:
        if isinstance(k, backend.Variable):
            k = backend.convert_to_tensor(k)
        if isinstance(k, (list, tuple)):
            k = np.asarray(k) if len(k) else np.zeros(0, "int32")
            k = k if k.dtype != object else backend.convert_to_tensor(list(key[len(parts)]))
        if isinstance(k, (bool, np.bool_)):
            raise TypeError("getitem: a bool is no index; use expand_dims or a mask of rank >= 1")
        if _is_bool_mask(k):
            if isinstance(k, backend.Value):
                raise ValueError(
                    "getitem: the shape of x[mask] depends on values, which a compiled function "
                    "cannot have; use ops.where(mask, x, other) or multiply by the mask"
                )
            parts += [n.astype("int32") for n in np.nonzero(np.asarray(k))]
        elif _plain(k):
            parts.append(k)
        elif (
            isinstance(k, (backend.Tensor, np.ndarray))
            and len(k.shape) == 0
            and (not isinstance(k, backend.Tensor))
        ):
            parts.append(int(k))
        else:
            k = k if hasattr(k, "shape") else backend.convert_to_tensor(k)
            if not backend.dtypes.is_int(str(k.dtype)):
                raise TypeError(
                    f"getitem: expected integers, slices, None, Ellipsis, masks or integer tensors "
                    f"as indices, got dtype {k.dtype}"
                )
            parts.append(k)
    used = builtins.sum(1 for k in parts if k is not None and k is not Ellipsis)
    if used > x.ndim:
        raise IndexError(f"getitem: {used} indices for a tensor of shape {tuple(x.shape)}")
    fill = [builtins.slice(None)] * (x.ndim - used)
    at = next((i for i, k in enumerate(parts) if k is Ellipsis), None)
    parts = [*parts, *fill] if at is None else [*parts[:at], *fill, *parts[at + 1 :]]
    if any(k is Ellipsis for k in parts):
        raise IndexError("getitem: an index can only have one Ellipsis")
    return parts


def _basic(x, parts):
    """Ints, slices and None applied; index arrays count as full slices. Returns the tensor and
    the arrays with the axes that they belong to in it."""
    begin, size, strides, shape, arrays, axis = [], [], [], [], [], 0
    for k in parts:
        if k is None:
            shape.append(1)
            continue
        n = x.shape[axis]
        if isinstance(k, (int, np.integer)):
            if not -n <= k < n:
                raise IndexError(
                    f"getitem: index {int(k)} is out of range for axis {axis} of size {n}"
                )
            start, stop, step = int(k) % n, int(k) % n + 1, 1
        elif isinstance(k, builtins.slice):
            start, stop, step = k.indices(n)
        else:
            arrays.append((len(shape), k))
            start, stop, step = 0, n, 1
        count = len(range(start, stop, step))
        begin.append(start if count else 0)
        size.append(count)
        strides.append(step)
        if not isinstance(k, (int, np.integer)):
            shape.append(count)
        axis += 1
    x = shapes.strided_slice(x, begin, size, strides)
    return shapes.reshape(x, tuple(shape)), arrays


@op(inputs=("x",))
def getitem(x, key):
    """x[key] with NumPy's rules: ints, slices, None, Ellipsis, integer arrays, boolean masks.

    A mask needs values that are known (eager only): the shape of the result depends on them.
    """
    x = backend.convert_to_tensor(x)
    whole = key if isinstance(key, tuple) else (key,)
    if isinstance(x, backend.Tensor) and all(_plain(k) for k in whole):
        if not autodiff.recording((x,)):
            return from_numpy(x._view()[key], x.dtype)
    parts = _expanded_key(x, key)
    if any(not _plain(k) for k in parts):
        # next to index arrays, an int is one of them
        parts = [np.asarray(k, "int32") if isinstance(k, (int, np.integer)) else k for k in parts]
    x, arrays = _basic(x, parts)
    if not arrays:
        return x
    axes = [a for a, _ in arrays]
    tensors = [_indices(k) for _, k in arrays]
    if len(tensors) == 1:
        return _gather(x, tensors[0], axis=axes[0])
    common = np.broadcast_shapes(*(tuple(t.shape) for t in tensors))
    dtype = backend.result_type(*(t.dtype for t in tensors))
    tensors = [shapes.broadcast_to(backend.cast(t, dtype), common) for t in tensors]
    rest = [a for a in range(x.ndim) if a not in axes]
    picked = _gather_nd(shapes.transpose(x, (*axes, *rest)), joining.stack(tensors, axis=-1))
    places = [i for i, k in enumerate(parts) if not _plain(k)]
    if places[-1] - places[0] + 1 != len(places):
        return picked  # arrays apart: their axes come first
    front = tuple(range(len(common)))
    return shapes.moveaxis(picked, front, tuple(axes[0] + i for i in front))


@op(inputs=("x",))
def get_item(x, key):
    """x[key]; see `getitem`."""
    return getitem(x, key)


# ------------------------------------------------------------------ writing


def _flat_updates(x, indices, updates, name):
    depth = indices.shape[-1]
    shape = (*indices.shape[:-1], *x.shape[depth:])
    updates = backend.cast(backend.convert_to_tensor(updates), x.dtype)
    if tuple(updates.shape) != shape:
        raise ValueError(f"{name}: expected values of shape {shape}, got {tuple(updates.shape)}")
    return updates


@op(inputs=("indices", "values"))
def scatter(indices, values, shape):
    """Zeros of `shape` with `values` added at the places that the last axis of `indices` names.

    Example:

    >>> scatter([[0], [2], [2]], [1.0, 2.0, 3.0], (4,)).tolist()
    [1.0, 0.0, 5.0, 0.0]
    """
    values, indices = backend.convert_to_tensor(values), _indices(indices)
    zeros = creation.zeros(shapes.static_ints("scatter", shape), values.dtype)
    values = _flat_updates(zeros, indices, values, "scatter")
    return _scatter_nd(zeros, indices, values, reduction="add")


@op(inputs=("inputs", "indices", "updates"))
def scatter_update(inputs, indices, updates, reduction=None):
    """`inputs` with elements replaced (or combined with) updates.

    Args:
        indices: (…, depth): places in the first `depth` axes; repeated ones apply in order.
        updates: (…, rest of the axes of `inputs`).
        reduction: None or "update" (replace), "add", "max", "min" or "mul".
    """
    x, indices = backend.convert_to_tensor(inputs), _indices(indices)
    known = ("update", "add", "max", "min", "mul")
    if (reduction or "update") not in known:
        raise ValueError(
            f"scatter_update: expected reduction None or one of {known}, got {reduction!r}"
        )
    updates = _flat_updates(x, indices, updates, "scatter_update")
    return _scatter_nd(x, indices, updates, reduction=reduction or "update")


def _segment(name, data, ids, num_segments, reduction):
    data, ids = backend.convert_to_tensor(data), _indices(ids)
    if ids.ndim != 1 or data.ndim < 1 or data.shape[0] != ids.shape[0]:
        raise ValueError(
            f"{name}: expected one id for each row of data, got data of shape {tuple(data.shape)} "
            f"and ids of shape {tuple(ids.shape)}"
        )
    if num_segments is None:
        if not isinstance(ids, backend.Tensor):
            raise ValueError(f"{name}: num_segments must be given inside a compiled function")
        num_segments = int(np.max(np.asarray(ids), initial=-1)) + 1
    return _segment_reduce(
        data, ids, num_segments=int(num_segments), reduction=reduction, wrap=False
    )


@op
def segment_sum(data, segment_ids, num_segments=None, sorted=False):
    """Sums of the rows with the same id; `sorted` is a hint that is not needed.

    Shapes: data (n, …), segment_ids (n,) → (num_segments, …).

    Example:

    >>> segment_sum([1, 2, 10], [0, 0, 1]).tolist()
    [3, 10]
    """
    return _segment("segment_sum", data, segment_ids, num_segments, "add")


@op
def segment_max(data, segment_ids, num_segments=None, sorted=False):
    """Maxima of the rows with the same id (the lowest value for an id without rows)."""
    return _segment("segment_max", data, segment_ids, num_segments, "max")


@op
def segment_min(data, segment_ids, num_segments=None, sorted=False):
    """Minima of the rows with the same id (the highest value for an id without rows)."""
    return _segment("segment_min", data, segment_ids, num_segments, "min")


@op
def segment_prod(data, segment_ids, num_segments=None, sorted=False):
    """Products of the rows with the same id."""
    return _segment("segment_prod", data, segment_ids, num_segments, "mul")


# ------------------------------------------------------------------ encodings


def _dense_only(name, sparse):
    if sparse:
        raise ValueError(f"{name}: sparse tensors are not supported; use sparse=False")


@op
def one_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    """1 where the new axis has the index `x`, else 0; an index out of range gives zeros.

    Example:

    >>> one_hot([1, 0], 3, dtype="int32").tolist()
    [[0, 1, 0], [1, 0, 0]]
    """
    _dense_only("one_hot", sparse)
    x = _indices(x)
    axis = canonical_axis("one_hot", axis, x.ndim + 1)
    classes = creation.iota(int(num_classes), x.dtype)
    classes = shapes.reshape(classes, (-1,) + (1,) * (x.ndim - axis)) if num_classes else classes
    hit = OPS["equal"](shapes.expand_dims(x, axis), classes)
    return backend.cast(hit, backend.standardize_dtype(dtype))


@op
def multi_hot(inputs, num_classes=None, axis=-1, dtype=None, sparse=False, **kwargs):
    """1 at all classes that occur in the last but batch axis of the integer `inputs`, else 0."""
    _dense_only("multi_hot", sparse)
    if num_classes is None:
        num_classes = kwargs.pop("num_tokens", None)
    if num_classes is None or kwargs:
        raise ValueError(f"multi_hot: expected num_classes, got {num_classes} and {sorted(kwargs)}")
    x = backend.convert_to_tensor(inputs)
    reduction_axis = 1 if x.ndim > 1 else 0
    hot = one_hot(x, num_classes, axis=axis, dtype=dtype)
    return OPS["max"](hot, axis=reduction_axis)


# ------------------------------------------------------------------ shapes that depend on values


def _values(name, *xs):
    """NumPy arrays of concrete tensors; an error while tracing."""
    out = []
    for x in xs:
        x = backend.convert_to_tensor(x) if not isinstance(x, backend.Value) else x
        if isinstance(x, backend.Value):
            if x.node.op.name == "constant":
                x = x.node.attrs["tensor"]
            else:
                raise ValueError(
                    f"{name}: the shape of the result depends on values, which a compiled function "
                    "cannot have; call it outside, or use a form with a fixed size "
                    "(ops.where(mask, x, other), ops.top_k)"
                )
        out.append(np.asarray(x))
    return out


@op
def nonzero(x):
    """Indices of the elements that are not 0: one int32 vector for each axis. Eager only."""
    (x,) = _values("nonzero", x)
    return tuple(backend.convert_to_tensor(i.astype("int32")) for i in np.nonzero(x))


@op
def unique(
    x,
    sorted=True,
    return_index=False,
    return_inverse=False,
    return_counts=False,
    axis=None,
    size=None,
    fill_value=None,
):
    """The different values of `x`, in order. Eager only.

    Args:
        return_index, return_inverse, return_counts: also return the first places, the place of
            every element among the values, the counts (int32).
        axis: unique slices along this axis instead of elements.
        size: length of the result, cut or filled up with `fill_value` (the smallest if None).
    """
    t = backend.convert_to_tensor(x)
    (a,) = _values("unique", t)
    out = np.unique(a, True, True, True, axis=axis)
    values, index, inverse, counts = out
    inverse = inverse.reshape(a.shape if axis is None else (-1,))
    if size is not None:
        along = axis or 0
        pad = max(0, size - values.shape[along])
        values = np.take(values, range(min(size, values.shape[along])), axis=along)
        if pad:
            shape = list(values.shape)
            shape[along] = pad
            first = np.take(values, [0], axis=along) if fill_value is None else fill_value
            filler = np.broadcast_to(np.asarray(first, values.dtype), shape)
            values = np.concatenate([values, filler], axis=along)
        index = np.pad(index[:size], (0, pad), constant_values=index[0] if len(index) else 0)
        counts = np.pad(counts[:size], (0, pad))
    results = [backend.convert_to_tensor(values, t.dtype)]
    for wanted, r in ((return_index, index), (return_inverse, inverse), (return_counts, counts)):
        if wanted:
            results.append(backend.convert_to_tensor(np.asarray(r).astype("int32")))
    return results[0] if len(results) == 1 else tuple(results)


@op(inputs=("indices",))
def unravel_index(indices, shape):
    """Index along every axis of a tensor of `shape`, of places in its flattened form."""
    x = backend.convert_to_tensor(indices)
    out, step = [], 1
    for n in reversed(shapes.static_ints("unravel_index", shape)):
        out.append(OPS["mod"](OPS["floor_divide"](x, step), n))
        step *= n
    return tuple(reversed(out))
