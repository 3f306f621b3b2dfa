"""Errors of the vectorised functions in units of the last place, as csrc/simd/math.h states them."""

import math

import numpy as np
import pytest

from hornbeam import backend, ops

R = np.random.default_rng(0)
WIDE = np.concatenate(
    [
        R.normal(0, 3, 40_000),
        R.uniform(-1, 1, 20_000),
        R.uniform(-100, 88, 20_000),
        np.exp(R.uniform(-80, 80, 20_000)) * R.choice([-1, 1], 20_000),
    ]
)
POSITIVE = np.abs(WIDE)
ANGLES = np.concatenate([R.uniform(-8000, 8000, 40_000), R.normal(0, 2, 20_000)])

# name: inputs, reference in float64, bound for float32
FUNCTIONS = {
    "exp": (WIDE, np.exp, 1.5),
    "expm1": (WIDE, np.expm1, 2.0),
    "log": (POSITIVE, np.log, 1.5),
    "log2": (POSITIVE, np.log2, 2.0),
    "log1p": (POSITIVE - 0.99, np.log1p, 2.0),
    "tanh": (WIDE, np.tanh, 3.0),
    "sigmoid": (WIDE, lambda x: 1 / (1 + np.exp(-x)), 3.0),
    "sin": (ANGLES, np.sin, 2.5),
    "cos": (ANGLES, np.cos, 2.5),
    "erf": (WIDE, np.vectorize(math.erf), 2.5),
    "gelu": (WIDE, lambda x: _gelu(x), 6.0),
    "gelu_tanh": (WIDE[WIDE > -3], lambda x: _gelu_tanh(x), 18.0),  # its exponent is rounded
}
_GELU_NAMES = {"gelu": False, "gelu_tanh": True}  # approximate


def _below(x):
    """Normal distribution function."""
    return 0.5 * np.vectorize(math.erfc, [float])(-x * math.sqrt(0.5))


def _gelu(x):
    return x * _below(x)


def _gelu_tanh(x):
    return x / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _function(name):
    if name in _GELU_NAMES:
        return lambda x: ops.gelu(x, approximate=_GELU_NAMES[name])
    return getattr(ops, name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32(name):
    inputs, reference, bound = FUNCTIONS[name]
    x = inputs.astype(np.float32)
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        exact = reference(x.astype(np.float64))
        unit = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
        got = np.asarray(_function(name)(x)).astype(np.float64)
        same = (
            (got == exact)
            | (np.isnan(got) & np.isnan(exact))
            | (np.isinf(got) & ~np.isfinite(unit))
            | ((got == 0) & (np.abs(exact) < np.finfo(np.float32).tiny))  # denormals are zero
        )
        error = np.where(same, 0, np.abs(got - exact) / unit)
    worst = int(np.argmax(error))
    assert error[worst] <= bound, (x[worst], got[worst], exact[worst])


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log2", "log1p", "tanh"])
def test_float64(name):
    """Against NumPy's own float64 functions, which are themselves within an ulp or so."""
    inputs, reference, bound = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        exact = reference(inputs)
        error = np.abs(np.asarray(getattr(ops, name)(inputs)) - exact) / np.spacing(np.abs(exact))
    assert np.nanmax(error) <= bound + 1.5


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("dtype, bound", [("float32", 5e-7), ("float64", 1e-8)])
def test_derivative_of_gelu(approximate, dtype, bound):
    """Against differences of the function in float64, far out and at infinity too."""
    function = _gelu_tanh if approximate else _gelu
    x = np.concatenate([np.linspace(-9, 9, 2001), [-np.inf, -1e30, -40, 40, 1e30, np.inf]]).astype(
        dtype
    )
    with np.errstate(all="ignore"):
        h = 1e-4
        wide = x.astype("float64")
        steps = [8 * function(wide + h), -8 * function(wide - h)]
        steps += [-function(wide + 2 * h), function(wide - 2 * h)]
        slope = np.sum(steps, axis=0) / (12 * h)
    slope = np.where(np.abs(x) >= 40, x > 0, slope)
    with backend.GradientTape() as tape:
        t = backend.convert_to_tensor(x)
        tape.watch(t)
        y = ops.gelu(t, approximate=approximate)
    assert np.max(np.abs(np.asarray(tape.gradient(y, t)) - slope)) < bound


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_at_infinity(approximate, dtype):
    x = np.array([-np.inf, -1e30, 0, 1e30, np.inf, np.nan], dtype)
    y = np.asarray(ops.gelu(x, approximate=approximate))
    np.testing.assert_array_equal(y, np.array([0, 0, 0, 1e30, np.inf, np.nan], dtype))
