"""Order statistics: medians, quantiles and percentiles."""

from __future__ import annotations

import math

import numpy as np

from hornbeam import backend
from hornbeam.backend import registry
from hornbeam.backend.registry import op
from hornbeam.ops._common import as_float, canonical_axes, cast_to
from hornbeam.ops.elementwise import ceil, floor, maximum, where
from hornbeam.ops.elementwise import round as round_
from hornbeam.ops.index import take_along_axis
from hornbeam.ops.logic import isnan
from hornbeam.ops.reduce import any as any_
from hornbeam.ops.reduce import sum as sum_
from hornbeam.ops.shapes import broadcast_to, transpose
from hornbeam.ops.sorting import sort

_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(name, x, q, axis, method, keepdims, ignore_nan):
    """Sorted rows, read at q (n - 1), where n counts the elements (that are not NaN) of the row."""
    if method not in _METHODS:
        raise ValueError(f"{name}: expected a method of {_METHODS}, got {method!r}")
    x = as_float(x)
    if not isinstance(q, backend.Value):
        q = np.asarray(q, np.float64)
        if q.size and not (0 <= q.min() and q.max() <= 1):
            raise ValueError(f"{name}: expected probabilities in [0, 1], got {q}")
    q = backend.convert_to_tensor(q, x.dtype)
    if q.ndim > 1:
        raise ValueError(f"{name}: expected q of rank 0 or 1, got shape {tuple(q.shape)}")
    axes = canonical_axes(name, axis, x.ndim)
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    n = math.prod(x.shape[a] for a in axes)
    if n == 0:
        raise ValueError(f"{name}: expected at least one element, got shape {tuple(x.shape)}")
    outer = tuple(x.shape[i] for i in kept)
    rows = registry.reshape(transpose(x, kept + axes), shape=(math.prod(outer), n))
    missing = isnan(rows)
    values = sort(where(missing, math.inf, rows), axis=1)
    if ignore_nan:
        count = sum_(cast_to(~missing, x.dtype), axis=1, keepdims=True)
    else:
        count = backend.convert_to_tensor(float(n), x.dtype)
    points = registry.reshape(q, shape=(1, q.size))
    position = broadcast_to(points * maximum(count - 1.0, 0.0), (rows.shape[0], q.size))
    low, high = floor(position), ceil(position)
    if method == "lower":
        high = low
    elif method == "higher":
        low = high
    elif method == "nearest":
        low = high = round_(position)
    below = take_along_axis(values, cast_to(low, "int32"), axis=1)
    above = take_along_axis(values, cast_to(high, "int32"), axis=1)
    weight = 0.5 if method == "midpoint" else position - low
    # equal ends first: infinities have no difference
    y = where(below == above, below, below + (above - below) * weight)
    unknown = count == 0.0 if ignore_nan else any_(missing, axis=1, keepdims=True)
    y = transpose(where(unknown, math.nan, y), (1, 0))
    if keepdims:
        outer = tuple(1 if i in axes else size for i, size in enumerate(x.shape))
    return registry.reshape(y, shape=tuple(q.shape) + outer)


@op(inputs=("x", "q"))
def quantile(x, q, axis=None, method="linear", keepdims=False):
    """The values below which a part `q` of the elements over `axis` lies; NaN if one is NaN.

    Args:
        q: number or 1-D tensor of numbers in [0, 1].
        method: how to read between two elements: "linear", "lower", "higher", "midpoint", "nearest".

    Shapes:
        The shape of `q`, then that of `x` without the reduced axes.

    Example:

    >>> from hornbeam import ops
    >>> ops.quantile([1.0, 2.0, 3.0, 5.0], [0.0, 0.5, 1.0]).tolist()
    [1.0, 2.5, 5.0]
    """
    return _quantile("quantile", x, q, axis, method, keepdims, False)


@op(inputs=("x", "q"))
def nanquantile(x, q, axis=None, method="linear", keepdims=False):
    """`quantile` of what is not NaN; NaN if there is nothing."""
    return _quantile("nanquantile", x, q, axis, method, keepdims, True)


def _percent(q):
    return (q if isinstance(q, backend.Value) else np.asarray(q)) / 100.0


@op(inputs=("x", "q"))
def percentile(x, q, axis=None, method="linear", keepdims=False):
    """`quantile` with `q` in percent, [0, 100].

    Example:

    >>> from hornbeam import ops
    >>> ops.percentile([1.0, 2.0, 3.0, 5.0], 50).tolist()
    2.5
    """
    return _quantile("percentile", x, _percent(q), axis, method, keepdims, False)


@op(inputs=("x", "q"))
def nanpercentile(x, q, axis=None, method="linear", keepdims=False):
    """`percentile` of what is not NaN; NaN if there is nothing."""
    return _quantile("nanpercentile", x, _percent(q), axis, method, keepdims, True)


@op(inputs=("x",))
def median(x, axis=None, keepdims=False):
    """Middle of the sorted elements over `axis` (of an even number, the mean of the two middle ones).

    Example:

    >>> from hornbeam import ops
    >>> ops.median([3.0, 1.0, 2.0]).tolist()
    2.0
    """
    return _quantile("median", x, 0.5, axis, "linear", keepdims, False)


@op(inputs=("x",))
def nanmedian(x, axis=None, keepdims=False):
    """`median` of what is not NaN; NaN if there is nothing."""
    return _quantile("nanmedian", x, 0.5, axis, "linear", keepdims, True)
