"""Values of `keras.ops` on small inputs: name, arguments, result (a list of arrays)."""

import jax
import keras
import numpy as np

from recording import store


def specs():
    """(op, positional arguments, keyword arguments)"""
    r = store.rng("operations")
    x, y = store.normal(r, 3, 4), store.normal(r, 3, 4)
    positive = np.abs(x) + 0.25
    unit = np.clip(x / 4, -0.9, 0.9).astype("float32")
    cube = store.normal(r, 2, 3, 4)
    whole, other = (
        r.integers(-9, 10, (3, 4)).astype("int32"),
        r.integers(1, 6, (3, 4)).astype("int32"),
    )
    odd = np.array([-np.inf, -2.5, -0.5, 0.0, 0.5, 1.5, np.inf, np.nan], "float32")
    truth = x > 0

    for name in """
        abs arctan arcsinh ceil cos cosh exp expm1 floor negative round sign sin sinh square tan
        tanh relu relu6 sigmoid silu softplus softsign elu selu celu gelu hard_sigmoid hard_silu
        hard_tanh leaky_relu log_sigmoid log_softmax softmax mish hard_shrink soft_shrink
        tanh_shrink squareplus threshold sparse_sigmoid sparse_plus exp2 trunc sinc deg2rad cbrt
        erf logsumexp ones_like zeros_like sort argsort ravel transpose flip
    """.split():
        if hasattr(keras.ops, name):
            extra = [0.5, 0.0] if name == "threshold" else []
            yield name, [x, *extra], {}
    for name in "log log2 log10 log1p sqrt rsqrt reciprocal".split():
        yield name, [positive], {}
    for name in "arccos arcsin arctanh erfinv".split():
        yield name, [unit], {}
    yield "arccosh", [positive + 1], {}
    for name in "isnan isinf isfinite sign round floor abs nan_to_num relu sigmoid tanh".split():
        yield name, [odd], {}
    yield "gelu", [x], {"approximate": False}
    yield "glu", [x], {"axis": 1}
    yield "softmax", [cube], {"axis": 1}
    yield "softmax", [cube], {"axis": [1, 2]}
    yield "log_softmax", [cube * 30], {"axis": 0}
    yield "clip", [x, -0.5, 0.75], {}

    for name in """
        add subtract multiply maximum minimum arctan2 logaddexp equal greater less_equal hypot
        not_equal greater_equal less copysign
    """.split():
        if hasattr(keras.ops, name):
            yield name, [x, y], {}
    yield "add", [cube, x], {}
    yield "multiply", [x, 2.5], {}
    yield "divide", [x, positive], {}
    yield "divide_no_nan", [x, np.where(y > 0, y, 0).astype("float32")], {}
    yield "power", [positive, y], {}
    for name in ("floor_divide", "mod"):
        yield name, [x, y], {}
        yield name, [whole, other], {}
    yield "power", [other, other], {}
    yield "divide", [whole, other], {}
    for name in "bitwise_and bitwise_or bitwise_xor".split():
        yield name, [whole, other], {}
    yield "left_shift", [whole, other], {}
    yield "right_shift", [whole, other], {}
    for name in "logical_and logical_or logical_xor".split():
        yield name, [truth, y > 0], {}
    yield "logical_not", [truth], {}
    yield "where", [truth, x, y], {}
    yield "where", [truth, 1, y], {}

    for name in "sum mean max min prod var std any all logsumexp count_nonzero median".split():
        yield name, [x], {}
        yield name, [cube], {"axis": 1}
        if name not in ("count_nonzero",):
            yield name, [cube], {"axis": [0, 2], "keepdims": True}
    yield "sum", [whole], {"axis": 0}
    yield "mean", [whole], {"axis": 0}
    yield "sum", [truth], {}
    yield "average", [x], {"axis": 1, "weights": positive[0]}
    yield "max", [x], {"initial": 1.0}
    for name in ("argmax", "argmin"):
        yield name, [x], {}
        yield name, [cube], {"axis": 1, "keepdims": True}
    for name in ("cumsum", "cumprod"):
        yield name, [x], {"axis": 1}
        yield name, [x], {}
    yield "diff", [x], {"axis": 1}
    yield "quantile", [x, 0.3], {"axis": 1}
    yield "norm", [x], {}
    yield "norm", [x], {"axis": 1, "ord": 1}
    yield "normalize", [x], {"axis": 1}

    yield "matmul", [x, y.T.copy()], {}
    yield "matmul", [cube, store.normal(r, 4, 2)], {}
    yield "matmul", [cube, store.normal(r, 2, 4, 2)], {}
    yield "matmul", [x, y[0]], {}
    yield "dot", [x, y.T.copy()], {}
    yield "tensordot", [cube, x], {"axes": [[1, 2], [0, 1]]}
    yield "outer", [x[0], y[1]], {}
    yield "inner", [x, y], {}
    yield "cross", [x[:, :3], y[:, :3]], {}
    yield "einsum", ["ijk,jk->ik", cube, x], {}
    yield "einsum", ["...j,jk", cube, store.normal(r, 4, 2)], {}
    yield "trace", [x], {}
    yield "diagonal", [x], {"offset": 1}
    yield "diag", [x[0]], {}
    yield "tril", [x], {"k": -1}
    yield "triu", [cube], {}

    yield "reshape", [cube, [4, -1]], {}
    yield "transpose", [cube], {"axes": [1, 2, 0]}
    yield "swapaxes", [cube, 0, 2], {}
    yield "moveaxis", [cube, 0, -1], {}
    yield "expand_dims", [x, 1], {}
    yield "squeeze", [x[:, None]], {"axis": 1}
    yield "broadcast_to", [x[:1], [3, 4]], {}
    yield "concatenate", [[x, y]], {"axis": 1}
    yield "stack", [[x, y]], {"axis": 1}
    yield "hstack", [[x, y]], {}
    yield "vstack", [[x, y]], {}
    yield "split", [x, 2], {"axis": 1}
    yield "split", [x, [1, 3]], {"axis": 1}
    yield "tile", [x, [2, 1]], {}
    yield "repeat", [x, 2], {"axis": 1}
    yield "repeat", [x, np.array([1, 2, 0], "int32")], {"axis": 0}
    yield "roll", [x, 1], {"axis": 1}
    yield "flip", [cube], {"axis": 1}
    yield "rot90", [x], {}
    for mode in ("constant", "reflect", "symmetric", "edge"):
        yield "pad", [x, [[1, 0], [2, 1]]], {"mode": mode}
    yield "pad", [x, [[1, 0], [0, 1]]], {"constant_values": 3}
    yield "take", [x, np.array([[2, 0], [1, -1]], "int32")], {"axis": 1}
    yield "take", [x, np.array([5, -1], "int32")], {}
    yield "take_along_axis", [x, np.array([[0], [2], [1]], "int32")], {"axis": 1}
    yield "one_hot", [np.array([0, 2, -1, 3], "int32"), 3], {}
    yield "multi_hot", [np.array([[0, 2], [1, 1]], "int32"), 3], {}
    yield "arange", [2, 9, 3], {"dtype": "int32"}
    yield "linspace", [0.0, 1.0], {"num": 5}
    yield "linspace", [0.0, 1.0], {"num": 4, "endpoint": False}
    yield "logspace", [0.0, 2.0], {"num": 3}
    yield "eye", [3], {"k": 1}
    yield "full", [[2, 2], 1.5], {}
    yield "meshgrid", [x[0], y[0, :2]], {}
    yield "nonzero", [whole], {}
    yield "digitize", [x, np.array([-0.5, 0.0, 0.5], "float32")], {}
    yield "searchsorted", [np.sort(x[0]), y], {"side": "right"}
    yield "bincount", [np.array([0, 2, 2, 1], "int32")], {"minlength": 5}
    yield "histogram", [x[0]], {"bins": 4}
    yield "sort", [cube], {"axis": 1}
    yield "argsort", [cube], {"axis": 1}
    yield "top_k", [x, 2], {}
    yield "in_top_k", [np.array([0, 3, 1], "int32"), x, 2], {}
    yield "unique", [np.array([3, 1, 3, 2], "int32")], {}

    index = np.array([[0, 1], [2, 3], [0, 1]], "int32")
    yield "scatter", [index, x[0, :3], [3, 4]], {}
    yield "scatter_update", [x, index[:2], y[0, :2]], {}
    yield "slice", [cube, [0, 1, 1], [2, 2, 3]], {}
    yield "slice_update", [x, [1, 0], y[:2, :2]], {}
    ids = np.array([0, 2, 2], "int32")
    for name in ("segment_sum", "segment_max"):
        yield name, [x, ids], {"num_segments": 3 if name == "segment_max" else 4}
    yield "cast", [x, "int32"], {}
    yield "cast", [odd[1:6], "bool"], {}

    image, kernel = store.normal(r, 1, 5, 4, 2), store.normal(r, 3, 2, 2, 3)
    for padding in ("same", "valid"):
        yield "conv", [image, kernel], {"strides": 2, "padding": padding}
        yield "max_pool", [image, 2], {"strides": 1, "padding": padding}
        yield "average_pool", [image, 3], {"strides": 2, "padding": padding}
        extra = {"padding": padding, "strides": 2}
        yield "conv_transpose", [image, store.normal(r, 3, 2, 3, 2)], extra
        yield (
            "separable_conv",
            [
                image,
                store.normal(r, 2, 2, 2, 1),
                store.normal(r, 1, 1, 2, 3),
            ],
            extra,
        )
        yield "depthwise_conv", [image, store.normal(r, 3, 3, 2, 2)], extra
    yield "conv", [image, kernel], {"dilation_rate": 2, "padding": "same"}
    yield "moments", [cube], {"axes": [0, 1]}
    yield (
        "batch_normalization",
        [x, x[0], positive[1]],
        {"axis": 1, "offset": y[0], "scale": y[1], "epsilon": 0.01},
    )
    yield "layer_normalization", [x], {"epsilon": 0.01}
    yield "rms_normalization", [x], {}
    q = store.normal(r, 1, 3, 2, 4)
    yield "dot_product_attention", [q, q * 0.5, q + 1], {"is_causal": True}
    yield "binary_crossentropy", [truth.astype("float32"), np.abs(unit)], {}
    yield "binary_crossentropy", [truth.astype("float32"), x * 4], {"from_logits": True}
    hot = np.eye(4, dtype="float32")[[1, 0, 3]]
    yield "categorical_crossentropy", [hot, np.abs(unit)], {}
    yield "categorical_crossentropy", [hot, x], {"from_logits": True}
    yield "sparse_categorical_crossentropy", [ids, x], {"from_logits": True}

    square = store.normal(r, 2, 3, 3)
    definite = square @ square.transpose(0, 2, 1) + 2 * np.eye(3, dtype="float32")
    yield "cholesky", [definite], {}
    yield "inv", [definite], {}
    yield "det", [definite], {}
    yield "solve", [definite, store.normal(r, 2, 3, 1)], {}
    yield "solve_triangular", [np.tril(definite), store.normal(r, 2, 3, 1)], {"lower": True}


def cases():
    seen = {}
    for op, arguments, kwargs in specs():
        if not hasattr(keras.ops, op):
            raise AttributeError(f"keras.ops has no {op}")
        seen[op] = seen.get(op, -1) + 1
        out = getattr(keras.ops, op)(*arguments, **kwargs)
        yield {
            "name": f"{op}/{seen[op]}" if seen[op] else op,
            "op": op,
            "arguments": arguments,
            "kwargs": kwargs,
            "outputs": [np.asarray(o) for o in jax.tree_util.tree_leaves(out)],
        }
