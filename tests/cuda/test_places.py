"""Scans, order and computed places on CUDA: lengths that take more than one block."""

import numpy as np
import pytest

import hornbeam
from hornbeam import backend, ops
from hornbeam.backend import _core
from hornbeam.backend.registry import REGISTRY

from .test_kernels import on

RNG = np.random.default_rng(21)
INTS = ("int8", "uint16", "int32", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64")


def values(shape, dtype, ties=False):
    if dtype == "bool":
        return RNG.random(shape) < 0.5
    if dtype in INTS:
        return RNG.integers(0, 7 if ties else 100, shape).astype(dtype)
    x = RNG.normal(size=shape).astype("float32")
    x = np.round(x * 2) if ties else x
    x.flat[:: max(1, x.size // 5)] = np.nan
    return np.asarray(backend.convert_to_numpy(backend.convert_to_tensor(x, dtype)))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((70_001,), 0),
        ((3, 5000), 1),
        ((2, 9000, 3), 1),
        ((5, 40, 65), 1),
        ((4, 33), 0),
        ((0, 3), 0),
    ],
)
def test_cumulative(shape, axis, exclusive, reverse, cuda):
    x = RNG.normal(size=shape).astype("float32")
    total = REGISTRY["cumulative_sum"]
    got, product = on(
        cuda,
        lambda x: [
            total(x, axis=axis, exclusive=exclusive, reverse=reverse),
            REGISTRY["cumulative_prod"](
                1 + x * 1e-3, axis=axis, exclusive=exclusive, reverse=reverse
            ),
        ],
        x,
    )
    for y, v, f, start in ((got, x, np.cumsum, 0), (product, 1 + x * 1e-3, np.cumprod, 1)):
        v = v.astype("float64")
        v = np.flip(v, axis) if reverse else v
        e = f(v, axis)
        if exclusive and shape[axis]:
            e = np.concatenate(
                [np.full_like(np.take(e, [0], axis), start), np.delete(e, -1, axis)], axis
            )
        np.testing.assert_allclose(y, np.flip(e, axis) if reverse else e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 37, 2048, 2049, 9001])
@pytest.mark.parametrize("dtype", ["bool", *INTS, *FLOATS])
def test_order(n, dtype, cuda):
    x = values((2, n), dtype, ties=True)

    def f(x):
        return [ops.sort(x), ops.argsort(x), *ops.top_k(x, min(n, 9)), *ops.top_k(x, n)]

    got, expected = on(cuda, f, x), on("cpu:0", f, x)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", ["int32", "float32", "float16"])
def test_search(dtype, right, cuda):
    x, v = np.sort(values((3000,), dtype, ties=True)), values((500,), dtype, ties=True)

    def f(x, v):
        return ops.searchsorted(x, v, side="right" if right else "left")

    np.testing.assert_array_equal(on(cuda, f, x, v), on("cpu:0", f, x, v))


@pytest.mark.parametrize("n", [5, 3000])
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("segments", [1, 300, 70_000])
def test_segment_order(n, wrap, segments, cuda):
    ids = RNG.integers(-segments - 3, segments + 3, n)

    def f(ids):
        return REGISTRY["segment_order"](ids, num_segments=segments, wrap=wrap)

    for a, b in zip(on(cuda, f, ids), on("cpu:0", f, ids), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("reduction", ["update", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int16"])
@pytest.mark.parametrize("shape", [(900,), (1500, 3)])
def test_scatter(shape, dtype, reduction, cuda):
    """Many updates of one place: their order decides, in bfloat16 every rounding."""
    x, u = values(shape, dtype), values((700, *shape[1:]), dtype)
    at = RNG.integers(-60, 60, (700, 1))
    along = RNG.integers(-60, 60, (700, *shape[1:]))

    def f(x, u, at, along):
        return [
            REGISTRY["scatter_nd"](x, at, u, reduction=reduction),
            REGISTRY["scatter_along_axis"](x, along, u, axis=0, reduction=reduction),
            REGISTRY["gather_nd"](x, at),
            REGISTRY["nonzero_rows"](x),
        ]

    got = on(cuda, f, x, u, at, along)
    for a, b in zip(got, on("cpu:0", f, x, u, at, along), strict=True):
        np.testing.assert_array_equal(a, b)


def test_scatter_out_of_range_is_an_error(cuda):
    x = ops.zeros((4, 3)).to(cuda)
    at = ops.convert_to_tensor(np.array([[1], [9]])).to(cuda)
    with hornbeam.device(cuda), pytest.raises(RuntimeError, match="index 9 is out of range"):
        np.array(REGISTRY["scatter_nd"](x, at, ops.ones((2, 3)), reduction="add"))


def test_windows_that_only_the_device_knows(cuda):
    x, u = values((5, 6, 7), "float32"), values((2, 3, 7), "float32")

    def f(x, u, starts):
        return [ops.slice(x, starts, (2, 3, 7)), ops.slice_update(x, starts, u)]

    for starts in ([1, 2, 0], [9, -1, 3]):
        at = np.array(starts, "int32")
        for a, b in zip(on(cuda, f, x, u, at), on("cpu:0", f, x, u, at), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_normal_numbers_have_the_bits_of_the_cpu(dtype, cuda):
    def draw(key):
        return [
            hornbeam.random.normal((331, 37), seed=3, dtype=dtype),
            hornbeam.random.truncated_normal((331, 37), seed=5, dtype=dtype),
        ]

    for a, b in zip(on(cuda, draw, 0), on("cpu:0", draw, 0), strict=True):
        if _core.isa_level() == "baseline":  # no multiply-adds there: other roundings
            np.testing.assert_allclose(a.astype("float64"), b, rtol=1e-2, atol=1e-6)
        else:
            np.testing.assert_array_equal(a, b)
