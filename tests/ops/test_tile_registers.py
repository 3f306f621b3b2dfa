"""Products on tile registers (AMX): as exact as promised, and what tiles cannot hold is found.

They run where the processor has tiles, or in a build with HORNBEAM_TILES_MODEL=ON, on a software
model of the registers.
"""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import ops
from hornbeam.backend import _core

pytestmark = pytest.mark.skipif(
    _core.isa_level() != "amx", reason="the level amx is not in use (HORNBEAM_ISA=amx)"
)

M, K, N = 270, 600, 260  # no multiples of tiles; large enough to be split
DRAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.random(shape),
    "ill-scaled": lambda rng, shape: (
        rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 21, shape)
    ),
}


@pytest.fixture
def precision(request):
    keras.config.set_matmul_precision(request.param)
    yield request.param
    keras.config.set_matmul_precision("highest")


def errors(a, b):
    """Largest error over sum |a| |b| of the product, and of multiply-adds in the order of k."""
    exact, bound = a.astype("float64") @ b, np.abs(a).astype("float64") @ np.abs(b)
    sums = np.zeros(exact.shape, "float32")
    for k in range(a.shape[1]):
        product = a[:, k, None].astype("float64") * b[k]
        sums = (sums + product).astype("float32")
    got = np.asarray(ops.matmul(a, b))
    return [np.max(np.abs(x - exact) / np.where(bound == 0, 1, bound)) for x in (got, sums)]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("k", [K, 64, 2048])
def test_six_products_are_as_exact_as_multiply_adds(draw, k):
    rng = np.random.default_rng(k)
    a, b = (DRAWS[draw](rng, shape).astype("float32") for shape in ((M, k), (k, N)))
    tiles, multiply_adds = errors(a, b)
    assert tiles <= multiply_adds


def test_six_products_of_sums_that_cancel():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((M, K)), rng.standard_normal((K, N))
    a[:, K // 2 :] = -a[:, : K // 2] * (1 + 2.0**-20)
    b[K // 2 :] = b[: K // 2]
    tiles, multiply_adds = errors(a.astype("float32"), b.astype("float32"))
    assert tiles <= multiply_adds


@pytest.mark.parametrize(
    "exponents", [(-50, -50), (-100, 0), (40, -102), (100, 10), (60, 50)], ids=str
)
def test_six_products_at_the_bounds_of_exponents(exponents):
    rng = np.random.default_rng(0)
    a, b = (
        ((1 + rng.random(shape)) * 2.0**e).astype("float32")
        for shape, e in zip(((M, K), (K, N)), exponents, strict=True)
    )
    tiles, multiply_adds = errors(a, b)
    assert tiles <= multiply_adds


@pytest.mark.parametrize("precision, bits", [("high", 16), ("medium", 7)], indirect=["precision"])
def test_fewer_products_are_as_exact_as_promised(precision, bits):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype("float32") for s in ((M, K), (K, N)))
    tiles, multiply_adds = errors(a, b)
    assert multiply_adds < tiles < 2.0**-bits, "fewer products ran, and no worse than promised"


@pytest.mark.parametrize("draw", DRAWS)
def test_float16_is_rounded_once(draw):
    rng = np.random.default_rng(0)
    scale = 2.0**-15 if draw == "ill-scaled" else 1 / 16
    a, b = ((DRAWS[draw](rng, s) * scale).astype("float16") for s in ((M, K), (K, N)))
    wide = [v.astype("float64") for v in (a, b)]
    exact, bound = wide[0] @ wide[1], np.abs(wide[0]) @ np.abs(wide[1])
    assert 0.1 < np.abs(exact).max() < 60_000
    got = np.asarray(ops.matmul(a, b)).astype("float64")
    half_unit = np.maximum(np.abs(exact) * 2.0**-11, 2.0**-25)
    assert np.all(np.abs(got - exact) <= half_unit + 2.0**-17 * bound)


def test_float16_leaves_out_the_product_of_the_rests():
    a, b = np.zeros((M, K), "float16"), np.zeros((K, N), "float16")
    a[:, 0] = b[0] = 1 + 2.0**-10  # the parts 1 and 2^-10
    a[:, 1], b[1] = -1, 1 + 2.0**-9
    assert not np.asarray(ops.matmul(a, b)).any(), "2^-20 by multiply-adds: no tile registers"


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_float16_that_is_not_finite(bad):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype("float16") for s in ((M, K), (K, N)))
    a[7, 5] = bad
    with np.errstate(invalid="ignore"):
        expected = a.astype("float64") @ b.astype("float64")
    np.testing.assert_allclose(np.asarray(ops.matmul(a, b)), expected, rtol=1e-2, atol=0.1)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 2.0**-120, -(2.0**-103), 2.0**101])
@pytest.mark.parametrize("side", [0, 1])
def test_what_parts_cannot_hold_is_computed_by_multiply_adds(bad, side):
    rng = np.random.default_rng(0)
    operands = [rng.standard_normal(s).astype("float32") for s in ((M, K), (K, N))]
    operands[side][7, 5] = bad
    with np.errstate(invalid="ignore"):
        expected = operands[0].astype("float64") @ operands[1]
    got = np.asarray(ops.matmul(*operands))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_zero_times_infinity_is_not_a_number():
    product = ops.matmul(np.zeros((M, K), "float32"), np.full((K, N), np.inf, "float32"))
    assert np.isnan(np.asarray(product)).all()


def test_weights_that_a_program_packs_once():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((M, K)).astype("float32")
    model = keras.Sequential([keras.Input((K,)), keras.layers.Dense(N, activation="relu")])
    kernel = rng.standard_normal((K, N)).astype("float32")
    for bad in (None, np.inf):  # the range of the weights is kept with them
        if bad:
            kernel[3, 4] = bad
        model.layers[0].kernel.assign(kernel)
        with np.errstate(invalid="ignore"):
            expected = np.maximum(x.astype("float64") @ kernel, 0)
        got = model.predict(x, batch_size=M, verbose=0)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strides", [1, 2])
def test_convolutions_and_their_gradients(strides):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 11, 12, 48)).astype("float32")
    w = rng.standard_normal((5, 5, 48, 150)).astype("float32")

    def loss(x, w):
        return ops.sum(ops.conv(x, w, strides=strides, padding="same") ** 2)

    results = {}
    for dtype in ("float32", "float64"):
        tensors = [keras.Variable(v.astype(dtype)) for v in (x, w)]
        with keras.GradientTape() as tape:
            value = loss(*tensors)
        results[dtype] = [value, *tape.gradient(value, tensors)]
    for got, expected in zip(*results.values(), strict=True):
        expected = np.asarray(expected)
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
