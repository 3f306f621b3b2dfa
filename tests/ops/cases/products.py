"""Cases of matrix products, einsum, convolutions and decompositions."""

import numpy as np
from support.op_case import FLOATS, OpCase, normal, uniform, values


def product(name, a, b, label="", **more):
    return OpCase(name, [normal(*a), normal(*b)], label=f"{a} {b}" if not label else label,
                  **{"tolerance": 4, **more})  # fmt: skip


def as_int32(dtype):
    return "int32" if dtype == "int8" else dtype


PRODUCTS = [
    product("matmul", (3, 4), (4, 5), dtypes=(*FLOATS, "int32", "int8", "int16", "uint8"),
            result=as_int32, errors=(
        ((np.ones((2, 3)), np.ones((2, 3))), {}, ValueError, "matmul: the inner sizes differ"),
        ((2.0, np.ones(3)), {}, ValueError, "matmul: expected at least one axis"))),
    *[product("matmul", a, b) for a, b in (
        ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4,)),
        ((4,), (4, 3)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)))],
    product("dot", (3, 5), (5, 6), dtypes=("int8", "uint8", "uint16", "uint32", "int64")),
    *[product("dot", a, b) for a, b in (
        ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (5, 4, 2)), ((4,), (4,)), ((3, 4), (4,)))],
    product("inner", (2, 3, 4), (5, 4)),
    product("outer", (2, 3), (4,)),
    product("vdot", (2, 3), (2, 3)),
    product("kron", (2, 3), (3, 2)),
    product("kron", (3,), (2, 2)),
    product("cross", (2, 3), (2, 3)),
    product("cross", (2, 2), (2, 2), reference=lambda a, b: a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]),
    OpCase("tensordot", [normal(2, 3, 4), normal(3, 4, 5)], dict(axes=[2, ([1], [0])]), tolerance=4),
    OpCase("cdist", [normal(2, 3, 4), normal(2, 5, 4)], tolerance=4,
           reference=lambda a, b: np.linalg.norm(a[:, :, None] - b[:, None], axis=-1)),
]  # fmt: skip

# ---------------------------------------------------------------------- convolution


def padding_of(n, k, s, mode):
    total = max((-(-n // s) - 1) * s + k - n, 0) if mode == "same" else 0
    return total // 2, total - total // 2


def conv(x, w, strides=1, padding="valid", dilation_rate=1, data_format=None):
    """One output after the other."""
    if data_format == "channels_first":
        return np.moveaxis(conv(np.moveaxis(x, 1, -1), w, strides, padding, dilation_rate), -1, 1)
    dims = x.ndim - 2
    per_group, filters = w.shape[-2:]
    groups = x.shape[-1] // per_group
    d = dilation_rate
    reach = [(k - 1) * d + 1 for k in w.shape[:dims]]
    pads = [padding_of(n, k, strides, padding) for n, k in zip(x.shape[1:-1], reach, strict=True)]
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    out = [(n - k) // strides + 1 for n, k in zip(x.shape[1:-1], reach, strict=True)]
    y = np.zeros((x.shape[0], *out, filters))
    size = filters // groups
    for at in np.ndindex(*out):
        key = [slice(i * strides, i * strides + k, d) for i, k in zip(at, reach, strict=True)]
        window = x[(slice(None), *key)]
        for g in range(groups):
            part = window[..., g * per_group : (g + 1) * per_group]
            kernel = w[..., g * size : (g + 1) * size]
            axes = list(range(dims + 1))
            y[(slice(None), *at, slice(g * size, (g + 1) * size))] = np.tensordot(
                part, kernel, ([a + 1 for a in axes], axes)
            )
    return y


def depthwise_conv(x, w, **kwargs):
    return conv(x, w.reshape(*w.shape[:-2], 1, -1), **kwargs)


def conv_transpose(x, w, strides=1, padding="valid", output_padding=None, dilation_rate=1):
    """Every input adds its multiple of the kernel; "same" cuts the edges off."""
    dims, d = x.ndim - 2, dilation_rate
    reach = [(k - 1) * d + 1 for k in w.shape[:dims]]
    full, cut = [], []
    for n, k in zip(x.shape[1:-1], reach, strict=True):
        length = (n - 1) * strides + k
        if padding == "same":
            out = (
                n * strides
                if output_padding is None
                else (n - 1) * strides + k % 2 + output_padding
            )
        else:
            out = length + (max(strides - k, 0) if output_padding is None else output_padding)
        before = max(length - out, 0) // 2
        full.append(max(length, before + out))
        cut.append(slice(before, before + out))
    y = np.zeros((x.shape[0], *full, w.shape[-2]))
    for at in np.ndindex(*x.shape[1:-1]):
        key = [slice(i * strides, i * strides + k, d) for i, k in zip(at, reach, strict=True)]
        y[(slice(None), *key)] += np.tensordot(x[(slice(None), *at)], w, ([1], [dims + 1]))
    return y[(slice(None), *cut)]


def separable_conv(x, depthwise, pointwise, **kwargs):
    return conv(depthwise_conv(x, depthwise, **kwargs), pointwise)


PADDING = ["valid", "same"]
CONVOLUTIONS = [
    OpCase("conv", [normal(2, 7, 3), normal(3, 3, 4)], dict(strides=[1, 2], padding=PADDING),
           reference=conv, label="1D", dtypes=FLOATS, tolerance=8),
    OpCase("conv", [normal(1, 5, 6, 2), normal(3, 2, 2, 3)], dict(strides=[1, 2], padding=PADDING),
           reference=conv, label="2D", tolerance=8, errors=(
               ((np.ones((1, 4, 4, 3)), np.ones((3, 3, 2, 4))), {}, ValueError,
                "conv: expected channels divisible into groups of 2"),
               ((np.ones((1, 4)), np.ones((3, 4))), {}, ValueError, "conv: expected inputs"),
               ((np.ones((1, 2, 2, 1)), np.ones((3, 3, 1, 1))), {}, ValueError,
                "conv: the window is larger than the input"))),
    OpCase("conv", [normal(1, 4, 5, 4, 2), normal(2, 3, 2, 2, 2)], dict(padding=PADDING),
           reference=conv, label="3D", tolerance=8, second=False),
    OpCase("conv", [normal(1, 7, 7, 2), normal(3, 3, 2, 2)], dict(dilation_rate=[2], padding=PADDING),
           reference=conv, label="dilated", tolerance=8),
    OpCase("conv", [normal(1, 5, 5, 4), normal(3, 3, 2, 6)], dict(padding=PADDING), reference=conv,
           label="groups", tolerance=8),
    OpCase("conv", [normal(1, 3, 6, 5), normal(3, 3, 3, 2)], dict(data_format=["channels_first"]),
           reference=conv, label="channels first", tolerance=8),
    OpCase("depthwise_conv", [normal(1, 6, 5, 3), normal(3, 3, 3, 2)],
           dict(strides=[1, 2], padding=PADDING), reference=depthwise_conv, tolerance=8),
    OpCase("separable_conv", [normal(1, 6, 5, 3), normal(3, 3, 3, 2), normal(1, 1, 6, 4)],
           dict(strides=[1, 2], padding=PADDING), reference=separable_conv, tolerance=16),
    OpCase("conv_transpose", [normal(1, 4, 3), normal(3, 2, 3)],
           dict(strides=[1, 2, 4], padding=PADDING), reference=conv_transpose, label="1D", tolerance=8),
    OpCase("conv_transpose", [normal(1, 3, 4, 2), normal(3, 2, 3, 2)],
           dict(strides=[2], padding=PADDING, output_padding=[None, 0, 1]), reference=conv_transpose,
           label="2D", tolerance=8, errors=(
               ((np.ones((1, 4, 2)), np.ones((3, 4, 3))), {}, ValueError,
                "conv_transpose: expected a kernel"),)),
    OpCase("conv_transpose", [normal(1, 4, 4, 2), normal(3, 3, 3, 2)], dict(dilation_rate=[2]),
           reference=conv_transpose, label="dilated", tolerance=8),
]  # fmt: skip

# ---------------------------------------------------------------------- decompositions

MATRIX = normal(2, 3, 3)
WELL = values(np.stack([np.array([[4.0, 1, 0], [1, 3, 1], [0, 1, 2]]), np.diag([1.0, 2, 5]) + 0.3]))


def solve(a, b):
    return (
        np.linalg.solve(a, b[..., None])[..., 0] if b.ndim == a.ndim - 1 else np.linalg.solve(a, b)
    )


def norm(x, ord=None, axis=None, keepdims=False):
    return np.linalg.norm(x, ord, axis, keepdims)


DECOMPOSITIONS = [
    OpCase("inv", [WELL], reference=np.linalg.inv, tolerance=8,
           errors=(((np.ones((2, 3)),), {}, ValueError, "inv: expected square matrices"),)),
    OpCase("det", [MATRIX], reference=np.linalg.det, tolerance=8),
    OpCase("slogdet", [MATRIX], reference=lambda x: tuple(np.linalg.slogdet(x)), tolerance=8,
           second=False),
    OpCase("logdet", [WELL], reference=lambda x: np.linalg.slogdet(x)[1], tolerance=8),
    OpCase("cholesky", [WELL], dict(upper=[False]), tolerance=8, differentiable=False,
           reference=lambda x, upper: np.linalg.cholesky(x)),
    OpCase("cholesky_inverse", [values(np.linalg.cholesky(np.array([[4.0, 1], [1, 3]])))],
           reference=lambda x: np.linalg.inv(x @ x.T), tolerance=8),
    OpCase("solve", [WELL, normal(2, 3, 2)], reference=solve, tolerance=8),
    OpCase("solve", [WELL, normal(2, 3)], reference=solve, label="vector", tolerance=8),
    OpCase("solve_triangular", [WELL, normal(2, 3, 2)], dict(lower=[False, True]), tolerance=8,
           reference=lambda a, b, lower: solve(np.tril(a) if lower else np.triu(a), b)),
    OpCase("qr", [normal(4, 3)], dict(mode=["reduced", "complete"]), differentiable=False,
           reference=lambda x, mode: tuple(np.linalg.qr(x, mode)), tolerance=8, dtypes=("float64",)),
    OpCase("svd", [MATRIX], dict(compute_uv=[False]), tolerance=8, second=False,
           reference=lambda x, compute_uv: np.linalg.svd(x, compute_uv=False)),
    OpCase("pinv", [normal(4, 3)], reference=np.linalg.pinv, tolerance=16, differentiable=False),
    OpCase("lstsq", [normal(5, 3), normal(5)], tolerance=16, differentiable=False,
           reference=lambda a, b: np.linalg.lstsq(a, b, rcond=None)[0]),
    OpCase("matrix_rank", [values(np.outer([1.0, 2, 3], [1.0, 0, 1]))], result="int32",
           reference=np.linalg.matrix_rank, differentiable=False),
    OpCase("norm", [normal(3, 4)], dict(ord=[None, 1, 2, 3, np.inf, -np.inf], axis=[0, 1],
           keepdims=[False, True]), reference=norm, tolerance=4, label="vectors", second=False),
    OpCase("norm", [normal(3, 4)], dict(ord=[None, "fro", 1, -1, 2, -2, np.inf, "nuc"],
           axis=[None, (0, 1)]), reference=norm, tolerance=8, label="matrices", second=False),
    OpCase("norm", [uniform(2, 3, 4, low=0.5)], dict(axis=[None]), reference=norm, label="all"),
]  # fmt: skip

CASES = PRODUCTS + CONVOLUTIONS + DECOMPOSITIONS
