"""Operands of attention: sizes and kinds of masks that take every path of the kernels."""

import numpy as np

from hornbeam import backend, ops

# batch, T, S, heads, key heads, features of the query and of the value: one and many tiles of
# queries, one and many blocks of keys, heads that share keys, features below and above a vector
SIZES = [
    (2, 3, 6, 4, 2, 5, 5),
    (1, 1, 1, 1, 1, 1, 1),
    (1, 1, 200, 2, 1, 16, 16),
    (2, 16, 48, 2, 2, 16, 8),
    (1, 128, 128, 1, 1, 64, 64),
    (1, 130, 257, 2, 1, 16, 24),
    (1, 37, 300, 2, 2, 40, 70),
    (1, 300, 37, 1, 1, 33, 17),
]
KINDS = ["plain", "causal", "mask", "queries", "keys", "window", "blind", "bias", "far", "all"]


def operands(sizes, kind):
    """q, k, v, dy and the other arguments."""
    b, t, s, heads, key_heads, h, e = sizes
    rng = np.random.default_rng(sum(sizes) + KINDS.index(kind))
    q, k, v, dy = (
        rng.standard_normal(shape).astype("float32")
        for shape in (
            (b, t, heads, h),
            (b, s, key_heads, h),
            (b, s, key_heads, e),
            (b, t, heads, e),
        )
    )
    bias = mask = None
    if kind == "mask":
        mask = rng.random((b, 1, t, s)) > 0.3
    elif kind == "queries":  # those masked see all keys alike
        mask = rng.random((b, 1, t, 1)) > 0.3
    elif kind == "keys":
        mask = np.broadcast_to(np.arange(s) < max(1, s // 2), (b, 1, 1, s))
    elif kind == "window":
        mask = abs(np.arange(t)[:, None] - np.arange(s)) < 5
    elif kind == "blind":  # whole rows and, with the causal order, nearly all of them
        mask = rng.random((heads, t, s)) > 0.3
        mask[:, ::3] = False
        mask[..., : s // 2] = False
    elif kind == "bias":
        bias = rng.standard_normal((1, heads, t, s)).astype("float32")
    elif kind == "far":
        bias = np.where(rng.random((b, 1, 1, s)) > 0.5, -1e9, 0).astype("float32")
    elif kind == "all":
        mask = rng.random((1, 1, t, s)) > 0.3
        bias = rng.standard_normal((1, heads, t, 1)).astype("float32")
    return (q, k, v, dy), dict(bias=bias, mask=mask, is_causal=kind in ("causal", "blind", "all"))


def with_gradients(function, *arrays):
    *tensors, dy = (backend.convert_to_tensor(x) for x in arrays)
    with backend.GradientTape() as tape:
        for t in tensors:
            tape.watch(t)
        y = function(*tensors)
        total = ops.sum(y * dy)
    return [np.asarray(x) for x in (y, *tape.gradient(total, tensors))]
