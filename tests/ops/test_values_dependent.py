"""Ops whose result has a shape that depends on values, and forward-mode derivatives."""

import numpy as np
import pytest

from hornbeam import backend, ops


def test_nonzero_and_where():
    x = np.array([[0, 3], [2, 0]])
    for got in (ops.nonzero(x), ops.where(x)):
        np.testing.assert_array_equal(np.stack([np.asarray(g) for g in got]), np.nonzero(x))


def test_unique():
    x = np.array([3, 1, 3, 2])
    got = ops.unique(x, return_index=True, return_inverse=True, return_counts=True)
    for g, e in zip(got, np.unique(x, True, True, True), strict=True):
        np.testing.assert_array_equal(g, e)
    np.testing.assert_array_equal(ops.unique(x, size=5, fill_value=9), [1, 2, 3, 9, 9])
    np.testing.assert_array_equal(ops.unique(x, size=2), [1, 2])


def test_masks_select():
    x = np.arange(6.0).reshape(2, 3)
    t = backend.convert_to_tensor(x)
    np.testing.assert_array_equal(t[t > 2], x[x > 2])


@pytest.mark.parametrize("f", [ops.nonzero, ops.unique, lambda x: x[x > 0]])
def test_tracing_them_is_an_error_that_says_why(f):
    with pytest.raises(ValueError, match="depends on values"):
        backend.function(f)(np.arange(3.0))


def test_bits_are_read_as_another_dtype():
    x = np.arange(8, dtype="float32").reshape(2, 4)
    for dtype in ("int32", "uint8", "float64"):
        np.testing.assert_array_equal(ops.view(x, dtype), x.view(dtype))
    with pytest.raises(ValueError, match="view: the last axis"):
        ops.view(np.ones(3, "float32"), "float64")


def test_select_takes_the_first_condition_that_holds():
    x = np.arange(-3.0, 4)
    conditions, choices = [x > 1, x > -1], [x, x * 2]
    expected = np.select(conditions, choices, 7.0)
    np.testing.assert_array_equal(ops.select(conditions, choices, 7.0), expected)


def test_jvp():
    x, w = np.array([[0.1, 0.2]]), np.array([[1.0, -1.0], [2.0, 0.5]])
    dx, dw = np.ones_like(x), np.full_like(w, 0.5)

    def f(x, w):
        return ops.sin(ops.matmul(x, w)), ops.sum(x)

    (y, total), (dy, dtotal) = ops.jvp(f, (x, w), (dx, dw))
    z = x @ w
    np.testing.assert_allclose(y, np.sin(z))
    np.testing.assert_allclose(dy, np.cos(z) * (dx @ w + x @ dw))
    np.testing.assert_allclose([total, dtotal], [x.sum(), 2.0])
    assert ops.jvp(lambda x: (x, "aux"), (1.0,), (1.0,), has_aux=True)[2] == "aux"


def test_istft_undoes_stft():
    x = np.random.default_rng(0).standard_normal((2, 100))
    for fft_length in (16, 20):
        z = ops.stft(x, 16, 4, fft_length)
        np.testing.assert_allclose(ops.istft(z, 16, 4, fft_length, length=100), x, atol=1e-10)


def test_elastic_transform_moves_pixels_by_little():
    x = np.tile(np.linspace(0, 1, 32), (32, 1))[None, :, :, None].astype("float32")
    y = np.asarray(ops.image.elastic_transform(x, alpha=20.0, sigma=4.0, seed=1))
    assert y.shape == x.shape and (y != x).any()
    assert np.abs(y - x).max() < 0.3
    np.testing.assert_array_equal(y, ops.image.elastic_transform(x, alpha=20.0, sigma=4.0, seed=1))
