"""Cases of softmax, normalisation, cross entropy, attention and pooling."""

import numpy as np
from support.op_case import FLOATS, OpCase, booleans, distinct, integers, normal, uniform

EPS = 1e-3


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_softmax(x, axis=-1):
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def sparsemax(x):
    flat = x.reshape(-1, x.shape[-1])
    out = []
    for row in flat:
        z = np.sort(row)[::-1]
        k = np.arange(1, len(z) + 1)
        support = k[1 + k * z > np.cumsum(z)].max()
        out.append(np.maximum(row - (z[:support].sum() - 1) / support, 0))
    return np.array(out).reshape(x.shape)


def layer_normalization(x, gamma, beta, axis=-1, epsilon=EPS):
    y = (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + epsilon)
    shape = [n if i in np.atleast_1d(axis) % x.ndim else 1 for i, n in enumerate(x.shape)]
    return y * gamma.reshape(shape) + beta.reshape(shape)


def rms_normalization(x, scale, axis=-1, epsilon=EPS):
    return x / np.sqrt(np.mean(x * x, axis, keepdims=True) + epsilon) * scale


def batch_normalization(x, mean, variance, axis, offset=None, scale=None):
    def along(v):
        return v.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])

    y = (x - along(mean)) / np.sqrt(along(variance) + EPS)
    y = y if scale is None else y * along(scale)
    return y if offset is None else y + along(offset)


def normalize(x, axis=-1, order=2):
    return x / np.sum(np.abs(x) ** order, axis, keepdims=True) ** (1 / order)


def categorical(target, output, from_logits=False, axis=-1):
    p = output / output.sum(axis, keepdims=True) if not from_logits else None
    log_p = log_softmax(output, axis) if from_logits else np.log(np.clip(p, 1e-7, 1 - 1e-7))
    return -(target * log_p).sum(axis)


def sparse_categorical(target, output, from_logits=False, axis=-1):
    hot = np.moveaxis(np.eye(output.shape[axis])[target], -1, axis)
    return categorical(hot, output, from_logits, axis)


def binary(target, output, from_logits=False):
    p = 1 / (1 + np.exp(-output)) if from_logits else np.clip(output, 1e-7, 1 - 1e-7)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def attention(q, k, v, bias=0, mask=True, is_causal=False, scale=None):
    repeat = q.shape[2] // k.shape[2]
    k, v = np.repeat(k, repeat, 2), np.repeat(v, repeat, 2)
    scores = np.einsum("btnh,bsnh->bnts", q, k) * (scale or q.shape[-1] ** -0.5)
    scores = np.where(mask, scores + bias, -1e30)
    if is_causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -1e30)
    return np.einsum("bnts,bsnh->btnh", softmax(scores), v)


X = normal(3, 4, 5)
DIFFERENT = (np.ones((2, 3)), np.ones((2, 4)))
FUNCTIONS = [
    OpCase("softmax", [X], dict(axis=[-1, 1, 0]), reference=softmax, dtypes=FLOATS),
    OpCase("softmax", [X], dict(axis=[(0, 2), (1, 2)]), reference=softmax, label="axes"),
    OpCase("softmax", [normal(5, 1000)], reference=softmax, label="long", second=False,
           dtypes=("float32", "float16")),
    OpCase("log_softmax", [X], dict(axis=[-1, 1, 0]), reference=log_softmax, dtypes=FLOATS,
           tolerance=4),
    OpCase("log_softmax", [normal(3, 4, scale=300)], reference=log_softmax, label="large",
           differentiable=False),
    OpCase("sparsemax", [distinct(3, 6)], reference=sparsemax),
    OpCase("layer_normalization", [X, normal(5), normal(5)], dict(axis=[-1], epsilon=[EPS]),
           reference=layer_normalization, dtypes=FLOATS, tolerance=4, errors=(
               ((np.ones((2, 3)), np.ones(2)), {}, ValueError,
                r"layer_normalization: expected parameters of shape \(3,\)"),)),
    OpCase("layer_normalization", [X, normal(3, 5), normal(3, 5)], dict(axis=[(0, 2)], epsilon=[EPS]),
           reference=layer_normalization, label="axes", tolerance=4),
    OpCase("layer_normalization", [normal(300, 70), normal(70), normal(70)], dict(epsilon=[EPS]),
           reference=layer_normalization, label="many rows", tolerance=30, second=False),
    OpCase("rms_normalization", [X, normal(5)], dict(epsilon=[EPS]), reference=rms_normalization,
           dtypes=FLOATS, tolerance=4),
    OpCase("batch_normalization", [X, normal(4), uniform(4, low=0.5)],
           dict(axis=[1, -2], offset=[None, np.arange(4.0)], scale=[None, np.arange(2.0, 6)]),
           reference=batch_normalization, tolerance=4,
           errors=(((np.ones((2, 3)), np.ones(2), np.ones(3), 1), {}, ValueError,
                    r"batch_normalization: expected mean of shape \(3,\)"),)),
    OpCase("normalize", [X], dict(axis=[-1, 1], order=[1, 2, 3]), reference=normalize),
    OpCase("categorical_crossentropy", [uniform(3, 4, 5), X], dict(from_logits=[True], axis=[-1, 1]),
           reference=categorical, label="logits", dtypes=FLOATS, tolerance=4,
           errors=((DIFFERENT, {}, ValueError, "expected target and output of the same shape"),)),
    OpCase("categorical_crossentropy", [uniform(3, 4, 5), uniform(3, 4, 5, low=0.1)],
           dict(axis=[-1, 1]), reference=categorical, tolerance=4),
    OpCase("sparse_categorical_crossentropy", [integers(3, 4, low=0, high=5), X],
           dict(from_logits=[True]), reference=sparse_categorical, label="logits", dtypes=FLOATS,
           tolerance=4, errors=(
               (([0, 7], np.ones((2, 3), "float32"), True), {}, RuntimeError,
                "class index 7 is out of range; expected 0 <= index < 3"),
               (([0, 1, 2], np.ones((2, 3))), {}, ValueError, "expected classes of shape"))),
    OpCase("sparse_categorical_crossentropy",
           [integers(3, 5, low=0, high=4), uniform(3, 4, 5, low=0.1)], dict(axis=[1]),
           reference=sparse_categorical, tolerance=4),
    OpCase("binary_crossentropy", [uniform(3, 4), normal(3, 4)], dict(from_logits=[True]),
           reference=binary, label="logits", dtypes=FLOATS,
           errors=((DIFFERENT, {}, ValueError, "expected target and output of the same shape"),)),
    OpCase("binary_crossentropy", [uniform(3, 4), uniform(3, 4, low=0.1, high=0.9)],
           reference=binary),
    OpCase("dot_product_attention", [normal(2, 3, 4, 5), normal(2, 6, 2, 5), normal(2, 6, 2, 5)],
           reference=attention, tolerance=4, second=False),
    OpCase("dot_product_attention", [normal(1, 4, 2, 3)] * 3, dict(is_causal=[True]),
           reference=attention, label="causal", tolerance=4, second=False),
    OpCase("dot_product_attention",
           [normal(1, 3, 2, 2), normal(1, 4, 1, 2), normal(1, 4, 1, 3), normal(2, 1, 4),
            booleans(1, 1, 3, 4)],
           dict(scale=[0.3]), reference=attention, label="masked", tolerance=4,
           differentiable=[0, 1, 2, 3]),
    OpCase("dot_product_attention", [normal(2, 70, 2, 20), normal(2, 150, 2, 20),
           normal(2, 150, 2, 20)], dict(is_causal=[False, True]), reference=attention,
           label="tiles", tolerance=4, differentiable=False, errors=(
               ((np.ones((1, 2, 3), "float32"),) * 3, {}, ValueError, "expected .batch, length"),
               ((np.ones((1, 2, 3, 4), "float32"), *[np.ones((1, 2, 2, 4), "float32")] * 2), {},
                ValueError, "expected a multiple of the 2 key heads, got 3"))),
]  # fmt: skip


def pooling(reduce):
    def reference(x, pool_size, strides=None, padding="valid", data_format=None):
        if data_format == "channels_first":
            y = reference(np.moveaxis(x, 1, -1), pool_size, strides, padding)
            return np.moveaxis(y, -1, 1)
        dims = x.ndim - 2
        size = (pool_size,) * dims if isinstance(pool_size, int) else pool_size
        step = size if strides is None else (strides,) * dims
        out, starts = [], []
        for n, k, s in zip(x.shape[1:-1], size, step, strict=True):
            count = -(-n // s) if padding == "same" else (n - k) // s + 1
            pad = max((count - 1) * s + k - n, 0) // 2 if padding == "same" else 0
            out.append(count)
            starts.append([i * s - pad for i in range(count)])
        y = np.zeros((x.shape[0], *out, x.shape[-1]))
        for at in np.ndindex(*out):
            key = [slice(max(starts[d][i], 0), starts[d][i] + size[d]) for d, i in enumerate(at)]
            window = x[(slice(None), *key)]
            y[(slice(None), *at)] = reduce(window, axis=tuple(range(1, dims + 1)))
        return y

    return reference


def adaptive(reduce):
    def reference(x, output_size):
        h, w = x.shape[1:3]
        a, b = output_size
        rows = [x[:, i * h // a : -(-(i + 1) * h // a)] for i in range(a)]
        return np.stack(
            [np.stack([reduce(r[:, :, j * w // b : -(-(j + 1) * w // b)], axis=(1, 2))
                       for j in range(b)], 1) for r in rows], 1)  # fmt: skip

    return reference


POOLING = [
    OpCase(name, [maker], dict(pool_size=[size], strides=[strides], padding=["valid", "same"]),
           reference=pooling(reduce), label=label, dtypes=dtypes)
    for name, reduce in (("max_pool", np.max), ("average_pool", np.mean))
    for label, maker, size, strides, dtypes in (
        ("1D", distinct(2, 7, 3), 2, 1, FLOATS), ("2D", distinct(2, 6, 5, 3), (2, 3), None, FLOATS),
        ("3D", distinct(1, 4, 4, 3, 2), 2, 2, ("float32",)),
        ("channels", distinct(1, 4, 5, 70), 3, 2, ("float32",)))
] + [
    OpCase("max_pool", [distinct(2, 3, 6, 5)], dict(pool_size=[2], data_format=["channels_first"]),
           reference=pooling(np.max), label="channels first", errors=(
               ((np.ones((1, 2, 2, 1)), 3), {}, ValueError, "the window is larger than the input"),
               ((np.ones((1, 4, 1)), 2, 2, "full"), {}, ValueError, "expected padding 'valid' or 's"))),
    OpCase("max_pool", [distinct(2, 6, 3)], dict(pool_size=[2]), dtypes=("int32", "uint8"),
           reference=pooling(np.max), label="int", differentiable=False),
    OpCase("adaptive_average_pool", [normal(2, 7, 6, 3)], dict(output_size=[(3, 4), (7, 3)]),
           reference=adaptive(np.mean)),
    OpCase("adaptive_max_pool", [distinct(2, 7, 6, 3)], dict(output_size=[(3, 4), (7, 3)]),
           reference=adaptive(np.max)),
]  # fmt: skip

CASES = FUNCTIONS + POOLING
