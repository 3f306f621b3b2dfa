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
