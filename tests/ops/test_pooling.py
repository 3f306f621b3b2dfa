"""Pooling over whole vectors of channels, against windows cut out one by one in float64."""

import itertools

import numpy as np
import pytest

from hornbeam import ops
from hornbeam.backend import GradientTape, convert_to_tensor, function

# shape of x without channels, size, strides, padding
GEOMETRIES = [
    ((2, 9, 11), (2, 2), (2, 2), "valid"),  # rows and columns that no window has
    ((2, 9, 11), (2, 2), (2, 2), "same"),
    ((2, 8, 12), (2, 2), (2, 2), "same"),  # every element has a window of four
    ((2, 5, 8, 6), (1, 2, 2), (1, 2, 2), "valid"),
    ((1, 7, 8), (3, 3), (2, 2), "same"),  # windows overlap
    ((1, 12, 10), (2, 3), (4, 4), "valid"),  # gaps between them
    ((2, 13), (3,), (2,), "valid"),
    ((1, 5, 4, 6), (2, 2, 2), (2, 2, 2), "same"),
    ((1, 5, 4, 6), (3, 2, 2), (1, 2, 1), "valid"),
]
CHANNELS = [1, 21, 64, 117]
DTYPES = ["float32", "float64", "float16", "bfloat16"]


def windows(shape, size, strides, padding):
    """(index of the output, index of the window) for all outputs of all samples."""
    axes = []
    for n, k, s in zip(shape[1:], size, strides, strict=True):
        out = -(-n // s) if padding == "same" else (n - k) // s + 1
        before = max(0, (out - 1) * s + k - n) // 2 if padding == "same" else 0
        axes.append([(o, slice(max(0, o * s - before), o * s - before + k)) for o in range(out)])
    for n in range(shape[0]):
        for place in itertools.product(*axes):
            yield (n, *(o for o, _ in place)), (n, *(w for _, w in place))


def expected(kind, x, shape, size, strides, padding, relu=False):
    """y, and the gradient to x for dy = 1, 2, 3, … modulo 7."""
    places = list(windows(shape, size, strides, padding))
    out = tuple(max(at[i] for at, _ in places) + 1 for i in range(len(shape)))
    y = np.zeros((*out, x.shape[-1]))
    dy = (np.arange(y.size).reshape(y.shape) % 7 + 1).astype(np.float64)
    dx = np.zeros(x.shape)
    for at, window in places:
        part = x[window].reshape(-1, x.shape[-1])
        if kind == "max":
            y[at] = part.max(0)
            first = (part == y[at]).argmax(0)
            share = np.arange(len(part))[:, None] == first
            share = share & (y[at] > 0) if relu else share
        else:
            y[at] = part.mean(0)
            share = np.full(part.shape, 1 / len(part))
        dx[window] += (share * dy[at]).reshape(x[window].shape)
    return y, dy, dx


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_pooling_and_its_gradient(geometry, kind, dtype):
    pool = ops.max_pool if kind == "max" else ops.average_pool
    for channels in CHANNELS:
        rng = np.random.default_rng(channels)
        # few values, so several elements attain a maximum; all exact in every dtype
        x = rng.integers(-4, 5, (*geometry[0], channels)).astype(np.float64)
        y, dy, dx = expected(kind, x, *geometry)
        rounding = {"float16": 2e-3, "bfloat16": 2e-2}.get(dtype, 1e-6)

        def both(x, dy):
            with GradientTape() as tape:
                tape.watch(x)
                out = pool(x, *geometry[1:])
            return out, tape.gradient(out, x, output_gradients=dy)

        got = function(both)(convert_to_tensor(x, dtype), convert_to_tensor(dy, dtype))
        for result, want in zip(got, (y, dx), strict=True):
            result = ops.cast(result, "float64").numpy()
            np.testing.assert_allclose(result, want, atol=0 if kind == "max" else 20 * rounding)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_gradient_of_relu_goes_into_that_of_max_pooling(geometry):
    rng = np.random.default_rng(0)
    for channels in CHANNELS:
        x = rng.integers(-40, 4, (*geometry[0], channels)).astype(np.float64)
        _, dy, dx = expected("max", np.maximum(x, 0), *geometry, relu=True)

        def gradient(x, dy):
            with GradientTape() as tape:
                tape.watch(x)
                out = ops.max_pool(ops.relu(x), *geometry[1:])
            return tape.gradient(out, x, output_gradients=dy)

        got = function(gradient)(x.astype(np.float32), dy.astype(np.float32))
        np.testing.assert_array_equal(got.numpy(), dx)


def test_a_nan_is_the_maximum_and_gets_the_gradient():
    x = np.ones((1, 4, 2, 40), np.float32)
    x[0, 1, 0] = np.nan
    x[0, 1, 1, 7] = np.nan
    with GradientTape() as tape:
        t = convert_to_tensor(x)
        tape.watch(t)
        y = ops.max_pool(t, 2)
    want = np.zeros_like(x)
    want[0, 1, 0] = want[0, 2, 0] = 1
    assert np.isnan(y.numpy()[0, 0]).all() and (y.numpy()[0, 1] == 1).all()
    np.testing.assert_array_equal(tape.gradient(y, t).numpy(), want)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64"])
def test_integers(dtype):
    x = np.random.default_rng(0).integers(0, 100, (2, 6, 6, 70)).astype(dtype)
    want = x.reshape(2, 3, 2, 3, 2, 70).max((2, 4))
    np.testing.assert_array_equal(ops.max_pool(x, 2).numpy(), want)
