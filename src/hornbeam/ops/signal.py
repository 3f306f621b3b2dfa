"""Sequences in time: differences, integrals, correlation, frames, Fourier transforms.

Complex tensors are pairs (real, imaginary), as in Keras. The transforms run on the host (NumPy).
"""

from __future__ import annotations

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops import convolution, creation, index, joining, shapes
from hornbeam.ops._common import as_float, canonical_axis, promote

OPS = backend.OPS


# ------------------------------------------------------------------ differences


@op
def diff(a, n=1, axis=-1):
    """Differences of neighbours along `axis`, taken n times.

    Example:

    >>> diff([1, 4, 9]).tolist()
    [3, 5]
    """
    x = backend.convert_to_tensor(a)
    if n < 0:
        raise ValueError(f"diff: expected n >= 0, got {n}")
    axis = canonical_axis("diff", axis, x.ndim)
    for _ in range(n):
        size = list(x.shape)
        if size[axis] == 0:
            break
        size[axis] -= 1
        begin = [1 if i == axis else 0 for i in range(x.ndim)]
        ones, zeros = (1,) * x.ndim, (0,) * x.ndim
        later = shapes.strided_slice(x, begin, size, ones)
        earlier = shapes.strided_slice(x, zeros, size, ones)
        x = OPS["not_equal"](later, earlier) if x.dtype == "bool" else later - earlier
    return x


@op(inputs=("y", "x"))
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """Integral along `axis` by the trapezoidal rule, at points `x` or with spacing `dx`."""
    y = as_float(y)
    axis = canonical_axis("trapezoid", axis, y.ndim)
    y = shapes.moveaxis(y, axis, -1)
    means = (y[..., 1:] + y[..., :-1]) * 0.5
    if x is None:
        return OPS["sum"](means * backend.convert_to_tensor(dx, means.dtype), axis=-1)
    x = as_float(x)
    return OPS["sum"](means * diff(x if x.ndim == 1 else shapes.moveaxis(x, axis, -1)), axis=-1)


@op
def correlate(x1, x2, mode="valid"):
    """Sums of products of `x1` with `x2` moved over it (vectors), as `numpy.correlate`.

    Args:
        mode: "valid" (complete overlap), "same" (length of the longer one) or "full".
    """
    a, b = promote(x1, x2)
    dtype = a.dtype
    a, b = as_float(a), as_float(b)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(
            f"correlate: expected two vectors, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    n, m = a.shape[0], b.shape[0]
    swapped = m > n
    if swapped:
        a, b, n, m = b, a, m, n
    if mode == "full":
        lo = hi = m - 1
    elif mode == "same":
        lo, hi = m // 2, (m - 1) // 2
    elif mode == "valid":
        lo = hi = 0
    else:
        raise ValueError(f"correlate: expected mode 'valid', 'same' or 'full', got {mode!r}")
    y = convolution._conv(
        shapes.reshape(a, (1, n, 1)), shapes.reshape(b, (m, 1, 1)),
        strides=(1,), padding=(lo, hi), dilation=(1,), groups=1,
    )  # fmt: skip
    y = shapes.ravel(y)
    y = shapes.flip(y) if swapped else y
    return y if backend.dtypes.is_float(dtype) else backend.cast(OPS["round"](y), dtype)


@op
def corrcoef(x):
    """Pearson correlation of the rows of `x`."""
    x = as_float(x)
    if x.ndim > 2:
        raise ValueError(f"corrcoef: expected at most two axes, got shape {tuple(x.shape)}")
    if x.ndim < 2:
        return creation.ones((), x.dtype)
    x = x - OPS["mean"](x, axis=1, keepdims=True)
    c = OPS["matmul"](x, shapes.transpose(x))
    d = OPS["sqrt"](creation.diagonal(c))
    return OPS["clip"](c / shapes.expand_dims(d, 1) / shapes.expand_dims(d, 0), -1.0, 1.0)


# ------------------------------------------------------------------ frames


def _frame_places(length, size, stride):
    """Places of the elements of all frames, (frames, size)."""
    count = 1 + (length - size) // stride if length >= size else 0
    starts = shapes.reshape(creation.iota(count, step=stride), (count, 1))
    return starts + shapes.reshape(creation.iota(size), (1, size))


@op(inputs=("x",))
def extract_sequences(x, sequence_length, sequence_stride):
    """Frames of `sequence_length` along the last axis, a step of `sequence_stride` apart.

    Shapes: (…, n) → (…, frames, sequence_length).

    Example:

    >>> extract_sequences([1, 2, 3, 4], 2, 1).tolist()
    [[1, 2], [2, 3], [3, 4]]
    """
    x = backend.convert_to_tensor(x)
    places = _frame_places(x.shape[-1], int(sequence_length), int(sequence_stride))
    return index._gather(x, places, axis=x.ndim - 1)


def _overlap_sequences(x, stride):
    """Frames (…, frames, size) added where they overlap: the transpose of extract_sequences."""
    frames, size = x.shape[-2:]
    length = (frames - 1) * stride + size
    lead = tuple(x.shape[:-2])
    places = shapes.ravel(_frame_places(length, size, stride))
    rows = shapes.moveaxis(shapes.reshape(x, (*lead, frames * size)), -1, 0)
    y = index._segment_reduce(
        rows, backend.convert_to_tensor(places, "int32"),
        num_segments=length, reduction="add", wrap=False,
    )  # fmt: skip
    return shapes.moveaxis(y, 0, -1)


# ------------------------------------------------------------------ Fourier transforms


def _pair(function, axes):
    def host(real, imag, **attrs):
        z = function(real + 1j * imag, **axes)
        return z.real.astype(real.dtype), z.imag.astype(real.dtype)

    return host


def _pair_spec(real, imag):
    return [Spec(tuple(real.shape), real.dtype)] * 2


def _elements(x, axes):
    n = 1
    for a in axes:
        n *= x.shape[a]
    return n


def _transform(name, forward, axes, adjoint, scale):
    """The adjoint of a transform is the inverse one, scaled (n times, or 1 / n)."""

    def gradient(op, dre, dim):
        factor = float(scale(_elements(dre, axes)))
        re, im = adjoint()(dre, dim)
        return re * factor, im * factor

    kw = {"axes": axes} if len(axes) > 1 else {"axis": axes[0]}
    return primitive(name, _pair_spec, gradient, host=_pair(forward, kw), doc=name)


_fft = _transform("fft", np.fft.fft, (-1,), lambda: _ifft, lambda n: n)
_ifft = _transform("ifft", np.fft.ifft, (-1,), lambda: _fft, lambda n: 1 / n)
_fft2 = _transform("fft2", np.fft.fft2, (-2, -1), lambda: _ifft2, lambda n: n)
_ifft2 = _transform("ifft2", np.fft.ifft2, (-2, -1), lambda: _fft2, lambda n: 1 / n)


def _rfft_host(x, n):
    z = np.fft.rfft(x, n)
    return z.real.astype(x.dtype), z.imag.astype(x.dtype)


def _rfft_gradient(op, dre, dim):
    x, n = op.inputs[0], op.n
    rest = n - dre.shape[-1]
    widths = ((0, 0),) * (dre.ndim - 1) + ((0, rest),)
    dx = _ifft(joining.pad(dre, widths), joining.pad(dim, widths))[0] * float(n)
    return _resized(dx, x.shape[-1])


def _resized(x, n):
    """The last axis cut to n, or filled up with zeros."""
    if x.shape[-1] >= n:
        return x[..., :n]
    return joining.pad(x, ((0, 0),) * (x.ndim - 1) + ((0, n - x.shape[-1]),))


_rfft = primitive(
    "rfft",
    lambda x, *, n: [Spec((*x.shape[:-1], n // 2 + 1), x.dtype)] * 2,
    _rfft_gradient,
    host=_rfft_host,
    doc="Half of the spectrum of real sequences of length n.",
)


def _irfft_gradient(op, dy):
    real, n = op.inputs[0], op.n
    re, im = _rfft(dy, n=n)
    twice = np.full(n // 2 + 1, 2.0 / n)
    twice[0] = 1.0 / n
    if n % 2 == 0:
        twice[-1] = 1.0 / n
    twice = backend.convert_to_tensor(twice, dy.dtype)
    return _resized(re * twice, real.shape[-1]), _resized(im * twice, real.shape[-1])


_irfft = primitive(
    "irfft",
    lambda real, imag, *, n: Spec((*real.shape[:-1], n), real.dtype),
    _irfft_gradient,
    host=lambda real, imag, n: np.fft.irfft(real + 1j * imag, n).astype(real.dtype),
    doc="Real sequences of length n of half of their spectrum.",
)


def _complex(name, x):
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(f"{name}: expected a pair (real, imaginary), got {type(x).__name__}")
    real, imag = promote(as_float(x[0]), as_float(x[1]))
    if tuple(real.shape) != tuple(imag.shape):
        raise ValueError(
            f"{name}: expected parts of one shape, got {tuple(real.shape)} and {tuple(imag.shape)}"
        )
    return real, imag


@op
def fft(x):
    """Discrete Fourier transform of the pair (real, imaginary) along the last axis."""
    return tuple(_fft(*_complex("fft", x)))


@op
def fft2(x):
    """Discrete Fourier transform of the pair (real, imaginary) over the last two axes."""
    return tuple(_fft2(*_complex("fft2", x)))


@op
def ifft2(x):
    """Inverse of `fft2`."""
    return tuple(_ifft2(*_complex("ifft2", x)))


@op
def rfft(x, fft_length=None):
    """Transform of real sequences along the last axis, cut or filled up to `fft_length`.

    Returns:
        (real, imaginary), each (…, fft_length // 2 + 1).
    """
    x = as_float(x)
    return tuple(_rfft(x, n=int(x.shape[-1] if fft_length is None else fft_length)))


@op
def irfft(x, fft_length=None):
    """Inverse of `rfft`: real sequences of length `fft_length` (2 (n - 1) if None)."""
    real, imag = _complex("irfft", x)
    return _irfft(real, imag, n=int(2 * (real.shape[-1] - 1) if fft_length is None else fft_length))


def _window(name, window, sequence_length, fft_length, dtype):
    """Window of fft_length: "hann" or "hamming" (periodic), a vector, or None for ones."""
    if window is None:
        values = np.ones(sequence_length)
    elif isinstance(window, str):
        if window not in ("hann", "hamming"):
            raise ValueError(
                f"{name}: expected window 'hann', 'hamming', a tensor or None, got {window!r}"
            )
        a = 0.5 if window == "hann" else 0.54
        angle = 2 * np.pi * np.arange(sequence_length) / sequence_length
        values = a - (1 - a) * np.cos(angle)
    else:
        values = np.asarray(backend.convert_to_numpy(window), "float64")
        if values.shape != (sequence_length,):
            raise ValueError(
                f"{name}: expected a window of shape ({sequence_length},), got {values.shape}"
            )
    before = (fft_length - sequence_length) // 2
    return np.pad(values, (before, fft_length - sequence_length - before))


@op(inputs=("x",))
def stft(x, sequence_length, sequence_stride, fft_length, window="hann", center=True):
    """Short-time Fourier transform: spectra of overlapping windowed frames.

    Args:
        sequence_length: length of the window, at most `fft_length`.
        sequence_stride: step between frames.
        window: "hann", "hamming", a vector, or None.
        center: pad by reflection so that frame t is centred at t * sequence_stride.

    Returns:
        (real, imaginary), each (…, frames, fft_length // 2 + 1).
    """
    x = as_float(x)
    if sequence_length > fft_length:
        raise ValueError(
            f"stft: expected fft_length >= sequence_length, got {fft_length} and {sequence_length}"
        )
    if center:
        half = fft_length // 2
        x = joining.pad(x, ((0, 0),) * (x.ndim - 1) + ((half, half),), mode="reflect")
    values = _window("stft", window, sequence_length, fft_length, x.dtype)
    frames = extract_sequences(x, fft_length, sequence_stride)
    return rfft(frames * backend.convert_to_tensor(values, x.dtype), fft_length)


@op(inputs=("x",))
def istft(x, sequence_length, sequence_stride, fft_length, length=None, window="hann", center=True):
    """Inverse of `stft`: frames, weighted by the window and divided by the sum of its squares."""
    frames = irfft(x, fft_length)
    values = _window("istft", window, sequence_length, fft_length, frames.dtype)
    values = backend.convert_to_tensor(values, frames.dtype)
    y = _overlap_sequences(frames * values, sequence_stride)
    squares = shapes.broadcast_to(values * values, frames.shape[-2:])
    total = _overlap_sequences(squares, sequence_stride)
    y = y / OPS["where"](OPS["greater"](total, 1e-10), total, creation.ones((), y.dtype))
    start = fft_length // 2 if center else 0
    if length is not None:
        end = start + length
    else:
        end = y.shape[-1] - (fft_length // 2 if center else 0)
    return y[..., start:end]
