"""Errors of the vectorised functions in units of the last place, as csrc/simd/math.h states them."""

import math

import numpy as np
import pytest

from hornbeam import ops

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
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32(name):
    inputs, reference, bound = FUNCTIONS[name]
    x = inputs.astype(np.float32)
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        exact = reference(x.astype(np.float64))
        unit = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
        got = np.asarray(getattr(ops, name)(x)).astype(np.float64)
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
