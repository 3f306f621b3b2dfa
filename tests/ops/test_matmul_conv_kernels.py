"""The matrix-multiply core and the convolutions on it, against NumPy in float64.

Run as a script, the file checks every case at the level and with the threads that the environment
asks for, and prints a digest of all results: the tests compare those across numbers of threads.
"""

import hashlib
import itertools
import zlib

import numpy as np
import pytest
from support import kernels, levels

EPS = {"float32": 2.0**-24, "float64": 2.0**-53, "float16": 2.0**-24, "bfloat16": 2.0**-24}
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # of a stored result
FLOATS = ["float32", "float64", "float16", "bfloat16"]


def to_bits(x):
    """float64 rounded to bfloat16, as bits."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def stored(x, dtype):
    return to_bits(x) if dtype == "bfloat16" else x.astype(dtype)


def values(x, dtype):
    if dtype == "bfloat16":
        return (x.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return x.astype(np.int64 if x.dtype.kind == "i" else np.float64)


def summed(dtype):
    """The dtype of a product, and of what is added to it."""
    return "int32" if dtype == "int8" else dtype


def run_kernel(op, inputs, shape, dtype, constants=(), **attrs):
    """`constants`: which inputs the program owns."""
    dtypes = [dtype if i < 2 else summed(dtype) for i in range(len(inputs))]
    outputs = [(summed(dtype), tuple(shape))]
    return kernels.run(op, inputs, dtypes, outputs, constants, **attrs)[0]


def normal(rng, shape, dtype):
    if dtype == "int8":
        return rng.integers(-140, 140, shape).clip(-128, 127).astype(dtype)
    if dtype.startswith("int"):
        return rng.integers(-300, 300, shape).astype(dtype)
    return stored(rng.standard_normal(shape), dtype)


def assert_close(got, want, magnitude, dtype, terms, rounding=0.0):
    """Within the rounding of a sum of `terms` products whose absolute values sum to `magnitude`.

    `rounding`: another one of the sum, relative to that.
    """
    if dtype.startswith("int"):
        np.testing.assert_array_equal(got, want.astype(summed(dtype)))
        return
    tolerance = (EPS[dtype] * min(terms + 8, 200) + rounding) * magnitude
    tolerance += ROUNDING.get(dtype, 0) * 1.01 * np.abs(want) + (1e-7 if dtype == "float16" else 0)
    error = np.abs(values(got, dtype) - want)
    assert got.shape == want.shape
    assert (error <= tolerance).all(), (error - tolerance).max()


EPILOGUES = [("scale",), ("residual",), ("mask",), ("scale", "bias", "residual", "mask")]


def with_epilogue(rng, product, magnitude, dtype, names, relu):
    """More inputs, attributes, and what a product becomes by an epilogue."""
    inputs = {}
    for name in names:
        shape = product.shape[-1:] if name in ("scale", "bias") else product.shape
        inputs[name] = normal(rng, shape, dtype)
    v = {name: values(x, dtype) for name, x in inputs.items()}
    y = product * v.get("scale", 1) + v.get("bias", 0) + v.get("residual", 0)
    magnitude = magnitude * np.abs(v.get("scale", 1)) + np.abs(v.get("bias", 0))
    magnitude = magnitude + np.abs(v.get("residual", 0))
    y = np.maximum(y, 0) if relu else y
    y = np.where(v["mask"] > 0, y, 0) if "mask" in v else y
    attrs = {"epilogue": names, "activation": "relu" if relu else "linear"}
    return list(inputs.values()), attrs, y, magnitude


# ------------------------------------------------------------------------------------- matmul

MATMUL_SIZES = [
    (1, 1, 1), (1, 7, 5), (7, 1, 5), (3, 5, 7), (14, 32, 16), (15, 33, 17), (29, 10, 512),
    (128, 100, 800), (300, 70, 33), (5, 4, 0), (0, 4, 3), (4, 0, 3), (1, 300, 129), (300, 1, 129),
    (30, 40, 4000), (13, 257, 401), (0, 4, 5000), (131, 70, 1100), (200, 230, 600), (300, 60, 1100),
    # few columns (matmul_narrow.h)
    (128, 10, 512), (97, 2, 70), (35, 3, 64), (515, 10, 130), (200, 7, 33), (70, 16, 260), (130, 13, 100),
]  # fmt: skip
BATCHES = [
    ((3,), (3,)), ((2, 3), (1, 3)), ((2, 1), (3,)), ((4,), ()), ((), (4,)), ((20,), (20,)),
    ((2, 3), (1, 1)), ((0,), (0,)),
]  # fmt: skip
TRANSPOSES = [(0, 0), (0, 1), (1, 0), (1, 1)]
MATMUL_CASES = [((), (), *size) for size in MATMUL_SIZES] + [
    (*batch, *size) for batch in BATCHES for size in [(1, 9, 6), (9, 1, 6), (33, 40, 20)]
]


def check_matmul(case, dtype, transposes, activation):
    batch_a, batch_b, m, n, k = case
    ta, tb = transposes
    rng = np.random.default_rng(zlib.crc32(repr((case, dtype, transposes)).encode()))
    a = normal(rng, (*batch_a, *((k, m) if ta else (m, k))), dtype)
    b = normal(rng, (*batch_b, *((n, k) if tb else (k, n))), dtype)
    inputs, attrs = [a, b], {"transpose_a": ta, "transpose_b": tb}
    va, vb = values(a, dtype), values(b, dtype)
    va, vb = va.swapaxes(-1, -2) if ta else va, vb.swapaxes(-1, -2) if tb else vb
    want, magnitude = va @ vb, np.abs(va) @ np.abs(vb)
    if activation:
        bias = normal(rng, (n,), summed(dtype))
        inputs.append(bias)
        attrs["activation"] = activation
        want = want + values(bias, dtype)
        magnitude = magnitude + np.abs(values(bias, dtype))
        want = np.maximum(want, 0) if activation == "relu" else want
    results = [
        run_kernel("matmul", inputs, want.shape, dtype, constants, **attrs)
        for constants in [(), (1,)]
    ]
    for got in results:
        assert_close(got, want, magnitude, dtype, k)
    if activation == "relu" and not dtype.startswith("int"):
        inputs = inputs[:2]
        for names in EPILOGUES:
            size = np.abs(va) @ np.abs(vb)
            more, extra, want, size = with_epilogue(rng, va @ vb, size, dtype, names, True)
            got = run_kernel("matmul", inputs + more, want.shape, dtype, **attrs | extra)
            assert_close(got, want, size, dtype, k)
            results.append(got)
    return results


@pytest.mark.parametrize("dtype", [*FLOATS, "int32", "int64", "int8"])
@pytest.mark.parametrize("case", MATMUL_CASES, ids=str)
def test_matmul(case, dtype):
    for transposes in TRANSPOSES:
        for activation in [None, "linear", "relu"]:
            check_matmul(case, dtype, transposes, activation)


def test_matmul_of_integers_wraps():
    a = np.full((2, 3), 2**31 - 1, np.int32)
    b = np.full((3, 4), 2**31 - 1, np.int32)
    np.testing.assert_array_equal(run_kernel("matmul", [a, b], (2, 4), "int32"), a @ b)


EXTREMES = list(itertools.product([-128, 127], repeat=2))


def check_extreme_bytes(x, y):
    """Sums of the largest products, for sizes that end within a group of four or two."""
    for m, n, k in [(3, 5, 1), (17, 33, 4094), (30, 70, 4095), (14, 64, 4096), (2, 3, 9001)]:
        a, b = np.full((m, k), x, np.int8), np.full((k, n), y, np.int8)
        a[0, ::2], b[::3, 0] = 127, -128
        want = a.astype(np.int32) @ b.astype(np.int32)
        for ta, tb in TRANSPOSES:
            inputs = [a.T.copy() if ta else a, b.T.copy() if tb else b]
            for constants in [(), (1,)]:
                got = run_kernel(
                    "matmul", inputs, (m, n), "int8", constants, transpose_a=ta, transpose_b=tb
                )
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("x", "y"), EXTREMES)
def test_matmul_of_extreme_bytes_is_exact(x, y):
    check_extreme_bytes(x, y)


@pytest.mark.parametrize("sizes", [(40, 50, 60), (1, 50, 60), (5, 40, 30)], ids=str)
def test_matmul_keeps_nonfinite_values_in_their_row_and_column(sizes):
    m, n, k = sizes
    a, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
    a[m // 2, 3], b[4, n - 1] = np.nan, np.inf
    bias = np.zeros(n, np.float32)
    got = run_kernel("matmul", [a, b, bias], (m, n), "float32", activation="relu")
    want = np.full((m, n), k, np.float32)
    want[:, n - 1], want[m // 2] = np.inf, np.nan
    np.testing.assert_array_equal(got, want)


def test_matmul_refuses_sizes_that_do_not_match():
    a, b = np.ones((2, 3), np.float32), np.ones((4, 5), np.float32)
    with pytest.raises(RuntimeError, match="match"):
        run_kernel("matmul", [a, b], (2, 5), "float32")
    with pytest.raises(RuntimeError, match="linear or relu"):
        run_kernel("matmul", [a, a.T.copy()], (2, 2), "float32", activation="tanh")


# -------------------------------------------------------------------------------- convolution

# n, spatial, c, o, kernel, strides, padding, dilation, groups
CONV_CASES = [
    (2, (9,), 5, 7, (3,), (1,), (1, 1), (1,), 1),
    (2, (11,), 16, 33, (4,), (2,), (1, 2), (1,), 1),
    (1, (20,), 8, 8, (3,), (1,), (4, 0), (2,), 1),
    (8, (64,), 40, 8, (9,), (1,), (8, 0), (1,), 1),
    (2, (1000,), 33, 35, (2,), (1,), (0, 0), (1,), 1),
    (2, (8, 9), 3, 8, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (2, (12, 13), 17, 40, (3, 5), (2, 2), (1, 1, 2, 2), (1, 1), 1),
    (4, (30, 30), 16, 24, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (4, (30, 30), 29, 72, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (5, (31, 20), 19, 50, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (3, (31, 20), 130, 50, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (3, (40, 41), 1, 20, (3, 3), (2, 1), (1, 1, 1, 1), (1, 1), 1),
    (2, (37, 3), 40, 8, (3, 2), (1, 1), (2, 1, 1, 0), (3, 1), 1),
    (2, (40, 40), 8, 70, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (1, (9, 9), 56, 10, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (1, (9, 9), 10, 56, (3, 3), (1, 2), (1, 1, 1, 1), (1, 1), 1),
    (3, (12, 11), 1, 9, (2, 2), (1, 1), (1, 0, 1, 0), (1, 1), 1),
    (2, (15, 15), 4, 5, (4, 7), (2, 2), (3, 2, 3, 2), (1, 1), 1),
    (2, (7, 7), 64, 64, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (2, (7, 7), 32, 16, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    (1, (10, 10), 4, 6, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    (3, (28, 28), 1, 6, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 1),
    (1, (6, 6), 5, 4, (7, 7), (3, 3), (3, 3, 3, 3), (1, 1), 1),
    (1, (3, 3), 4, 4, (2, 2), (5, 5), (0, 0, 0, 0), (1, 1), 1),
    (1, (8, 8), 4, 4, (2, 2), (3, 3), (-1, 0, 0, -1), (1, 1), 1),
    (0, (8, 8), 4, 4, (2, 2), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (1, (2, 2), 4, 4, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (2, (10, 10), 8, 12, (3, 3), (1, 2), (1, 1, 1, 1), (1, 1), 4),
    (2, (10, 10), 32, 32, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    (2, (9, 11), 72, 72, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 18),
    (1, (9, 11), 40, 80, (3, 2), (2, 2), (1, 1, 0, 1), (1, 1), 10),
    (2, (8, 9), 64, 24, (1, 3), (1, 1), (0, 0, 2, 2), (1, 2), 8),
    (1, (9, 9), 2, 4, (2, 2), (2, 2), (0, 0, 0, 0), (3, 3), 2),
    (2, (9, 10), 48, 48, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 48),
    (2, (9, 10), 20, 20, (3, 3), (2, 2), (0, 1, 0, 1), (1, 1), 20),
    (2, (9, 10), 3, 3, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 3),
    (2, (9, 10), 6, 12, (3, 3), (2, 1), (1, 1, 1, 1), (1, 1), 6),
    (1, (12, 12), 70, 70, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 70),
    # in bands (conv_depthwise_bands.h): wide and narrow images, channels that fill no vector
    (2, (13, 21), 40, 40, (3, 3), (2, 2), (0, 1, 0, 1), (1, 1), 40),
    (1, (22, 19), 35, 35, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 35),
    (1, (19, 23), 32, 32, (7, 4), (1, 1), (3, 3, 2, 1), (1, 2), 32),
    (2, (12, 20), 16, 16, (3, 3), (1, 2), (3, 0, -1, 2), (1, 1), 16),
    (1, (30, 9), 17, 34, (7, 7), (2, 1), (3, 3, 3, 3), (1, 1), 17),
    (1, (2, 1), 64, 64, (3, 5), (1, 1), (1, 1, 2, 2), (1, 1), 64),
    # few channels (conv_strip.h): with and without a border, edges of strips and of filters
    (2, (28, 30), 1, 32, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (2, (29, 40), 3, 72, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1),
    (1, (20, 24), 2, 48, (3, 2), (1, 2), (2, 2, 1, 0), (2, 1), 1),
    (2, (50,), 2, 40, (5,), (2,), (0, 0), (1,), 1),
    # results of few channels (conv_narrow.h): strides, rows shorter than a tile, borders
    (2, (9, 23), 20, 3, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (1, (11, 40), 48, 1, (5, 5), (2, 2), (2, 2, 2, 2), (1, 1), 1),
    (2, (6, 17), 32, 4, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (2, (15, 47), 3, 32, (7, 7), (2, 2), (3, 3, 3, 3), (1, 1), 1),
    (1, (9, 38), 2, 24, (3, 4), (1, 3), (1, 1, 0, 2), (2, 1), 1),
    (1, (3, 3), 4, 16, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (1, (4, 5, 19), 1, 33, (2, 3, 3), (1, 2, 1), (0, 1, 1, 1, 1, 1), (1, 1, 1), 1),
    # gradients of depthwise filters with strides
    (2, (11, 26), 64, 64, (5, 5), (2, 3), (2, 2, 2, 2), (1, 1), 64),
    (1, (14, 15), 48, 48, (3, 3), (2, 2), (2, 2, 2, 2), (3, 3), 48),
    (1, (9, 13), 36, 36, (2, 2), (3, 3), (0, 1, 0, 1), (1, 1), 36),
    # in tiles (winograd.h): odd sizes and paddings, few outputs, large filters
    (2, (13, 15), 19, 37, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (1, (17, 10), 40, 24, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (16, (2, 2), 24, 40, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (3, (7, 6), 64, 16, (3, 3), (1, 1), (2, 2, 0, 1), (1, 1), 1),
    (4, (12, 12), 9, 70, (3, 3), (1, 1), (-1, 0, 3, -1), (1, 1), 1),
    (4, (8, 8), 200, 272, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (1, (5, 6, 7), 3, 9, (2, 3, 3), (1, 1, 1), (0, 1, 1, 1, 1, 1), (1, 1, 1), 1),
    (2, (5, 6, 7), 8, 16, (3, 3, 3), (2, 1, 2), (1, 1, 1, 1, 1, 1), (1, 1, 1), 1),
    (1, (4, 5, 6), 10, 10, (2, 2, 2), (1, 1, 1), (0, 0, 1, 0, 0, 1), (1, 1, 1), 10),
]


class ConvReference:
    """The convolution as a sum over taps and groups of matrix products, and its two transposes."""

    def __init__(self, spatial, kernel, strides, padding, dilation, groups):
        self.spatial, self.kernel, self.groups = spatial, kernel, groups
        self.out = tuple(
            max(0, (s + padding[2 * i] + padding[2 * i + 1] - (k - 1) * d - 1) // st + 1)
            for i, (s, k, st, d) in enumerate(zip(spatial, kernel, strides, dilation, strict=True))
        )
        self.taps = []  # filter index, and per axis the outputs and inputs that it joins
        for tap in itertools.product(*map(range, kernel)):
            outs, ins = [], []
            for i, t in enumerate(tap):
                at = np.arange(self.out[i]) * strides[i] + t * dilation[i] - padding[2 * i]
                inside = (at >= 0) & (at < spatial[i])
                outs.append(np.flatnonzero(inside))
                ins.append(at[inside])
            self.taps.append((tap, outs, ins))

    def _parts(self, x, y, w_shape):
        cg, og = w_shape[-2], w_shape[-1] // self.groups
        for tap, outs, ins in self.taps:
            for g in range(self.groups):
                c, o = np.arange(g * cg, (g + 1) * cg), np.arange(g * og, (g + 1) * og)
                n = np.arange(len(x))
                yield tap, o, np.ix_(n, *ins, c), np.ix_(n, *outs, o)

    def forward(self, x, w):
        y = np.zeros((len(x), *self.out, w.shape[-1]))
        for tap, o, at_x, at_y in self._parts(x, y, w.shape):
            y[at_y] += x[at_x] @ w[tap][:, o]
        return y

    def grad_input(self, dy, w):
        dx = np.zeros((len(dy), *self.spatial, w.shape[-2] * self.groups))
        for tap, o, at_x, at_y in self._parts(dx, dy, w.shape):
            dx[at_x] += dy[at_y] @ w[tap][:, o].T
        return dx

    def grad_filter(self, x, dy):
        dw = np.zeros((*self.kernel, x.shape[-1] // self.groups, dy.shape[-1]))
        for tap, o, at_x, at_y in self._parts(x, dy, dw.shape):
            a, b = x[at_x], dy[at_y]
            dw[tap][:, o] += a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])
        return dw


def check_conv(case, dtype, twice=False):
    """Results of the three kernels of a case; `twice`: sums are rounded before an epilogue too."""
    n, spatial, c, o, kernel, strides, padding, dilation, groups = case
    reference = ConvReference(spatial, kernel, strides, padding, dilation, groups)
    rng = np.random.default_rng(zlib.crc32(repr((case, dtype)).encode()))
    x = normal(rng, (n, *spatial, c), dtype)
    w = normal(rng, (*kernel, c // groups, o), dtype)
    bias = normal(rng, (o,), dtype)
    dy = normal(rng, (n, *reference.out, o), dtype)
    vx, vw, vb, vdy = (values(v, dtype) for v in (x, w, bias, dy))
    attrs = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    results = []

    def check(op, inputs, want, magnitude, terms, constants=(), **more):
        got = run_kernel(op, inputs, want.shape, dtype, constants, **attrs, **more)
        rounding = ROUNDING.get(dtype, 0.0) if twice and more else 0.0
        assert_close(got, want, magnitude, dtype, terms, rounding)
        results.append(got)

    terms = int(np.prod(kernel)) * c // groups
    y, size = reference.forward(vx, vw), reference.forward(np.abs(vx), np.abs(vw))
    check("conv", [x, w], y, size, terms)
    check("conv", [x, w], y, size, terms, constants=(1,))
    check("conv", [x, w, bias], np.maximum(y + vb, 0), size + np.abs(vb), terms, activation="relu")
    for names, relu in itertools.product(EPILOGUES, [False, True]):
        more, extra, want, big = with_epilogue(rng, y, size, dtype, names, relu)
        check("conv", [x, w, *more], want, big, terms, **extra)
    dx, size = reference.grad_input(vdy, vw), reference.grad_input(np.abs(vdy), np.abs(vw))
    for constants in [(), (1,)]:
        check("conv_grad_input", [dy, w], dx, size, int(np.prod(kernel)) * o // groups, constants)
    for names in EPILOGUES:
        more, extra, want, size_e = with_epilogue(rng, dx, size, dtype, names, False)
        terms = int(np.prod(kernel)) * o // groups
        check("conv_grad_input", [dy, w, *more], want, size_e, terms, **extra)
    dw, size = reference.grad_filter(vx, vdy), reference.grad_filter(np.abs(vx), np.abs(vdy))
    check("conv_grad_filter", [x, dy], dw, size, n * int(np.prod(reference.out)))
    return results


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_conv(case, dtype):
    check_conv(case, dtype)


def test_epilogues_are_checked():
    a, b, row = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32), np.ones(4, np.float32)
    for inputs, names, text in [
        ([a, b, row], ("residual",), "residual of 8 elements"),
        ([a, b, row], ("scale", "bias"), "expected 4 inputs"),
        ([a, b, row], ("shift",), "no operand shift"),
    ]:
        with pytest.raises(RuntimeError, match=text):
            run_kernel("matmul", inputs, (2, 4), "float32", epilogue=names)


def test_conv_refuses_groups_that_do_not_divide():
    x, w = np.ones((1, 4, 4, 6), np.float32), np.ones((1, 1, 2, 6), np.float32)
    attrs = {"strides": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    with pytest.raises(RuntimeError, match="groups"):
        run_kernel("conv", [x, w], (1, 4, 4, 6), "float32", groups=4, **attrs)


# ----------------------------------------------------------------- levels and numbers of threads


def digest():
    h = hashlib.sha256()
    for extremes in EXTREMES:
        check_extreme_bytes(*extremes)
    for dtype in [*FLOATS, "int8"]:
        for case in MATMUL_CASES:
            for result in check_matmul(case, dtype, TRANSPOSES[len(repr(case)) % 4], "relu"):
                h.update(result.tobytes())
    for dtype in FLOATS:
        for case in CONV_CASES:
            for result in check_conv(case, dtype):
                h.update(result.tobytes())
    return h.hexdigest()


@pytest.mark.parametrize("level", levels.LEVELS)
def test_every_level_is_right_and_gives_the_same_bits_for_any_number_of_threads(level):
    levels.check_same_bits(__file__, level)


if __name__ == "__main__":
    levels.report(digest())
