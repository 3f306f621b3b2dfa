"""3x3 convolutions in tiles (Winograd's algorithm): how exact they are, and what is not finite.

A convolution of pairs of images as the two planes of a volume, with 1x3x3 filters, is the same sum
done directly: errors are compared with those.
"""

import numpy as np
import pytest

from hornbeam.backend import _core, settings

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


def running(op, a, b):
    """The sum over taps and channels, one after the other in float32."""
    height, width = a.shape[1:3]
    around = np.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = np.float32(0)
    for i in range(3):
        for j in range(3):
            rows = around[:, i : i + height, j : j + width]
            tap = b[i, j] if op == "conv" else b[2 - i, 2 - j].T
            for k in range(a.shape[3]):
                total = total + rows[..., k, None] * tap[k]
    return total


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


KINDS = ["normal", "positive", "cancels", "images of many scales", "channels of many scales"]
PRECISIONS = {"highest": 0, "high": 1}
TILE = {"highest": 2, "high": 4}  # of 16 channels


@pytest.fixture(params=PRECISIONS)
def precision(request):
    """Tiles of 2 x 2 outputs (4 x 2 from 32 channels on), or of 4 x 4."""
    before = settings.PRECISIONS.index(settings.matmul_precision())
    _core.set_matmul_precision(PRECISIONS[request.param])
    yield request.param
    _core.set_matmul_precision(before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", ["conv", "conv_grad_input", "conv_grad_filter"])
def test_error_is_near_that_of_the_direct_sum(op, kind, precision):
    rng = np.random.default_rng(7)
    sizes = [(4, 4, 64, 64), (4, 16, 32, 32), (4, 17, 16, 48), (4, 8, 256, 128)]
    if op == "conv_grad_filter":  # only long sums are computed in tiles
        sizes = [(64, 4, 128, 128), (4, 16, 64, 80), (20, 9, 128, 72), (2, 8, 64, 64)]
    for n, size, c, o in sizes:
        a, b, axes = operands(op, kind, n, size, c, o, rng)
        want = exact(op, a, b)
        scale = np.sqrt((want**2).mean(axis=axes, keepdims=True))
        sums, factor = direct(op, a, b, want.shape), 1.3 if precision == "highest" else 3
        if precision == "highest" and op != "conv_grad_filter" and a.shape[3] >= 32:
            sums = running(op, a, b)  # tiles of 4 x 2, then of 4 x 4 are in use from there on
            factor = 1.6  # 0.5 to 1.4, by kind and level
        tiles, sums = (in_tiles(op, a, b, want.shape) - want) / scale, (sums - want) / scale
        assert np.sqrt((tiles**2).mean()) <= factor * np.sqrt((sums**2).mean())
        assert np.abs(tiles).max() <= 2 * factor * np.abs(sums).max()


def running_filter(a, b):
    """The sum over positions, one after the other in float32."""
    height, width = a.shape[1:3]
    around = np.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [around[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    pixels = np.stack(taps).reshape(9, -1, a.shape[3])
    total = np.zeros((9, a.shape[3], b.shape[3]), np.float32)
    for k, dy in enumerate(b.reshape(-1, b.shape[3])):
        total += pixels[:, k, :, None] * dy
    return total.reshape(3, 3, *total.shape[1:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [8, 17])  # tiles of 4 x 2 and of 4 x 4
def test_long_sums_of_filters_are_more_exact_than_running_sums(kind, n):
    rng = np.random.default_rng(11)
    a, b, axes = operands("conv_grad_filter", kind, n, 16, 72, 64, rng)
    if kind == "channels of many scales":
        a[..., :8] = a[..., :1]  # those compared have one scale
    part = (slice(None), slice(None), slice(0, 8), slice(0, 8))
    want = exact("conv_grad_filter", a[..., :8], b[..., :8])
    error = in_tiles("conv_grad_filter", a, b, (3, 3, 72, 64))[part] - want
    sums = running_filter(a[..., :8], b[..., :8]) - want
    factor = 1.5 if kind == "images of many scales" else 1.0  # fewer images count
    assert np.sqrt((error**2).mean()) <= factor * np.sqrt((sums**2).mean())


def test_error_of_an_output_may_be_of_the_scale_of_its_tile(precision):
    # One pixel of 1e4 among ones: outputs beside its windows have an error of that scale.
    rng = np.random.default_rng(8)
    x = rng.standard_normal((8, 16, 16, 32)).astype(np.float32)
    w = rng.standard_normal((3, 3, 32, 32)).astype(np.float32)
    x[:, 0, 0] *= 1e4
    want = exact("conv", x, w)
    error = np.abs(in_tiles("conv", x, w, want.shape) - want)
    bound = 2.0**-24 * np.sqrt(9 * 32) * 100
    columns = TILE[precision]
    assert error[:, :4, :columns].max() <= 1e4 * bound
    assert error[:, 4:].max() <= bound
    assert error[:, :, columns:].max() <= bound


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_pixels_reach_their_windows_and_at_most_their_tiles(value, precision):
    rng = np.random.default_rng(9)
    size, tile = 14, TILE[precision]
    x = rng.standard_normal((16, size, size, 16)).astype(np.float32)
    w = rng.standard_normal((3, 3, 16, 24)).astype(np.float32)
    clean = in_tiles("conv", x, w, (16, size, size, 24))
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


def test_precision_changes_the_tiles():
    rng = np.random.default_rng(10)
    x = rng.standard_normal((4, 16, 16, 32)).astype(np.float32)
    w = rng.standard_normal((3, 3, 32, 32)).astype(np.float32)
    before, results = settings.PRECISIONS.index(settings.matmul_precision()), []
    try:
        for level in PRECISIONS.values():
            _core.set_matmul_precision(level)
            results.append(in_tiles("conv", x, w, x.shape))
    finally:
        _core.set_matmul_precision(before)
    results.append(direct("conv", x, w, x.shape))
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert (results[a] != results[b]).any()
