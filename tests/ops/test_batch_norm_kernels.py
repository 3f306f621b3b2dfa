"""The kernels of batch normalisation in training, against NumPy in float64.

Run as a script, the file checks every case at the level and with the threads that the environment
asks for, and prints a digest of all results: the tests compare those across numbers of threads.
"""

import hashlib

import numpy as np
import pytest
from support import kernels, levels

# of x and of the parameters
DTYPES = [
    ("float32", "float32"),
    ("float64", "float64"),
    ("float16", "float16"),
    ("float16", "float32"),
    ("bfloat16", "bfloat16"),
    ("bfloat16", "float32"),
]
# of results, with room for the sums; float64: as exact as NumPy's
EPS = {"float32": 2.0**-20, "float64": 2.0**-44, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# that end within vectors, groups of rows and blocks; one and many chunks
SHAPES = [(1, 5), (9, 40, 5), (7, 33), (13, 64), (4099, 70), (300, 900), (60000, 16)]
LARGE = (1 << 16) + 5, 80  # results that go past the caches


def stored(x, dtype):
    if dtype != "bfloat16":
        return x.astype(dtype)
    u = x.astype(np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def values(x, dtype):
    if dtype == "bfloat16":
        x = (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(np.float64).reshape(-1, x.shape[-1]) if x.ndim > 1 else x.astype(np.float64)


def assert_close(got, want, dtype, magnitude, what):
    error = np.abs(values(got, dtype) - want)
    bound = EPS[dtype] * (np.abs(want) + magnitude)
    assert (error <= bound).all(), (what, (error / bound).max())


def check(shape, dtype, kind, residual, relu):
    rng = np.random.default_rng(len(repr(shape)))
    n = shape[-1]
    x = stored(rng.standard_normal(shape) * 2 + 3, dtype)
    skip, dy = (stored(rng.standard_normal(shape), dtype) for _ in range(2))
    gamma, beta = (stored(rng.standard_normal(n), kind) for _ in range(2))
    vx, vdy, vskip = values(x, dtype), values(dy, dtype), values(skip, dtype)
    vgamma, vbeta = values(gamma, kind), values(beta, kind)
    outputs = [(dtype, shape), (kind, (n,)), (kind, (n,))]

    mean, var = vx.mean(0), vx.var(0)
    rstd = 1 / np.sqrt(var + 1e-3)
    want = (vx - mean) * rstd * vgamma + vbeta + (vskip if residual else 0)
    want = np.maximum(want, 0) if relu else want
    inputs = [x, gamma, beta, skip][: 3 + residual]
    attrs = {"epsilon": 1e-3} | ({"activation": "relu"} if relu else {})
    train = kernels.run(
        "batch_norm_train", inputs, [dtype, kind, kind, dtype][: 3 + residual], outputs, **attrs
    )
    assert_close(train[0], want, dtype, 4 + np.abs(vgamma * rstd * mean), "y")
    assert_close(train[1], mean, kind, 1, "mean")
    assert_close(train[2], var, kind, 1e-6, "variance")

    mean, var = (values(v, kind) for v in train[1:])  # as they are stored
    rstd = 1 / np.sqrt(var + 1e-3)
    h = (vx - mean) * rstd
    dgamma, dbeta, rows = (vdy * h).sum(0), vdy.sum(0), len(vx)
    dx = vgamma * rstd * (vdy - dbeta / rows - h * dgamma / rows)
    grad = kernels.run(
        "batch_norm_grad", [x, gamma, *train[1:], dy], [dtype, kind, kind, kind, dtype], outputs,
        epsilon=1e-3,
    )  # fmt: skip
    size = np.abs(vgamma) * rstd * (3 + np.abs(mean) * rstd)
    assert_close(grad[0], dx, dtype, size, "dx")
    exact = kind if dtype != "float16" else "float32"
    for got, want, size in [
        (grad[1], dgamma, np.abs(vdy * h).sum(0)),
        (grad[2], dbeta, np.abs(vdy).sum(0)),
    ]:
        error, bound = np.abs(values(got, kind) - want), EPS[kind] * np.abs(want)
        assert (error <= bound + EPS[exact] * (size + np.abs(mean) * size * rstd.max())).all()
    return train + grad


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
def test_batch_norm(shape, dtype, kind):
    for residual in (False, True):
        check(shape, dtype, kind, residual, relu=residual)
    check(shape, dtype, kind, False, True)


def test_results_larger_than_the_caches():
    check(LARGE, "float32", "float32", True, True)


def test_variance_beside_a_large_mean():
    x = (np.random.default_rng(0).standard_normal((20000, 20)) + 1e4).astype("float32")
    one = np.ones(20, "float32")
    outputs = [("float32", x.shape), ("float32", (20,)), ("float32", (20,))]
    y, mean, var = kernels.run(
        "batch_norm_train", [x, one, one], ["float32"] * 3, outputs, epsilon=0.0
    )
    wide = x.astype("float64")
    np.testing.assert_allclose(mean, wide.mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, wide.var(0), rtol=1e-5)
    np.testing.assert_allclose(y, (wide - wide.mean(0)) / wide.std(0) + 1, atol=2e-3)


def test_nan_stays_nan_through_relu():
    x = np.ones((6, 3), "float32")
    x[2, 1] = np.nan
    one = np.ones(3, "float32")
    outputs = [("float32", x.shape), ("float32", (3,)), ("float32", (3,))]
    y, *_ = kernels.run(
        "batch_norm_train", [x, one, one], ["float32"] * 3, outputs, epsilon=1e-3, activation="relu"
    )
    assert np.isnan(y[:, 1]).all() and not np.isnan(y[:, [0, 2]]).any()


def test_operands_are_checked():
    x, v = np.ones((6, 3), "float32"), np.ones(3, "float32")
    outputs = [("float32", x.shape), ("float32", (3,)), ("float32", (3,))]
    with pytest.raises(RuntimeError, match="residual like the input"):
        kernels.run("batch_norm_train", [x, v, v, v], ["float32"] * 4, outputs, epsilon=1e-3)
    with pytest.raises(RuntimeError, match="vectors of 3 numbers"):
        kernels.run("batch_norm_train", [x, v, v[:2]], ["float32"] * 3, outputs, epsilon=1e-3)


def digest():
    h = hashlib.sha256()
    for shape in SHAPES:
        for dtype, kind in DTYPES:
            for result in check(shape, dtype, kind, True, True):
                h.update(result.tobytes())
    return h.hexdigest()


@pytest.mark.parametrize("level", levels.LEVELS)
def test_every_level_is_right_and_gives_the_same_bits_for_any_number_of_threads(level):
    levels.check_same_bits(__file__, level)


if __name__ == "__main__":
    levels.report(digest())
