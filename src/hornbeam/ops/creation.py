"""Ops that make tensors: zeros, full, arange, eye, triangles, diagonals, grids, windows."""

from __future__ import annotations

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.backend.tensor import filled
from hornbeam.ops import shapes

OPS = backend.OPS

_iota = primitive(
    "iota",
    lambda *, size, start, step, dtype, integers: Spec((size,), dtype),
    doc="start + i * step for i < size.",
)


def iota(size, dtype="int32", start=0, step=1):
    """start + i * step for i < size, as a tensor of `dtype`."""
    integers = not isinstance(start, float) and not isinstance(step, float)
    return _iota(size=int(size), start=start, step=step, dtype=dtype, integers=integers)


def _dtype_of(x):
    return x.dtype if hasattr(x, "shape") else type(x)


# ------------------------------------------------------------------ constants


@op(inputs=("fill_value",))
def full(shape, fill_value, dtype=None):
    """Tensor of `shape` filled with `fill_value`.

    Example:

    >>> full((2,), 7).tolist()
    [7, 7]
    """
    shape = shapes.static_ints("full", shape)
    dtype = dtype and backend.standardize_dtype(dtype)
    if not backend.is_tracing() and isinstance(fill_value, (bool, int, float)):
        value = backend.convert_to_tensor(fill_value, dtype)
        return filled(shape, value)
    return shapes.broadcast_to(backend.convert_to_tensor(fill_value, dtype), shape)


@op(inputs=())
def zeros(shape, dtype=None):
    """Tensor of zeros; `dtype` is `floatx()` if None."""
    return full(shape, 0, backend.standardize_dtype(dtype))


@op(inputs=())
def ones(shape, dtype=None):
    """Tensor of ones; `dtype` is `floatx()` if None."""
    return full(shape, 1, backend.standardize_dtype(dtype))


@op(inputs=())
def empty(shape, dtype=None):
    """Tensor of any content (zeros)."""
    return zeros(shape, dtype)


@op(inputs=("x", "fill_value"))
def full_like(x, fill_value, dtype=None):
    """`fill_value` in the shape and, unless given, dtype of `x`."""
    x = backend.convert_to_tensor(x)
    return full(x.shape, fill_value, dtype or x.dtype)


@op
def zeros_like(x, dtype=None):
    """Zeros in the shape and, unless given, dtype of `x`."""
    return full_like(x, 0, dtype)


@op
def ones_like(x, dtype=None):
    """Ones in the shape and, unless given, dtype of `x`."""
    return full_like(x, 1, dtype)


@op
def empty_like(x, dtype=None):
    """Any content in the shape and, unless given, dtype of `x` (zeros)."""
    return full_like(x, 0, dtype)


# ------------------------------------------------------------------ ranges


@op(inputs=())
def arange(start, stop=None, step=None, dtype=None):
    """Numbers from `start` (0 if only one is given) up to, not including, `stop`.

    Example:

    >>> arange(1, 10, 3).tolist()
    [1, 4, 7]
    """
    given = [v for v in (start, stop, step) if v is not None]
    if dtype is None:
        dtype = backend.result_type(*(_dtype_of(v) for v in given))
    dtype = backend.standardize_dtype(dtype)
    given = [v.item() if hasattr(v, "item") else v for v in given]
    if stop is None:
        start, stop, step = 0, given[0], given[1] if step is not None else 1
    else:
        start, stop, step = (*given, 1)[:3]
    if step == 0:
        raise ValueError("arange: expected a step other than 0")
    size = max(0, int(np.ceil((stop - start) / step)))
    return iota(size, dtype, start, step)


@op(inputs=("start", "stop"))
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    """`num` evenly spaced numbers from `start` to `stop`; with `retstep` also the step.

    Example:

    >>> linspace(0, 1, 5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if num < 0:
        raise ValueError(f"linspace: expected num >= 0, got {num}")
    if dtype is None:
        dtype = backend.result_type(_dtype_of(start), _dtype_of(stop), float)
    dtype = backend.standardize_dtype(dtype)
    compute = dtype if backend.dtypes.is_float(dtype) else backend.floatx()
    start = backend.convert_to_tensor(start, compute)
    stop = backend.convert_to_tensor(stop, compute)
    intervals = num - 1 if endpoint else num
    span = stop - start
    step = span / max(intervals, 1) if intervals > 0 else span * float("nan")
    ndim = len(span.shape)
    places = shapes.reshape(iota(num, compute, 0.0, 1.0), (num,) + (1,) * ndim)
    out = start + places * (span / max(intervals, 1))
    if endpoint and num > 1:
        last = OPS["equal"](places, num - 1)
        out = OPS["where"](last, shapes.broadcast_to(stop, out.shape), out)
    out = shapes.moveaxis(out, 0, axis) if ndim and axis != 0 else out
    if not backend.dtypes.is_float(dtype):
        out = OPS["floor"](out)
    out = backend.cast(out, dtype)
    return (out, step) if retstep else out


@op(inputs=("start", "stop"))
def logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0):
    """`base` to the powers `linspace(start, stop, num)`."""
    powers = linspace(start, stop, num, endpoint=endpoint, axis=axis)
    out = OPS["power"](backend.convert_to_tensor(base, powers.dtype), powers)
    return out if dtype is None else backend.cast(out, dtype)


@op(inputs=("start", "stop"))
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    """`num` numbers from `start` to `stop` with a constant ratio (both positive)."""
    log_start, log_stop = OPS["log"](start), OPS["log"](stop)
    out = OPS["exp"](linspace(log_start, log_stop, num, endpoint=endpoint, axis=axis))
    return out if dtype is None else backend.cast(out, dtype)


# ------------------------------------------------------------------ matrices


def _offsets(n, m):
    """column - row for all places of an n by m matrix."""
    return shapes.reshape(iota(m), (1, m)) - shapes.reshape(iota(n), (n, 1))


@op(inputs=())
def eye(N, M=None, k=0, dtype=None):
    """Ones on the k-th diagonal of an N by M matrix of zeros."""
    n, m = int(N), int(N if M is None else M)
    return backend.cast(OPS["equal"](_offsets(n, m), int(k)), backend.standardize_dtype(dtype))


@op(inputs=())
def identity(n, dtype=None):
    """The n by n identity matrix."""
    return eye(n, dtype=dtype)


@op(inputs=())
def tri(N, M=None, k=0, dtype=None):
    """Ones on and below the k-th diagonal of an N by M matrix, else zeros."""
    n, m = int(N), int(N if M is None else M)
    return backend.cast(OPS["less_equal"](_offsets(n, m), int(k)), backend.standardize_dtype(dtype))


@op
def tril(x, k=0):
    """The matrices in the last two axes, with zeros above the k-th diagonal."""
    x = backend.convert_to_tensor(x)
    keep = OPS["less_equal"](_offsets(*x.shape[-2:]), int(k))
    return OPS["where"](keep, x, zeros((), x.dtype))


@op
def triu(x, k=0):
    """The matrices in the last two axes, with zeros below the k-th diagonal."""
    x = backend.convert_to_tensor(x)
    keep = OPS["greater_equal"](_offsets(*x.shape[-2:]), int(k))
    return OPS["where"](keep, x, zeros((), x.dtype))


@op
def diagonal(x, offset=0, axis1=0, axis2=1):
    """The diagonal of the matrices along two axes, as the last axis of the result."""
    x = backend.convert_to_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"diagonal: expected at least two axes, got shape {tuple(x.shape)}")
    x = shapes.moveaxis(x, (axis1, axis2), (-2, -1))
    m, n = x.shape[-2:]
    start, count = (
        (offset, min(m, n - offset)) if offset >= 0 else (-offset * n, min(m + offset, n))
    )
    lead, count = tuple(x.shape[:-2]), max(count, 0)
    flat = shapes.reshape(x, (*lead, m * n))
    zeros_, ones_ = (0,) * len(lead), (1,) * len(lead)
    start = start if count else 0
    return shapes.strided_slice(flat, (*zeros_, start), (*lead, count), (*ones_, n + 1))


@op
def diag(x, k=0):
    """The k-th diagonal of a matrix, or a matrix with the vector `x` as k-th diagonal."""
    x = backend.convert_to_tensor(x)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag: expected one or two axes, got shape {tuple(x.shape)}")
    n = x.shape[0] + abs(k)
    start = k if k >= 0 else -k * n
    flat = shapes._slice_grad(x, begin=(start,), strides=(n + 1,), shape=(n * n,))
    return shapes.reshape(flat, (n, n))


@op
def diagflat(x, k=0):
    """Matrix with all elements of `x` on its k-th diagonal."""
    return diag(shapes.ravel(x), k)


@op
def trace(x, offset=0, axis1=0, axis2=1):
    """Sum of the diagonal along two axes."""
    return OPS["sum"](diagonal(x, offset, axis1, axis2), axis=-1)


@op
def vander(x, N=None, increasing=False):
    """Powers of the elements of a vector as columns, the highest first unless `increasing`."""
    x = backend.convert_to_tensor(x)
    n = x.shape[0] if N is None else int(N)
    powers = iota(n) if increasing else iota(n, start=n - 1, step=-1)
    return OPS["power"](shapes.expand_dims(x, 1), backend.cast(powers, x.dtype))


def meshgrid(*x, indexing="xy"):
    """One tensor for each vector: its values along its axis of the common grid.

    Args:
        indexing: "xy" (the first two axes are exchanged) or "ij".
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: expected indexing 'xy' or 'ij', got {indexing!r}")
    return _meshgrid(list(x), indexing)


@op(inputs=("xs",))
def _meshgrid(xs, indexing):
    xs = [shapes.ravel(v) for v in xs]
    grid = tuple(v.shape[0] for v in xs)
    out = []
    for i, v in enumerate(xs):
        v = shapes.reshape(v, tuple(grid[i] if j == i else 1 for j in range(len(xs))))
        v = shapes.broadcast_to(v, grid)
        out.append(shapes.swapaxes(v, 0, 1) if indexing == "xy" and len(xs) > 1 else v)
    return out


# ------------------------------------------------------------------ windows


def _window(name, function):
    def window(x):
        n = int(x)
        return backend.convert_to_tensor(function(n).astype("float64"), backend.floatx())

    window.__name__ = name
    window.__doc__ = f"The {name.capitalize()} window of `x` points (see `numpy.{name}`)."
    return op(inputs=())(window)


bartlett = _window("bartlett", np.bartlett)
blackman = _window("blackman", np.blackman)
hamming = _window("hamming", np.hamming)
hanning = _window("hanning", np.hanning)


@op(inputs=())
def kaiser(x, beta):
    """The Kaiser window of `x` points and shape `beta` (see `numpy.kaiser`)."""
    return backend.convert_to_tensor(np.kaiser(int(x), float(beta)), backend.floatx())
