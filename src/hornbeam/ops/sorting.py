"""Ops about order (sort, argsort, top_k, searchsorted) and counts (bincount, histogram)."""

from __future__ import annotations

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops import creation, index, shapes
from hornbeam.ops._common import canonical_axis

OPS = backend.OPS


def _sort_gradient(op, dy):
    x = op.inputs[0]
    zeros = creation.zeros(x.shape, dy.dtype)
    return index._scatter_along_axis(zeros, _argsort(x), dy, axis=x.ndim - 1, reduction="add")


_sort = primitive(
    "sort",
    lambda x: Spec(tuple(x.shape), x.dtype),
    _sort_gradient,
    doc="Ascending along the last axis, NaN last.",
)
_argsort = primitive(
    "argsort",
    lambda x: Spec(tuple(x.shape), "int32"),
    doc="Indices that sort the last axis; equal elements keep their order.",
)


def _top_k_gradient(op, dy, _):
    x, indices = op.inputs[0], op.outputs[1]
    zeros = creation.zeros(x.shape, dy.dtype)
    return index._scatter_along_axis(zeros, indices, dy, axis=x.ndim - 1, reduction="add")


_top_k = primitive(
    "top_k",
    lambda x, *, k: [Spec((*x.shape[:-1], k), x.dtype), Spec((*x.shape[:-1], k), "int32")],
    _top_k_gradient,
    doc="The k largest elements of the last axis in descending order, and their indices.",
)
_searchsorted = primitive(
    "searchsorted",
    lambda sequence, values, *, right: Spec(
        tuple(values.shape), "int32" if sequence.shape[0] < 2**31 else "int64"
    ),
    doc="Places where values would be inserted into a sorted vector.",
)


def _along_last(name, function, x, axis):
    """`function` on the last axis, applied along `axis` (flattened if None)."""
    x = backend.convert_to_tensor(x)
    if axis is None:
        return function(shapes.ravel(x))
    axis = canonical_axis(name, axis, x.ndim)
    return shapes.moveaxis(function(shapes.moveaxis(x, axis, -1)), -1, axis)


@op
def sort(x, axis=-1):
    """Elements in ascending order along `axis` (flattened if None); NaN comes last.

    Example:

    >>> sort([3, 1, 2]).tolist()
    [1, 2, 3]
    """
    return _along_last("sort", _sort, x, axis)


@op
def argsort(x, axis=-1):
    """int32 indices that sort `x` along `axis`; equal elements keep their order."""
    return _along_last("argsort", _argsort, x, axis)


@op
def argpartition(x, kth, axis=-1):
    """int32 indices such that the element at place `kth` is the one of the sorted order, with none
    larger before and none smaller after it (they come fully sorted)."""
    return argsort(x, axis=axis)


@op(inputs=("x",))
def top_k(x, k, sorted=True):
    """The k largest elements along the last axis, in descending order, and their int32 indices.

    Of equal elements the first ones are taken; NaN counts as largest.

    Example:

    >>> values, indices = top_k([1.0, 5.0, 3.0], 2)
    >>> values.tolist(), indices.tolist()
    ([5.0, 3.0], [1, 2])
    """
    x = backend.convert_to_tensor(x)
    if x.ndim < 1 or not 0 <= k <= x.shape[-1]:
        raise ValueError(
            f"top_k: expected 0 <= k <= the size of the last axis of {tuple(x.shape)}, got k={k}"
        )
    return _top_k(x, k=int(k))


@op(inputs=("targets", "predictions"))
def in_top_k(targets, predictions, k):
    """Whether the class `targets[i]` is among the k largest of `predictions[i]` (ties count).

    Shapes: targets (batch,), predictions (batch, classes) → (batch,) bool.
    """
    targets = index._indices(targets)
    predictions = backend.convert_to_tensor(predictions)
    n = predictions.shape[-1]
    inside = OPS["logical_and"](OPS["greater_equal"](targets, 0), OPS["less"](targets, n))
    safe = OPS["where"](inside, targets, creation.zeros((), targets.dtype))
    own = index.take_along_axis(predictions, shapes.expand_dims(safe, -1), axis=-1)
    larger = OPS["sum"](backend.cast(OPS["greater"](predictions, own), "int32"), axis=-1)
    valid = OPS["logical_and"](inside, OPS["isfinite"](shapes.squeeze(own, -1)))
    return OPS["logical_and"](valid, OPS["less"](larger, int(k)))


@op
def searchsorted(sorted_sequence, values, side="left"):
    """Places where `values` would go into a sorted vector: before equal elements, or after.

    Example:

    >>> searchsorted([1, 2, 3], [2, 5], side="right").tolist()
    [2, 3]
    """
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: expected side 'left' or 'right', got {side!r}")
    sequence = backend.convert_to_tensor(sorted_sequence)
    values = backend.convert_to_tensor(values)
    if sequence.ndim != 1:
        raise ValueError(
            f"searchsorted: expected a sorted vector, got shape {tuple(sequence.shape)}"
        )
    dtype = backend.result_type(sequence.dtype, values.dtype)
    return _searchsorted(
        backend.cast(sequence, dtype), backend.cast(values, dtype), right=side == "right"
    )


@op
def digitize(x, bins):
    """int32 index of the bin of each element: the number of edges that are not above it.

    `bins` must be increasing.
    """
    return backend.cast(searchsorted(bins, x, side="right"), "int32")


def _count(name, ids, weights, size):
    if weights is None:
        weights = creation.ones(ids.shape, "int32")
    else:
        weights = backend.convert_to_tensor(weights)
    return index._segment_reduce(weights, ids, num_segments=int(size), reduction="add", wrap=False)


@op
def bincount(x, weights=None, minlength=0, sparse=False):
    """How often each integer occurs in `x` (or the sum of its weights).

    The length is the largest value + 1, at least `minlength`. Inside a compiled function, where
    values are unknown, it is `minlength` and larger values are not counted.

    Shapes: (n,) → (length,); (batch, n) → (batch, length).
    """
    index._dense_only("bincount", sparse)
    x = index._indices(x)
    if isinstance(x, backend.Tensor):
        size = max(int(np.max(np.asarray(x), initial=-1)) + 1, minlength)
    elif minlength > 0:
        size = int(minlength)
    else:
        raise ValueError("bincount: inside a compiled function, minlength must be given")
    if x.ndim == 1:
        return _count("bincount", x, weights, size)
    if x.ndim != 2:
        raise ValueError(f"bincount: expected one or two axes, got shape {tuple(x.shape)}")
    batch, n = x.shape
    inside = OPS["logical_and"](OPS["greater_equal"](x, 0), OPS["less"](x, size))
    rows = shapes.expand_dims(creation.iota(batch, x.dtype) * size, 1)
    ids = OPS["where"](inside, x + rows, backend.convert_to_tensor(-1, x.dtype))
    weights = None if weights is None else shapes.reshape(weights, (batch * n,))
    counts = _count("bincount", shapes.reshape(ids, (batch * n,)), weights, batch * size)
    return shapes.reshape(counts, (batch, size))


@op
def histogram(x, bins=10, range=None):
    """Counts of the elements in equal bins, and the edges of the bins.

    Args:
        bins: number of bins.
        range: (lowest, highest) edge; the extremes of `x` if None.

    Returns:
        (counts, edges) of shapes (bins,) and (bins + 1,).
    """
    x = shapes.ravel(x)
    if not (isinstance(bins, (int, np.integer)) and bins > 0):
        raise ValueError(f"histogram: expected a positive number of bins, got {bins!r}")
    dtype = x.dtype if backend.dtypes.is_float(x.dtype) else backend.floatx()
    if range is None:
        low, high = backend.cast(OPS["min"](x), dtype), backend.cast(OPS["max"](x), dtype)
    else:
        if range[0] > range[1]:
            raise ValueError(f"histogram: expected range[0] <= range[1], got {range}")
        low = backend.convert_to_tensor(float(range[0]), dtype)
        high = backend.convert_to_tensor(float(range[1]), dtype)
    same = OPS["equal"](low, high)
    half = backend.convert_to_tensor(0.5, dtype)
    low, high = OPS["where"](same, low - half, low), OPS["where"](same, high + half, high)
    edges = creation.linspace(low, high, bins + 1, dtype=dtype)
    values = backend.cast(x, dtype)
    ids = _searchsorted(edges, values, right=True) - 1
    ids = OPS["where"](OPS["equal"](values, high), bins - 1, ids)  # the last bin is closed
    ids = OPS["where"](OPS["greater"](values, high), -1, ids)
    counts = _count("histogram", backend.cast(ids, "int32"), None, bins)
    return backend.cast(counts, dtype), edges  # counts in floating point, as Keras gives them


@op
def isin(x1, x2, assume_unique=False, invert=False):
    """Whether each element of `x1` occurs in `x2` (not, if `invert`)."""
    x1, x2 = backend.convert_to_tensor(x1), shapes.ravel(x2)
    if x2.shape[0] == 0:
        found = creation.zeros(x1.shape, "bool")
    else:
        dtype = backend.result_type(x1.dtype, x2.dtype)
        x1, ordered = backend.cast(x1, dtype), _sort(backend.cast(x2, dtype))
        place = OPS["minimum"](_searchsorted(ordered, x1, right=False), x2.shape[0] - 1)
        found = OPS["equal"](index._gather(ordered, place, axis=0), x1)
    return OPS["logical_not"](found) if invert else found
