"""Denormal numbers count as zero in programs, on every thread; the caller's arithmetic keeps them."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import ops

SIZE = 1 << 20  # enough for all threads


@pytest.mark.parametrize("dtype,small", [("float32", 1e-30), ("float64", 1e-300)])
def test_denormal_operands_and_results_are_zero(dtype, small):
    tiny = np.finfo(dtype).tiny
    x = np.full(SIZE, small, dtype)
    product = ops.multiply(x, np.asarray(small * 1e-5, dtype))
    assert not np.any(product.numpy())
    assert not np.any(ops.multiply(np.full(SIZE, tiny / 4, dtype), 2.0).numpy())
    np.testing.assert_array_equal(ops.multiply(np.full(SIZE, tiny, dtype), 1.0), tiny)


def test_matmul_flushes_too():
    a = np.full((64, 64), 1e-39, "float32")
    assert not np.any(ops.matmul(a, np.ones((64, 64), "float32")).numpy())


def test_the_caller_keeps_denormals():
    half = np.float32(np.finfo("float32").tiny) / np.float32(2)
    ops.exp(np.zeros(4, "float32"))
    assert half > 0 and half + half == np.finfo("float32").tiny


def test_functions_of_numpy_inside_a_program_keep_denormals():
    # the singular values are found by NumPy
    x = np.diag(np.array([1e-40, 1e-41], "float32"))
    with_numpy = np.linalg.svd(x, compute_uv=False)
    assert with_numpy[0] > 0
    np.testing.assert_array_equal(ops.svd(x, compute_uv=False), with_numpy)


def test_half_precision_keeps_its_own():
    # float16 numbers below 2^-14 are ordinary float32 numbers, in which they are computed.
    x = np.full(SIZE, 6e-8, "float16")
    assert float(ops.sum(ops.cast(x * np.float16(1), "float32") > 0)) == SIZE
    np.testing.assert_array_equal(ops.add(x, x), x + x)


def test_training_through_denormal_gradients():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    x = np.full((8, 4), 1e-39, "float32")
    loss = model.train_on_batch(x, np.zeros((8, 3), "float32"))
    assert np.isfinite(loss) and all(np.all(np.isfinite(w)) for w in model.get_weights())
