"""Random numbers from a counter-based generator (Philox 4x32-10).

The numbers of a call are a function of its key alone: the same for any number of threads. Seeds
follow Keras: an int gives the same numbers at every call, a `SeedGenerator` other ones each time,
None draws from the global generator (see `hornbeam.utils.set_random_seed`).
"""

from __future__ import annotations

import random as python_random

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops import creation, index, shapes, sorting
from hornbeam.ops._common import canonical_axis

__all__ = [
    "SeedGenerator",
    "beta",
    "binomial",
    "categorical",
    "dropout",
    "gamma",
    "normal",
    "randint",
    "shuffle",
    "truncated_normal",
    "uniform",
]

OPS = backend.OPS


# ------------------------------------------------------------------ seeds


class SeedGenerator:
    """State for random numbers: every call that uses it gets another key.

    Args:
        seed: an int, or None for one from the system (from the global seed, if
            `set_random_seed` was called).
        name: name of the state variable.

    Example:

    >>> g = SeedGenerator(1337)
    >>> bool((uniform((3,), seed=g) == uniform((3,), seed=g)).numpy().any())
    False
    """

    def __init__(self, seed=None, name=None, **kwargs):
        custom = kwargs.pop("backend", None)
        if kwargs:
            raise ValueError(f"SeedGenerator: unexpected arguments {sorted(kwargs)}")
        del custom
        if seed is None:
            seed = make_default_seed()
        if not isinstance(seed, (int, np.integer)):
            raise ValueError(f"SeedGenerator: expected an int as seed, got {seed!r}")
        if seed < 0:
            raise ValueError(f"SeedGenerator: expected a seed >= 0, got {seed}")
        self.name = name or "seed_generator"
        self._initial_seed = int(seed)
        self.state = backend.Variable(
            np.array([seed & 0xFFFFFFFF, 0], "uint32"),
            shape=(2,),
            dtype="uint32",
            trainable=False,
            aggregation="none",
            name="seed_generator_state",
        )

    def next(self, ordered=True):
        """The current key (uint32[2]); the state moves on. Works inside compiled functions."""
        key = backend.convert_to_tensor(self.state)
        self.state.assign(key + backend.convert_to_tensor(np.array([0, 1], "uint32")))
        return key

    def get_config(self):
        return {"seed": self._initial_seed}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class _Global:
    seed: int | None = None
    generator: SeedGenerator | None = None
    host: np.random.Generator | None = None


def seed_all(seed: int) -> None:
    """Restarts the global generator from `seed` (its part of `set_random_seed`)."""
    _Global.seed = int(seed)
    _Global.host = np.random.default_rng(int(seed))
    if _Global.generator is None:
        _Global.generator = SeedGenerator(int(seed), name="global_seed_generator")
    else:  # compiled functions hold its variable
        _Global.generator.state.assign(np.array([int(seed) & 0xFFFFFFFF, 0], "uint32"))


def make_default_seed() -> int:
    """Seed of generators without one: follows from the global seed if it was set."""
    if _Global.host is not None:
        return int(_Global.host.integers(1, 10**9))
    return python_random.SystemRandom().randrange(1, 10**9)


def global_seed_generator() -> SeedGenerator:
    """The generator that calls without a seed share."""
    if _Global.generator is None:
        _Global.generator = SeedGenerator(name="global_seed_generator")
    return _Global.generator


def draw_seed(seed):
    """Key (uint32[2]) for one call: of an int, a SeedGenerator, or None (the global generator)."""
    if seed is None:
        return global_seed_generator().next()
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        seed = int(seed)
        key = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], "uint32")
        return backend.convert_to_tensor(key)
    if backend.is_tensor(seed) and tuple(seed.shape) == (2,):
        return backend.cast(seed, "uint32")
    raise ValueError(
        f"random: expected a seed that is an int, a SeedGenerator or None, got {seed!r}"
    )


# ------------------------------------------------------------------ primitives


def _numbers(name, doc):
    return primitive(name, lambda key, *, shape, dtype: Spec(tuple(shape), dtype), doc=doc)


_random_uniform = _numbers("random_uniform", "Uniform numbers in [0, 1).")
_random_normal = _numbers("random_normal", "Standard normal numbers.")
_random_truncated_normal = _numbers(
    "random_truncated_normal", "Standard normal numbers between -2 and 2."
)
_random_bits = primitive(
    "random_bits",
    lambda key, *, shape: Spec(tuple(shape), "uint32"),
    doc="32 random bits per element.",
)
_random_integers = primitive(
    "random_integers",
    lambda key, *, shape, dtype, low, high: Spec(tuple(shape), dtype),
    doc="Integers in [low, high).",
)
_random_gamma = primitive(
    "random_gamma",
    lambda key, alpha, rate: Spec(tuple(alpha.shape), alpha.dtype),
    doc="Gamma distributed numbers.",
)
_random_binomial = primitive(
    "random_binomial",
    lambda key, counts, probabilities: Spec(tuple(counts.shape), counts.dtype),
    doc="Binomially distributed numbers.",
)


@op(inputs=("x", "key"), kernel="dropout")
def _dropout(x, key, rate):
    drawn = _random_bits(key, shape=tuple(x.shape))
    keep = OPS["greater_equal"](backend.cast(drawn, "float64"), float(int(rate * 2**32)))
    return OPS["where"](keep, x * (1 / (1 - rate)), creation.zeros((), x.dtype))


@_dropout.gradient
def _(op, dy):
    return _dropout(dy, op.inputs[1], op.rate), None  # the same key chooses the same elements


# ------------------------------------------------------------------ public


def _float_dtype(name, dtype):
    dtype = backend.standardize_dtype(dtype)
    if not backend.dtypes.is_float(dtype):
        raise ValueError(f"{name}: expected a float dtype, got {dtype}")
    return dtype


def _shape(name, shape):
    return shapes.static_ints(name, shape)


def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normally distributed numbers.

    Example:

    >>> normal((2, 3), seed=1).shape
    (2, 3)
    """
    dtype = _float_dtype("normal", dtype)
    z = _random_normal(draw_seed(seed), shape=_shape("normal", shape), dtype=dtype)
    return _scaled(z, stddev, mean)


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normally distributed numbers, redrawn where more than two deviations from the mean."""
    dtype = _float_dtype("truncated_normal", dtype)
    shape = _shape("truncated_normal", shape)
    z = _random_truncated_normal(draw_seed(seed), shape=shape, dtype=dtype)
    return _scaled(z, stddev, mean)


def _scaled(x, scale, offset):
    """x * scale + offset in the dtype of x."""
    if not (isinstance(scale, (int, float)) and scale == 1):
        x = x * backend.convert_to_tensor(scale, x.dtype)
    if not (isinstance(offset, (int, float)) and offset == 0):
        x = x + backend.convert_to_tensor(offset, x.dtype)
    return x


def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    """Numbers evenly distributed in [minval, maxval)."""
    dtype = _float_dtype("uniform", dtype)
    u = _random_uniform(draw_seed(seed), shape=_shape("uniform", shape), dtype=dtype)
    if all(isinstance(v, (int, float)) for v in (minval, maxval)):
        return _scaled(u, maxval - minval, minval)
    low = backend.convert_to_tensor(minval, dtype)
    return _scaled(u, backend.convert_to_tensor(maxval, dtype) - low, low)


def randint(shape, minval, maxval, dtype="int32", seed=None):
    """Integers evenly distributed in [minval, maxval)."""
    dtype = backend.standardize_dtype(dtype)
    if not backend.dtypes.is_int(dtype):
        raise ValueError(f"randint: expected an integer dtype, got {dtype}")
    key, shape = draw_seed(seed), _shape("randint", shape)
    bounds = [
        v.item() if isinstance(v, backend.Tensor) and v.size == 1 else v for v in (minval, maxval)
    ]
    if all(isinstance(v, (int, float, np.integer, np.floating)) for v in bounds):
        low, high = int(bounds[0]), int(bounds[1])
        if low >= high:
            raise ValueError(f"randint: expected minval < maxval, got {low} and {high}")
        return _random_integers(key, shape=shape, dtype=dtype, low=low, high=high)
    low = backend.cast(backend.convert_to_tensor(minval), "float64")
    high = backend.cast(backend.convert_to_tensor(maxval), "float64")
    u = _random_uniform(key, shape=shape, dtype="float64")
    return backend.cast(OPS["floor"](u * (high - low) + low), dtype)


@op(inputs=("logits",))
def _categorical(logits, num_samples, dtype, key):
    logits = backend.convert_to_tensor(logits)
    if logits.ndim != 2:
        raise ValueError(
            f"categorical: expected logits (batch, classes), got shape {tuple(logits.shape)}"
        )
    batch, classes = logits.shape
    u = _random_uniform(key, shape=(batch, int(num_samples), classes), dtype="float32")
    gumbel = -OPS["log"](-OPS["log"](OPS["maximum"](u, 2.0**-25)))
    scores = backend.cast(shapes.expand_dims(logits, 1), "float32") + gumbel
    return backend.cast(OPS["argmax"](scores, axis=-1), dtype)


def categorical(logits, num_samples, dtype="int32", seed=None):
    """Classes drawn with probabilities softmax(logits).

    Shapes: logits (batch, classes) → (batch, num_samples).

    Drawn as the argmax of logits + Gumbel noise.
    """
    return _categorical(logits, num_samples, backend.standardize_dtype(dtype), draw_seed(seed))


@op(inputs=("inputs",))
def _dropped(inputs, rate, noise_shape, seed):
    x = backend.convert_to_tensor(inputs)
    key = draw_seed(seed)
    if rate == 0:
        return x
    if noise_shape is None:
        return _dropout(x, key, float(rate))
    noise_shape = tuple(
        n if m is None else int(m) for n, m in zip(x.shape, noise_shape, strict=True)
    )
    ones = creation.ones(noise_shape, x.dtype)
    return x * _dropout(ones, key, float(rate))


def dropout(inputs, rate, noise_shape=None, seed=None):
    """Elements set to 0 with probability `rate`, the others scaled by 1 / (1 - rate).

    Args:
        noise_shape: shape of the choice, broadcast to the inputs (None: one per element; None in
            it: the size of the inputs).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: expected 0 <= rate < 1, got {rate}")
    return _dropped(inputs, rate, noise_shape, seed)


def gamma(shape, alpha, dtype=None, seed=None):
    """Gamma distributed numbers of shape parameter `alpha` and rate 1."""
    dtype = _float_dtype("gamma", dtype)
    shape = _shape("gamma", shape)
    return backend.cast(_gamma(draw_seed(seed), shape, alpha), dtype)


def _gamma(key, shape, alpha):
    alpha = backend.cast(backend.convert_to_tensor(alpha), "float64")
    alpha = shapes.broadcast_to(alpha, shape)
    return _random_gamma(key, alpha, creation.ones(shape, "float64"))


def beta(shape, alpha, beta, dtype=None, seed=None):
    """Beta distributed numbers."""
    dtype = _float_dtype("beta", dtype)
    shape = _shape("beta", shape)
    key = draw_seed(seed)
    # the second number of every pair under a key of its own
    other = OPS["bitwise_xor"](key, backend.convert_to_tensor(np.array([0, 0x80000000], "uint32")))
    a, b = _gamma(key, shape, alpha), _gamma(other, shape, beta)
    return backend.cast(a / (a + b), dtype)


def binomial(shape, counts, probabilities, dtype=None, seed=None):
    """Numbers of successes in `counts` trials of the given probabilities."""
    dtype = _float_dtype("binomial", dtype)
    shape = _shape("binomial", shape)
    counts, probabilities = (
        shapes.broadcast_to(backend.cast(backend.convert_to_tensor(v), "float64"), shape)
        for v in (counts, probabilities)
    )
    return backend.cast(_random_binomial(draw_seed(seed), counts, probabilities), dtype)


@op(inputs=("x",))
def _shuffled(x, axis, seed):
    x = backend.convert_to_tensor(x)
    axis = canonical_axis("shuffle", axis, x.ndim)
    bits = _random_bits(draw_seed(seed), shape=(x.shape[axis],))
    return index._gather(x, sorting._argsort(bits), axis=axis)


def shuffle(x, axis=0, seed=None):
    """`x` with its slices along `axis` in random order."""
    return _shuffled(x, axis, seed)
