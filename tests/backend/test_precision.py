"""The setting of the matrix products' precision, and that programs follow it."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import backend, ops
from hornbeam.backend import _core


@pytest.fixture(autouse=True)
def restore():
    yield
    keras.config.set_matmul_precision("highest")


def test_setting_is_kept_and_known_to_the_core():
    assert keras.config.matmul_precision() == "highest"
    for level, name in enumerate(("highest", "high", "medium")):
        keras.config.set_matmul_precision(name)
        assert keras.config.matmul_precision() == name
        assert _core.matmul_precision() == level


def test_unknown_name():
    with pytest.raises(ValueError, match="expected one of .*'highest'.*got 'low'"):
        keras.config.set_matmul_precision("low")
    assert keras.config.matmul_precision() == "highest"


def test_a_change_compiles_anew_and_the_old_program_is_kept():
    f = backend.function(lambda x: ops.matmul(x, x))
    x = ops.ones((4, 4))
    f(x)
    keras.config.set_matmul_precision("high")
    f(x)
    assert f.cache_info().traces == 2
    keras.config.set_matmul_precision("highest")
    f(x)
    assert f.cache_info().traces == 2 and f.cache_info().hits == 1


@pytest.mark.parametrize("precision, bits", [("highest", 23), ("high", 15), ("medium", 7)])
def test_products_are_at_least_as_exact_as_promised(precision, bits):
    keras.config.set_matmul_precision(precision)
    rng = np.random.default_rng(0)
    a = rng.standard_normal((70, 300)).astype("float32")
    b = rng.standard_normal((300, 90)).astype("float32")
    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(90, use_bias=False)])
    model.layers[0].kernel.assign(b)
    exact = a.astype("float64") @ b
    bound = np.abs(a).astype("float64") @ np.abs(b)
    for got in (ops.matmul(a, b), model(a), model.predict(a, verbose=0)):
        error = np.abs(np.asarray(got) - exact)
        assert (error <= bound * (2.0**-bits + 2.0**-20)).all()


@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(
    "m, n, k", [(37, 45, 64), (37, 45, 65), (3, 5, 4000), (130, 70, 770), (64, 33, 1)]
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_products_are_exact_and_summed_in_float32(dtype, m, n, k, transposed):
    rng = np.random.default_rng(0)
    a = ops.cast(rng.standard_normal((k, m) if transposed[0] else (m, k)), dtype)
    b = ops.cast(rng.standard_normal((n, k) if transposed[1] else (k, n)), dtype)
    bias = ops.cast(rng.standard_normal(n), dtype)

    @backend.function
    def f(a, b, bias):
        a = ops.transpose(a) if transposed[0] else a
        b = ops.transpose(b) if transposed[1] else b
        return ops.relu(ops.matmul(a, b) + bias)

    a64, b64, bias64 = (np.asarray(ops.cast(x, "float64")) for x in (a, b, bias))
    a64, b64 = (a64.T if transposed[0] else a64), (b64.T if transposed[1] else b64)
    exact = np.maximum(a64 @ b64 + bias64, 0)
    error = np.abs(np.asarray(ops.cast(f(a, b, bias), "float64")) - exact)
    ulp = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    rounded = np.abs(a64 @ b64) + exact  # the product itself may be rounded before the bias
    assert (error <= 1.01 * ulp * rounded + 2.0**-19 * (np.abs(a64) @ np.abs(b64))).all()


@pytest.mark.parametrize("dtype, bits", [("float32", 7), ("bfloat16", 7)])
@pytest.mark.parametrize("batch", [3, 4])
@pytest.mark.parametrize("channels, kernel, stride", [(8, 3, 1), (6, 1, 1), (4, 3, 2), (3, 3, 1)])
def test_convolutions_and_their_gradients(dtype, bits, batch, channels, kernel, stride):
    rng = np.random.default_rng(0)
    x = ops.cast(rng.standard_normal((batch, 12, 13, channels)), dtype)
    w = ops.cast(rng.standard_normal((kernel, kernel, channels, 20)), dtype)

    def run(x, w, dy):
        with backend.GradientTape() as tape:
            tape.watch([x, w])
            y = ops.conv(x, w, strides=stride, padding="same")
        return y, *tape.gradient(y, [x, w], dy)

    shape = ops.conv(x, w, strides=stride, padding="same").shape
    arrays = [x, w, ops.cast(rng.standard_normal(shape), dtype)]
    exact = backend.function(run)(*[ops.cast(a, "float64") for a in arrays])
    bound = backend.function(run)(*[ops.abs(ops.cast(a, "float64")) for a in arrays])
    keras.config.set_matmul_precision("medium")
    got = backend.function(run)(*arrays)
    for g, e, b in zip(got, exact, bound, strict=True):
        error = np.abs(np.asarray(ops.cast(g, "float64")) - np.asarray(e))
        assert (error <= np.asarray(b) * 2.0**-bits).all()
