"""Reductions: many elements to one along axes; and running sums and products.

`axis` is an int, a tuple of ints or None for all axes; negative ones count from the end.
`keepdims=True` leaves the reduced axes in the result with size 1. Sums are taken in trees, so their
rounding error grows with the logarithm of their length, and are the same for any number of threads.
"""

from __future__ import annotations

import builtins
import math

from hornbeam import backend
from hornbeam.backend import dtypes, registry
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops._common import (
    OPS,
    as_bool,
    as_float,
    canonical_axes,
    canonical_axis,
    cast_to,
    promote,
    tensor,
)
from hornbeam.ops.elementwise import divide_no_nan, exp, log, maximum, minimum, sqrt, square, where
from hornbeam.ops.logic import isfinite, isnan

# ------------------------------------------------------------------ primitives


def _kept_shape(shape, axes):
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _reduced_shape(shape, axes, keepdims):
    if keepdims:
        return _kept_shape(shape, axes)
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _reduce_spec(x, *, axes, keepdims):
    return Spec(_reduced_shape(x.shape, axes, keepdims), x.dtype)


def _keep(op, y):
    """A result of the reduction `op` (or its gradient) with the reduced axes put back."""
    return registry.reshape(y, shape=_kept_shape(op.inputs[0].shape, op.axes))


def _reduction(name, gradient=None, doc=None):
    return primitive(name, _reduce_spec, gradient, doc=doc)


def _extreme_gradient(op, dy):
    """Shared evenly by all elements that attain the maximum (minimum)."""
    x = op.inputs[0]
    hit = cast_to(x == _keep(op, op.output), x.dtype)
    return hit * (_keep(op, dy) / _sum(hit, axes=op.axes, keepdims=True))


def _prod_gradient(op, dy):
    """dy times the product of the other elements: right if some of them are 0."""
    x, axes = op.inputs[0], op.axes
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    order = kept + axes
    moved = OPS["transpose"](x, order)
    count = math.prod(x.shape[a] for a in axes)
    rows = registry.reshape(moved, shape=(moved.size // builtins.max(count, 1), count))
    before = _cumulative_prod(rows, axis=1, exclusive=True, reverse=False)
    after = _cumulative_prod(rows, axis=1, exclusive=True, reverse=True)
    others = registry.reshape(before * after, shape=tuple(moved.shape))
    inverse = sorted(range(x.ndim), key=order.__getitem__)
    return _keep(op, dy) * OPS["transpose"](others, inverse)


_sum = _reduction(
    "reduce_sum",
    lambda op, dy: OPS["broadcast_to"](_keep(op, dy), op.inputs[0].shape),
    "Sum over `axes`.",
)
_prod = _reduction("reduce_prod", _prod_gradient, "Product over `axes`.")
_max = _reduction("reduce_max", _extreme_gradient, "Maximum over `axes`; NaN if there is one.")
_min = _reduction("reduce_min", _extreme_gradient, "Minimum over `axes`; NaN if there is one.")
_any = _reduction("reduce_any", doc="Whether one truth value over `axes` is true.")
_all = _reduction("reduce_all", doc="Whether all truth values over `axes` are true.")


def _arg_spec(x, *, axis):
    return Spec(x.shape[:axis] + x.shape[axis + 1 :], "int32")


_argmax = primitive("reduce_argmax", _arg_spec, doc="First index of the maximum (or of a NaN).")
_argmin = primitive("reduce_argmin", _arg_spec, doc="First index of the minimum (or of a NaN).")


def _same_spec(x, **attrs):
    return Spec(tuple(x.shape), x.dtype)


_cumulative_sum = primitive(
    "cumulative_sum",
    _same_spec,
    lambda op, dy: _cumulative_sum(
        dy, axis=op.axis, exclusive=op.exclusive, reverse=not op.reverse
    ),
    doc="Sums of all elements up to each one along `axis` (`exclusive`: without itself; `reverse`: "
    "from the end).",
)
_cumulative_prod = primitive(
    "cumulative_prod",
    _same_spec,
    # exact where no element is 0
    lambda op, dy: divide_no_nan(
        _cumulative_sum(
            dy * op.output, axis=op.axis, exclusive=op.exclusive, reverse=not op.reverse
        ),
        op.inputs[0],
    ),
    doc="Products, as `cumulative_sum` has sums.",
)


def _apply(name, function, x, axis, keepdims):
    axes = canonical_axes(name, axis, x.ndim)
    return function(x, axes=axes, keepdims=builtins.bool(keepdims)) if axes else x


def _wide(x):
    """Integers shorter than 32 bits are summed as 32-bit ones."""
    x = tensor(x)
    if x.dtype in ("bool", "int8", "int16"):
        return cast_to(x, "int32")
    return cast_to(x, "uint32") if x.dtype in ("uint8", "uint16") else x


def _count(x, axis, name):
    """Number of elements that go into one result."""
    return math.prod(x.shape[a] for a in canonical_axes(name, axis, x.ndim))


# ------------------------------------------------------------------ sums and extremes


@op(inputs=("x",), name="sum")
def sum(x, axis=None, keepdims=False):
    """Sum over `axis`. Integers shorter than 32 bits give int32 (uint32).

    Example:

    >>> from hornbeam import ops
    >>> ops.sum([[1, 2], [3, 4]], axis=0).tolist()
    [4, 6]
    """
    return _apply("sum", _sum, _wide(x), axis, keepdims)


@op(inputs=("x",), name="prod")
def prod(x, axis=None, keepdims=False, dtype=None):
    """Product over `axis`.

    Args:
        dtype: dtype to compute in; that of `x` (integers at least 32 bits) if None.

    Example:

    >>> from hornbeam import ops
    >>> ops.prod([[1, 2], [3, 4]], axis=0).tolist()
    [3, 8]
    """
    x = _wide(x) if dtype is None else cast_to(tensor(x), backend.standardize_dtype(dtype))
    return _apply("prod", _prod, x, axis, keepdims)


def _extreme(name, function, choose, x, axis, keepdims, initial=None):
    x = tensor(x)
    if initial is None and _count(x, axis, name) == 0:
        raise ValueError(
            f"{name}: nothing to reduce; expected at least one element along axis {axis}, "
            f"got shape {tuple(x.shape)}; pass initial="
        )
    if x.size == 0 and _count(x, axis, name) == 0:
        axes = canonical_axes(name, axis, x.ndim)
        shape = _reduced_shape(x.shape, axes, keepdims)
        return OPS["full"](shape, initial, dtype=x.dtype)
    y = _apply(name, function, x, axis, keepdims)
    return y if initial is None else choose(y, cast_to(tensor(initial), x.dtype))


@op(inputs=("x",), name="max")
def max(x, axis=None, keepdims=False, initial=None):
    """Largest element over `axis`; NaN if there is one. The gradient is shared by equal maxima.

    Args:
        initial: smallest value of the result; needed where there are no elements.

    Example:

    >>> from hornbeam import ops
    >>> ops.max([[1, 4], [3, 2]], axis=1).tolist()
    [4, 3]
    """
    return _extreme("max", _max, maximum, x, axis, keepdims, initial)


@op(inputs=("x",), name="min")
def min(x, axis=None, keepdims=False, initial=None):
    """Smallest element over `axis`; NaN if there is one. The gradient is shared by equal minima.

    Args:
        initial: largest value of the result; needed where there are no elements.

    Example:

    >>> from hornbeam import ops
    >>> ops.min([[1, 4], [3, 2]], axis=1).tolist()
    [1, 2]
    """
    return _extreme("min", _min, minimum, x, axis, keepdims, initial)


@op(inputs=("x",))
def amax(x, axis=None, keepdims=False):
    """Largest element over `axis`; see `max`."""
    return max(x, axis, keepdims)


@op(inputs=("x",))
def amin(x, axis=None, keepdims=False):
    """Smallest element over `axis`; see `min`."""
    return min(x, axis, keepdims)


@op(inputs=("x",))
def ptp(x, axis=None, keepdims=False):
    """Largest minus smallest element over `axis`.

    Example:

    >>> from hornbeam import ops
    >>> ops.ptp([1, 5, 3]).tolist()
    4
    """
    x = tensor(x)
    return max(x, axis, keepdims) - min(x, axis, keepdims)


@op(inputs=("x",), name="any")
def any(x, axis=None, keepdims=False):
    """Whether one element over `axis` is true (not 0).

    Example:

    >>> from hornbeam import ops
    >>> ops.any([[True, False], [False, False]], axis=1).tolist()
    [True, False]
    """
    return _apply("any", _any, as_bool(x), axis, keepdims)


@op(inputs=("x",), name="all")
def all(x, axis=None, keepdims=False):
    """Whether all elements over `axis` are true (not 0).

    Example:

    >>> from hornbeam import ops
    >>> ops.all([[True, False], [True, True]], axis=1).tolist()
    [False, True]
    """
    return _apply("all", _all, as_bool(x), axis, keepdims)


@op(inputs=("x",))
def count_nonzero(x, axis=None):
    """Number of elements over `axis` that are not 0, as int32.

    Example:

    >>> from hornbeam import ops
    >>> ops.count_nonzero([0, 3, 0, 1]).tolist()
    2
    """
    return sum(cast_to(as_bool(x), "int32"), axis)


# ------------------------------------------------------------------ where the extremes are


def _arg(name, function, x, axis, keepdims):
    x = tensor(x)
    if x.dtype == "bool":
        x = cast_to(x, "uint8")
    shape = tuple(x.shape)
    if axis is None:
        flat = registry.reshape(x, shape=(x.size,))
        position, kept = 0, (1,) * len(shape)
    else:
        flat, position = x, canonical_axis(name, axis, len(shape))
        kept = _kept_shape(shape, (position,))
    if flat.shape[position] == 0:
        raise ValueError(f"{name}: expected at least one element along axis {axis}, got {shape}")
    y = function(flat, axis=position)
    return registry.reshape(y, shape=kept) if keepdims else y


@op(inputs=("x",), name="argmax")
def argmax(x, axis=None, keepdims=False):
    """Index (int32) of the largest element along `axis`, the first if several; NaN counts as it.

    Args:
        axis: an int; None: the index into the flattened `x`.

    Example:

    >>> from hornbeam import ops
    >>> ops.argmax([[1, 4], [3, 2]], axis=1).tolist()
    [1, 0]
    """
    return _arg("argmax", _argmax, x, axis, keepdims)


@op(inputs=("x",), name="argmin")
def argmin(x, axis=None, keepdims=False):
    """Index (int32) of the smallest element along `axis`, the first if several; NaN counts as it.

    Args:
        axis: an int; None: the index into the flattened `x`.

    Example:

    >>> from hornbeam import ops
    >>> ops.argmin([[1, 4], [3, 2]], axis=1).tolist()
    [0, 1]
    """
    return _arg("argmin", _argmin, x, axis, keepdims)


# ------------------------------------------------------------------ running sums


def _cumulative(name, function, x, axis, dtype):
    x = tensor(x)
    if dtype is not None:
        x = cast_to(x, backend.standardize_dtype(dtype))
    elif x.dtype == "bool":
        x = cast_to(x, "int32")
    if axis is None:
        x, axis = registry.reshape(x, shape=(x.size,)), 0
    axis = canonical_axis(name, axis, x.ndim)
    return function(x, axis=axis, exclusive=False, reverse=False)


@op(inputs=("x",))
def cumsum(x, axis=None, dtype=None):
    """Sums of the elements up to each one along `axis` (None: of the flattened `x`).

    Example:

    >>> from hornbeam import ops
    >>> ops.cumsum([1, 2, 3]).tolist()
    [1, 3, 6]
    """
    return _cumulative("cumsum", _cumulative_sum, x, axis, dtype)


@op(inputs=("x",))
def cumprod(x, axis=None, dtype=None):
    """Products of the elements up to each one along `axis` (None: of the flattened `x`).

    Example:

    >>> from hornbeam import ops
    >>> ops.cumprod([1, 2, 3]).tolist()
    [1, 2, 6]
    """
    return _cumulative("cumprod", _cumulative_prod, x, axis, dtype)


# ------------------------------------------------------------------ means


def _wide_float(x):
    """(floats of 32 bits at least, dtype of the result): sums of half floats would overflow."""
    x = as_float(x)
    return (cast_to(x, "float32") if dtypes.item_bytes(x.dtype) == 2 else x), x.dtype


@op(inputs=("x",))
def mean(x, axis=None, keepdims=False):
    """Arithmetic mean over `axis`; a float, also of integers.

    Example:

    >>> from hornbeam import ops
    >>> ops.mean([[1, 2], [3, 4]], axis=1).tolist()
    [1.5, 3.5]
    """
    x, dtype = _wide_float(x)
    n = _count(x, axis, "mean")
    return cast_to(sum(x, axis, keepdims) * (1.0 / n if n else math.nan), dtype)


@op(inputs=("x",))
def var(x, axis=None, keepdims=False):
    """Mean squared distance from the mean over `axis`.

    Example:

    >>> from hornbeam import ops
    >>> ops.var([1, 3]).tolist()
    1.0
    """
    x, dtype = _wide_float(x)
    return cast_to(mean(square(x - mean(x, axis, True)), axis, keepdims), dtype)


@op(inputs=("x",))
def std(x, axis=None, keepdims=False):
    """Standard deviation over `axis`, the square root of `var`.

    Example:

    >>> from hornbeam import ops
    >>> ops.std([1, 3]).tolist()
    1.0
    """
    x, dtype = _wide_float(x)
    return cast_to(sqrt(var(x, axis, keepdims)), dtype)


@op(inputs=("x",))
def moments(x, axes, keepdims=False, synchronized=False):
    """Mean and variance of `x` over `axes`: a pair.

    Args:
        synchronized: over all replicas; there is one here, so it must be False.

    Example:

    >>> from hornbeam import ops
    >>> [float(m) for m in ops.moments([1.0, 3.0], axes=0)]
    [2.0, 1.0]
    """
    if synchronized:
        raise NotImplementedError("moments: synchronized moments need more than one replica")
    x, dtype = _wide_float(x)
    center = mean(x, axes, True)
    variance = mean(square(x - center), axes, keepdims)
    center = registry.reshape(center, shape=tuple(variance.shape))
    return cast_to(center, dtype), cast_to(variance, dtype)


@op(inputs=("x", "weights"))
def average(x, axis=None, weights=None):
    """Mean of `x` over `axis`, weighted if there are `weights`.

    Args:
        axis: an int, or None for all axes.
        weights: of the shape of `x`, or one weight for each position along `axis`.

    Example:

    >>> from hornbeam import ops
    >>> ops.average([1.0, 2.0], weights=[3.0, 1.0]).tolist()
    1.25
    """
    if weights is None:
        return mean(x, axis)
    x, weights = promote(x, weights, at_least=(float,))
    if weights.shape != x.shape:
        if axis is None or isinstance(axis, (tuple, list)) or weights.ndim != 1:
            raise ValueError(
                "average: expected weights of the shape of x, or 1-D weights and one axis; got "
                f"weights {tuple(weights.shape)}, x {tuple(x.shape)}, axis {axis}"
            )
        axis = canonical_axis("average", axis, x.ndim)
        if weights.shape[0] != x.shape[axis]:
            raise ValueError(
                f"average: expected {x.shape[axis]} weights (axis {axis} of x), "
                f"got {weights.shape[0]}"
            )
        shape = [1] * x.ndim
        shape[axis] = x.shape[axis]
        weights = registry.reshape(weights, shape=tuple(shape))
    total = sum(OPS["broadcast_to"](weights, x.shape), axis)
    return sum(x * weights, axis) / total


@op(inputs=("x",))
def logsumexp(x, axis=None, keepdims=False):
    """log(sum(e^x)) over `axis`, without overflow.

    Example:

    >>> from hornbeam import ops
    >>> ops.logsumexp([1000.0]).tolist()
    1000.0
    """
    x = as_float(x)
    top = backend.stop_gradient(max(x, axis, True))
    top = where(isfinite(top), top, 0.0)
    y = log(sum(exp(x - top), axis, True)) + top
    axes = canonical_axes("logsumexp", axis, x.ndim)
    return y if keepdims else registry.reshape(y, shape=_reduced_shape(x.shape, axes, False))


# ------------------------------------------------------------------ without NaN


def _without_nan(x, value):
    x = tensor(x)
    return where(isnan(x), value, x) if dtypes.is_float(x.dtype) else x


@op(inputs=("x",))
def nansum(x, axis=None, keepdims=False):
    """Sum over `axis`, NaN counted as 0."""
    return sum(_without_nan(x, 0.0), axis, keepdims)


@op(inputs=("x",))
def nanprod(x, axis=None, keepdims=False):
    """Product over `axis`, NaN counted as 1."""
    return prod(_without_nan(x, 1.0), axis, keepdims)


@op(inputs=("x",))
def nancumsum(x, axis=None, dtype=None):
    """Running sums along `axis`, NaN counted as 0."""
    return cumsum(_without_nan(x, 0.0), axis, dtype)


@op(inputs=("x",))
def nancumprod(x, axis=None, dtype=None):
    """Running products along `axis`, NaN counted as 1."""
    return cumprod(_without_nan(x, 1.0), axis, dtype)


def _nan_extreme(function, worst, x, axis, keepdims):
    x = tensor(x)
    if not dtypes.is_float(x.dtype):
        return function(x, axis, keepdims)
    y = function(_without_nan(x, worst), axis, keepdims)
    return where(all(isnan(x), axis, keepdims), math.nan, y)


@op(inputs=("x",))
def nanmax(x, axis=None, keepdims=False):
    """Largest element over `axis` that is not NaN; NaN if there is none."""
    return _nan_extreme(max, -math.inf, x, axis, keepdims)


@op(inputs=("x",))
def nanmin(x, axis=None, keepdims=False):
    """Smallest element over `axis` that is not NaN; NaN if there is none."""
    return _nan_extreme(min, math.inf, x, axis, keepdims)


def _nan_arg(function, worst, x, axis, keepdims):
    x = tensor(x)
    if not dtypes.is_float(x.dtype):
        return function(x, axis, keepdims)
    y = function(_without_nan(x, worst), axis, keepdims)
    return where(all(isnan(x), axis, keepdims), -1, y)


@op(inputs=("x",))
def nanargmax(x, axis=None, keepdims=False):
    """Index of the largest element that is not NaN; -1 if there is none."""
    return _nan_arg(argmax, -math.inf, x, axis, keepdims)


@op(inputs=("x",))
def nanargmin(x, axis=None, keepdims=False):
    """Index of the smallest element that is not NaN; -1 if there is none."""
    return _nan_arg(argmin, math.inf, x, axis, keepdims)


def _nan_count(x, axis, keepdims):
    return sum(cast_to(~isnan(x), x.dtype), axis, keepdims)


@op(inputs=("x",))
def nanmean(x, axis=None, keepdims=False):
    """Mean over `axis` of what is not NaN; NaN if there is nothing.

    Example:

    >>> from hornbeam import ops
    >>> ops.nanmean([1.0, float("nan"), 3.0]).tolist()
    2.0
    """
    x = as_float(x)
    return nansum(x, axis, keepdims) / _nan_count(x, axis, keepdims)


@op(inputs=("x",))
def nanvar(x, axis=None, keepdims=False):
    """Variance over `axis` of what is not NaN."""
    x = as_float(x)
    distance = square(x - nanmean(x, axis, True))
    return nansum(distance, axis, keepdims) / _nan_count(x, axis, keepdims)


@op(inputs=("x",))
def nanstd(x, axis=None, keepdims=False):
    """Standard deviation over `axis` of what is not NaN."""
    return sqrt(nanvar(x, axis, keepdims))
