"""First values of variables (`keras.initializers`); random ones are functions of their seed."""

import inspect
import math
import random as python_random

import numpy as np

from hornbeam import backend, ops, random
from hornbeam.saving import object_registration, serialization_lib
from hornbeam.utils import naming


class Initializer:
    """Base class: a callable `(shape, dtype=None)` → tensor."""

    def __call__(self, shape, dtype=None):
        raise NotImplementedError(f"{type(self).__name__} does not implement `__call__()`")

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def clone(self):
        """A new initializer with the same configuration."""
        return type(self).from_config(self.get_config())


class Zeros(Initializer):
    """All zeros."""

    def __call__(self, shape, dtype=None):
        return ops.zeros(shape, dtype=_dtype(dtype))


class Ones(Initializer):
    """All ones."""

    def __call__(self, shape, dtype=None):
        return ops.ones(shape, dtype=_dtype(dtype))


class Constant(Initializer):
    """One value everywhere.

    Args:
        value: a number, or an array that broadcasts to the shape.
    """

    def __init__(self, value=0.0):
        self.value = value

    def __call__(self, shape, dtype=None):
        value = (
            backend.convert_to_numpy(self.value) if backend.is_tensor(self.value) else self.value
        )
        value = backend.convert_to_tensor(value, dtype=_dtype(dtype))
        return ops.broadcast_to(value, tuple(shape))

    def get_config(self):
        return {"value": serialization_lib.serialize_keras_object(self.value)}

    @classmethod
    def from_config(cls, config):
        return cls(serialization_lib.deserialize_keras_object(config["value"]))


class Identity(Initializer):
    """`gain` times the identity matrix.

    Args:
        gain: the number on the diagonal.

    Raises:
        ValueError: a shape that is not of rank 2.
    """

    def __init__(self, gain=1.0):
        self.gain = gain

    def __call__(self, shape, dtype=None):
        if len(shape) != 2:
            raise ValueError(f"Identity: expected a shape of rank 2, got {tuple(shape)}")
        return self.gain * ops.eye(shape[0], shape[1], dtype=_dtype(dtype))

    def get_config(self):
        return {"gain": self.gain}


class STFT(Initializer):
    """Real or imaginary part of a short-time Fourier transform, as a kernel `(T, 1, F // 2 + 1)`.

    `k[t, 0, f] = window[t] / scale * cos(-2 pi t f / F)` (or `sin`).

    Args:
        side: `"real"` or `"imag"`.
        window: `"hann"`, `"hamming"`, `"blackman"`, `"bartlett"`, `"boxcar"`, an array of T values,
            or None.
        scaling: `"density"` (divide by the root of the sum of squares), `"spectrum"` (by the sum of
            absolute values) or None.
        periodic: the window's period is T instead of T - 1.
    """

    def __init__(self, side="real", window="hann", scaling="density", periodic=False):
        if side not in ("real", "imag"):
            raise ValueError(f"STFT: `side` must be 'real' or 'imag', got {side!r}")
        if scaling not in (None, "density", "spectrum"):
            raise ValueError(
                f"STFT: `scaling` must be None, 'density' or 'spectrum', got {scaling!r}"
            )
        if isinstance(window, str):
            window_values(window, 1, periodic)  # raises for an unknown name
        self.side = side
        self.window = window
        self.scaling = scaling
        self.periodic = periodic

    def __call__(self, shape, dtype=None):
        frames, _, bins = shape
        angle = -2.0 * np.pi * np.arange(frames)[:, None, None] * np.arange(bins) / (2 * (bins - 1))
        kernel = np.cos(angle) if self.side == "real" else np.sin(angle)
        if self.window is not None:
            window = self.window
            if isinstance(window, str):
                window = window_values(window, frames, self.periodic)
            window = np.asarray(window, "float64")
            if window.shape != (frames,):
                raise ValueError(
                    f"STFT: expected a window of shape ({frames},), got {window.shape}"
                )
            kernel = kernel * window[:, None, None]
            if self.scaling == "density":
                kernel = kernel / np.sqrt(np.sum(window**2))
            elif self.scaling == "spectrum":
                kernel = kernel / np.sum(np.abs(window))
        return backend.convert_to_tensor(kernel, dtype=_dtype(dtype))

    def get_config(self):
        return {
            "side": self.side,
            "window": self.window,
            "periodic": self.periodic,
            "scaling": self.scaling,
        }


# Coefficients of the cosine-sum windows.
_COSINE_WINDOWS = {
    "boxcar": (1.0,),
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
}


def window_values(name, length, periodic=False):
    """Values of a named window function, shape `(length,)`, float64."""
    if name not in (*_COSINE_WINDOWS, "bartlett"):
        raise ValueError(f"window: expected one of {[*_COSINE_WINDOWS, 'bartlett']}, got {name!r}")
    if length == 1:
        return np.ones(1)
    phase = np.arange(length) / (length if periodic else length - 1)
    if name == "bartlett":
        return 1.0 - np.abs(2.0 * phase - 1.0)
    terms = _COSINE_WINDOWS[name]
    return sum((-1) ** k * c * np.cos(2 * np.pi * k * phase) for k, c in enumerate(terms))


class RandomInitializer(Initializer):
    """Base of the random initializers.

    Args:
        seed: an integer or a `SeedGenerator`; drawn from Python's `random` when None, so that
            `set_random_seed` decides it. The same integer gives the same values at every call.
    """

    def __init__(self, seed=None):
        self._init_seed = seed
        if seed is None:
            seed = python_random.randint(1, 10**9)
        elif isinstance(seed, dict):
            seed = serialization_lib.deserialize_keras_object(seed)
        if not isinstance(seed, (int, random.SeedGenerator)):
            raise ValueError(
                f"{type(self).__name__}: `seed` must be an int or a SeedGenerator, got {seed!r}"
            )
        self.seed = seed

    def get_config(self):
        return {"seed": serialization_lib.serialize_keras_object(self._init_seed)}


class RandomNormal(RandomInitializer):
    """Normal distribution.

    Args:
        mean: mean.
        stddev: standard deviation.
        seed: see `RandomInitializer`.
    """

    def __init__(self, mean=0.0, stddev=0.05, seed=None):
        self.mean = mean
        self.stddev = stddev
        super().__init__(seed)

    def __call__(self, shape, dtype=None):
        return random.normal(
            shape, mean=self.mean, stddev=self.stddev, dtype=_dtype(dtype), seed=self.seed
        )

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


class TruncatedNormal(RandomNormal):
    """Normal distribution; values beyond two standard deviations are drawn again."""

    def __call__(self, shape, dtype=None):
        return random.truncated_normal(
            shape, mean=self.mean, stddev=self.stddev, dtype=_dtype(dtype), seed=self.seed
        )


class RandomUniform(RandomInitializer):
    """Uniform distribution on `[minval, maxval)`.

    Args:
        minval: lower bound.
        maxval: upper bound.
        seed: see `RandomInitializer`.
    """

    def __init__(self, minval=-0.05, maxval=0.05, seed=None):
        self.minval = minval
        self.maxval = maxval
        super().__init__(seed)

    def __call__(self, shape, dtype=None):
        return random.uniform(
            shape, minval=self.minval, maxval=self.maxval, dtype=_dtype(dtype), seed=self.seed
        )

    def get_config(self):
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


class VarianceScaling(RandomInitializer):
    """Values of variance `scale / n`, n the fan-in, the fan-out, or their mean.

    Args:
        scale: positive factor.
        mode: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"`, `"untruncated_normal"` or `"uniform"` (on ±sqrt(3 var)).
        seed: see `RandomInitializer`.
        input_axes: axes that make the fan-in; by default the last but one and the window's.
        output_axes: axes that make the fan-out; by default the last and the window's.

    Raises:
        ValueError: a value outside these.
    """

    def __init__(
        self,
        scale=1.0,
        mode="fan_in",
        distribution="truncated_normal",
        seed=None,
        input_axes=None,
        output_axes=None,
    ):
        if scale <= 0.0:
            raise ValueError(f"VarianceScaling: `scale` must be positive, got {scale}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(
                f"VarianceScaling: `mode` must be 'fan_in', 'fan_out' or 'fan_avg', got {mode!r}"
            )
        distribution = distribution.lower()
        if distribution == "normal":
            distribution = "truncated_normal"
        if distribution not in ("uniform", "truncated_normal", "untruncated_normal"):
            raise ValueError(
                "VarianceScaling: `distribution` must be 'uniform', 'truncated_normal' or "
                f"'untruncated_normal', got {distribution!r}"
            )
        self.scale = scale
        self.mode = mode
        self.distribution = distribution
        self.input_axes = input_axes
        self.output_axes = output_axes
        super().__init__(seed)

    def __call__(self, shape, dtype=None):
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        dtype = _dtype(dtype)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return random.uniform(shape, minval=-limit, maxval=limit, dtype=dtype, seed=self.seed)
        stddev = math.sqrt(variance)
        if self.distribution == "untruncated_normal":
            return random.normal(shape, stddev=stddev, dtype=dtype, seed=self.seed)
        # Standard deviation of a unit normal that is cut off at two.
        return random.truncated_normal(
            shape, stddev=stddev / 0.87962566103423978, dtype=dtype, seed=self.seed
        )

    def get_config(self):
        return {
            **super().get_config(),
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
        }


class _FixedScaling(VarianceScaling):
    """A `VarianceScaling` whose scale, mode and distribution are fixed by the class."""

    _fixed: tuple = ()

    def __init__(self, seed=None, input_axes=None, output_axes=None):
        scale, mode, distribution = self._fixed
        super().__init__(scale, mode, distribution, seed, input_axes, output_axes)

    def get_config(self):
        config = super().get_config()
        return {key: config[key] for key in ("seed", "input_axes", "output_axes")}


class GlorotUniform(_FixedScaling):
    """Uniform on ±sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""

    _fixed = (1.0, "fan_avg", "uniform")


class GlorotNormal(_FixedScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""

    _fixed = (1.0, "fan_avg", "truncated_normal")


class HeNormal(_FixedScaling):
    """Truncated normal of variance 2 / fan_in (He et al., 2015)."""

    _fixed = (2.0, "fan_in", "truncated_normal")


class HeUniform(_FixedScaling):
    """Uniform on ±sqrt(6 / fan_in) (He et al., 2015)."""

    _fixed = (2.0, "fan_in", "uniform")


class LecunNormal(_FixedScaling):
    """Truncated normal of variance 1 / fan_in (LeCun et al., 1998)."""

    _fixed = (1.0, "fan_in", "truncated_normal")


class LecunUniform(_FixedScaling):
    """Uniform on ±sqrt(3 / fan_in) (LeCun et al., 1998)."""

    _fixed = (1.0, "fan_in", "uniform")


class Orthogonal(RandomInitializer):
    """An orthogonal matrix, uniform over all of them (Saxe et al., 2014).

    A shape of higher rank counts as `(product of the others, last)`; the shorter side is
    orthonormal.

    Args:
        gain: factor.
        seed: see `RandomInitializer`.

    Raises:
        ValueError: a shape of rank below 2.
    """

    def __init__(self, gain=1.0, seed=None):
        self.gain = gain
        super().__init__(seed)

    def __call__(self, shape, dtype=None):
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: expected a shape of rank >= 2, got {tuple(shape)}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (max(rows, columns), min(rows, columns))
        normal = random.normal(tall, dtype="float32", seed=self.seed)
        q, r = np.linalg.qr(backend.convert_to_numpy(normal).astype("float64"))
        # With R's diagonal made positive the factorisation is unique, hence Q uniform.
        q = q * np.sign(np.diag(r))
        if rows < columns:
            q = q.T
        return backend.convert_to_tensor(self.gain * q.reshape(shape), dtype=_dtype(dtype))

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


def compute_fans(shape, input_axes=None, output_axes=None):
    """(fan_in, fan_out) of a weight: how many inputs each output sees, and the reverse."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 2:
        size = shape[0] if len(shape) else 1
        return size, size
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


def _fixed(value):
    def initializer(shape, dtype=None):
        if tuple(shape) != tuple(value.shape):
            raise ValueError(
                f"initializer: expected an array of the variable's shape {tuple(shape)}, "
                f"got shape {tuple(value.shape)}"
            )
        return backend.convert_to_tensor(value, dtype=_dtype(dtype))

    return initializer


def _dtype(dtype):
    return backend.standardize_dtype(dtype) if dtype is not None else backend.floatx()


IdentityInitializer = identity = Identity
OrthogonalInitializer = orthogonal = Orthogonal
STFTInitializer = stft = STFT
constant = Constant
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
he_normal = HeNormal
he_uniform = HeUniform
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
ones = Ones
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zeros = Zeros

_BY_NAME = naming.by_name(
    globals(), Initializer, normal=RandomNormal, one=Ones, uniform=RandomUniform, zero=Zeros
)
object_registration.register_namespace("keras.initializers", globals(), Initializer)


def serialize(initializer):
    """Plain data that describes an initializer."""
    return serialization_lib.serialize_keras_object(initializer)


def deserialize(config, custom_objects=None):
    """The initializer that `serialize` described."""
    return serialization_lib.deserialize_keras_object(
        config, custom_objects=custom_objects, module_objects=_BY_NAME
    )


def get(identifier):
    """An initializer from a callable, a class, a name such as `"he_normal"`, a config, an array
    (constant), or None.

    Raises:
        ValueError: none of these.

    Example:

    >>> import hornbeam as keras
    >>> keras.initializers.get("zeros")((2,)).numpy().tolist()
    [0.0, 0.0]
    """
    if identifier is None:
        return None
    found = deserialize(identifier) if isinstance(identifier, (dict, str)) else identifier
    if inspect.isclass(found):
        return found()
    if isinstance(found, np.ndarray | np.generic) or backend.is_tensor(found):
        return _fixed(found)
    if callable(found):
        return found
    raise ValueError(
        f"initializer: expected a callable, a config, an array or one of {sorted(_BY_NAME)}, "
        f"got {identifier!r}"
    )


# `Variable("zeros", shape=…)`: the backend, which stands lower, finds the way up in its table
backend.OPS["get_initializer"] = get
