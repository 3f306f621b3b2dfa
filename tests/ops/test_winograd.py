"""3x3 convolutions in tiles (Winograd's algorithm): how exact they are, and what is not finite.

A convolution of pairs of images as the two planes of a volume, with 1x3x3 filters, is the same sum
done directly: errors are compared with those.
"""

import numpy as np
import pytest

from hornbeam.backend import _core

ONE = {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
VOLUME = {
    "strides": (1, 1, 1), "padding": (0, 0, 1, 1, 1, 1), "dilation": (1, 1, 1), "groups": 1,
}  # fmt: skip


def run_kernel(op, inputs, shape, attrs):
    slots = [("float32", x.shape) for x in inputs] + [("float32", tuple(shape))]
    instruction = (op, [0, 1], [2], attrs, [], None, "")
    program = _core.Program(slots, [0, 1], [], [], [instruction], [2], [])
    tensors = [_core.Tensor.from_numpy(np.ascontiguousarray(x), "float32", True) for x in inputs]
    return np.array(program.run(tensors)[0].array())


def in_tiles(op, a, b, shape):
    return run_kernel(op, [a, b], shape, ONE)


def direct(op, a, b, shape):
    def volume(shape):  # of images as pairs, of filters with one plane
        return (shape[0] // 2, 2, *shape[1:]) if shape[0] != 3 else (1, *shape)

    inputs = [x.reshape(volume(x.shape)) for x in (a, b)]
    return run_kernel(op, inputs, volume(shape), VOLUME).reshape(shape)


def exact(op, a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    height, width = a.shape[1:3]
    around = np.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [(i, j) for i in range(3) for j in range(3)]
    patches = {t: around[:, t[0] : t[0] + height, t[1] : t[1] + width] for t in taps}
    if op == "conv":
        return sum(patches[t] @ b[t] for t in taps)
    if op == "conv_grad_input":
        return sum(patches[t] @ b[2 - t[0], 2 - t[1]].T for t in taps)
    parts = [np.tensordot(patches[t], b, ((0, 1, 2), (0, 1, 2))) for t in taps]
    return np.stack(parts).reshape(3, 3, *parts[0].shape)


def operands(op, kind, n, size, c, o, rng):
    """The tensors of an op and the axes over which errors are of one scale."""
    a = rng.standard_normal((n, size, size, o if op == "conv_grad_input" else c))
    b = rng.standard_normal((n, size, size, o) if op == "conv_grad_filter" else (3, 3, c, o))
    axes = None
    if kind == "positive":
        a = np.maximum(a, 0)
    elif kind == "cancels":  # a large constant, which filters that sum to zero take away
        a += 10
        b -= b.mean(axis=(0, 1) if op != "conv_grad_filter" else (0, 1, 2), keepdims=True)
    elif kind == "images of many scales":
        a *= 10 ** rng.uniform(-3, 3, (n, 1, 1, 1))
        axes = None if op == "conv_grad_filter" else (1, 2, 3)
    elif kind == "channels of many scales":
        a *= 10 ** rng.uniform(-3, 3, a.shape[-1])
        axes = (0, 1, 3) if op == "conv_grad_filter" else None
    return a.astype(np.float32), b.astype(np.float32), axes


# size 2 is computed in tiles of 2 x 2 outputs, the others in tiles of 4 x 4
KINDS = ["normal", "positive", "cancels", "images of many scales", "channels of many scales"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 16])
@pytest.mark.parametrize("op", ["conv", "conv_grad_input", "conv_grad_filter"])
def test_error_is_near_that_of_the_direct_sum(op, size, kind):
    rng = np.random.default_rng(7)
    for c, o in [(32, 32), (64, 48), (256, 32)]:
        n = 4 if size > 2 else 128
        a, b, axes = operands(op, kind, n, size, c, o, rng)
        want = exact(op, a, b)
        scale = np.sqrt((want**2).mean(axis=axes, keepdims=True))
        errors = [(f(op, a, b, want.shape) - want) / scale for f in (in_tiles, direct)]
        tiles, sums = (np.sqrt((e**2).mean()) for e in errors)
        assert tiles <= (1.1 if size == 2 else 2.5) * sums
        assert np.abs(errors[0]).max() <= (2 if size == 2 else 4) * np.abs(errors[1]).max()


@pytest.mark.parametrize("size", [2, 16])
def test_error_of_an_output_may_be_of_the_scale_of_its_tile(size):
    # One pixel of 1e4 among ones: the outputs beside its windows have the error of its tile.
    rng = np.random.default_rng(8)
    x = rng.standard_normal((128, size, size, 32)).astype(np.float32)
    w = rng.standard_normal((3, 3, 32, 32)).astype(np.float32)
    x[:, 0, 0] *= 1e4
    want = exact("conv", x, w)
    error = np.abs(in_tiles("conv", x, w, want.shape) - want)
    bound = 2.0**-24 * 1e4 * np.sqrt(9 * 32) * 30
    assert error[:, :4, :4].max() <= bound
    if size > 4:
        assert error[:, 4:, 4:].max() <= bound / 1e4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [2, 14])
def test_not_finite_pixels_reach_their_windows_and_at_most_their_tiles(size, value):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((64, size, size, 16)).astype(np.float32)
    w = rng.standard_normal((3, 3, 16, 24)).astype(np.float32)
    tile = 2 if size == 2 else 4
    clean = in_tiles("conv", x, w, (64, size, size, 24))
    for row in range(size):
        col = (3 * row + 1) % size
        dirty = x.copy()
        dirty[row, row, col, 5] = value
        got = in_tiles("conv", dirty, w, clean.shape)
        rows, cols = (slice(max(0, i - 1), i + 2) for i in (row, col))
        assert not np.isfinite(got[row, rows, cols]).any()
        near = np.zeros(clean.shape, bool)
        rows, cols = (
            slice(max(0, i - 1) // tile * tile, min(size - 1, i + 1) // tile * tile + tile)
            for i in (row, col)
        )
        near[row, rows, cols] = True
        np.testing.assert_array_equal(got[~near], clean[~near])
