"""Cases of reading and writing at indices, and of order."""

import numpy as np
from support.op_case import FLOATS, INTS, OpCase, distinct, integers, normal, values

from hornbeam import ops

X = normal(5, 4, 3)
SOME = ("float32", "float64", "bfloat16", "int32", "uint8", "bool")


def scatter(indices, v, shape):
    out = np.zeros(shape, v.dtype)
    np.add.at(out, tuple(np.moveaxis(indices, -1, 0)), v)
    return out


def scatter_update(x, indices, updates, reduction):
    out, at = x.copy(), tuple(np.moveaxis(indices, -1, 0))
    if reduction is None:
        out[at] = updates
    else:
        names = {"add": np.add, "max": np.maximum, "min": np.minimum, "mul": np.multiply}
        names[reduction].at(out, at, updates)
    return out


def segments(f, start):
    def reference(data, ids, num_segments):
        out = np.full((num_segments, *data.shape[1:]), start, data.dtype)
        kept = (ids >= 0) & (ids < num_segments)
        f.at(out, ids[kept], data[kept])
        return out

    return reference


def one_hot(x, num_classes, axis):
    hot = (x[..., None] == np.arange(num_classes)).astype("float64")
    return np.moveaxis(hot, -1, axis)


def top_k(x, k):
    order = np.argsort(-x, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(x, order, -1), order.astype("int32")


def stable_argsort(x, axis):
    return np.argsort(x, axis=axis, kind="stable").astype("int32")


IDS = integers(40, low=-1, high=6)
ROWS = normal(40, 5)
PLACES = values([[0, 1], [2, -1], [0, 1], [4, 0]], "int32")
ONCE = values([[0, 1], [2, -1], [4, 0]], "int32")

READING = [
    OpCase("take", [X, integers(2, 3, low=-3, high=3)], dict(axis=[0, 1, 2, -1, None]), dtypes=SOME,
           errors=(((np.ones((3, 2)), [5]), dict(axis=0), RuntimeError,
                    r"gather: index 5 is out of range for axis 0 of size 3"),
                   ((np.ones((3, 2)), [-4]), dict(axis=0), RuntimeError, "index -4 is out of range"))),
    OpCase("take", [normal(50, 300), integers(200, low=0, high=50)], dict(axis=[0]), label="rows",
           second=False),
    OpCase("take", [X], dict(indices=[2, -1], axis=[0, 1]), label="one index"),
    OpCase("take_along_axis", [X, integers(5, 2, 3, low=-4, high=4)], dict(axis=[1, -2]),
           dtypes=SOME),
    OpCase("take_along_axis", [X, integers(1, 4, 3, low=0, high=5)], dict(axis=[0]), label="first"),
    OpCase("take_along_axis", [normal(3, 4), integers(3, 1, low=0, high=4)], dict(axis=[1]),
           label="one each"),
    OpCase("isin", [integers(3, 4), values([2, 5, 9], "int32")], dict(invert=[False, True]),
           dtypes=("int32",), result="bool", differentiable=False),
]  # fmt: skip

WRITING = [
    OpCase("scatter", [PLACES, normal(4, 3)], dict(shape=[(5, 4, 3)]), reference=scatter,
           dtypes=("float32", "bfloat16", "int32"),
           errors=((([[0], [9]], [1.0, 2.0], (4,)), {}, RuntimeError, "index 9 is out of range"),
                   (([[0], [1]], [1.0], (4,)), {}, ValueError, r"scatter: expected values of shape"))),
    OpCase("scatter_update", [X, ONCE, normal(3, 3)], dict(reduction=[None, "add", "max", "min"]),
           reference=scatter_update, dtypes=("float32", "bfloat16", "int32"), errors=(
               ((np.ones(3), [[0]], [1.0], "sub"), {}, ValueError,
                "scatter_update: expected reduction None or one of"),)),
    OpCase("scatter_update", [X, PLACES, normal(4, 3)], dict(reduction=["add", "mul", None]),
           reference=scatter_update, differentiable=False, label="repeated"),
    OpCase("scatter_update", [normal(300, 100), integers(900, 1, low=0, high=300), normal(900, 100)],
           dict(reduction=["add"]), reference=scatter_update, label="many", second=False, tolerance=4),
    OpCase("segment_sum", [ROWS, IDS], dict(num_segments=[7, 4]), reference=segments(np.add, 0),
           dtypes=FLOATS + ("int32", "int64"), tolerance=4, errors=(
               ((np.ones((3, 2)), [0, 1]), {}, ValueError, "segment_sum: expected one id for each"),)),
    *[OpCase(name, [ROWS, IDS], dict(num_segments=[4]), reference=segments(f, start),
             dtypes=("float32", "float64", "float16"))
      for name, f, start in (("segment_max", np.maximum, -np.inf),
                             ("segment_min", np.minimum, np.inf))],
    *[OpCase(name, [ROWS, IDS], dict(num_segments=[7]), reference=segments(f, start),
             differentiable=False, label="no rows")
      for name, f, start in (("segment_max", np.maximum, -np.inf),
                             ("segment_min", np.minimum, np.inf))],
    OpCase("segment_prod", [ROWS, IDS], dict(num_segments=[7]), reference=segments(np.multiply, 1),
           differentiable=False, tolerance=4),
    OpCase("segment_sum", [normal(9000, 3), integers(9000, low=0, high=5)], dict(num_segments=[5]),
           reference=segments(np.add, 0), label="chunks", tolerance=20, second=False),
    OpCase("segment_sum", [normal(100, 300), integers(100, low=0, high=2000)],
           dict(num_segments=[2000]), reference=segments(np.add, 0), label="table", second=False),
]  # fmt: skip

ENCODING = [
    OpCase("one_hot", [integers(3, 2, low=-1, high=5)], dict(num_classes=[4], axis=[-1, 0, 1]),
           reference=one_hot, dtypes=("int32",), result="float32", differentiable=False),
    OpCase("multi_hot", [integers(3, 4, low=0, high=5)], dict(num_classes=[5]), dtypes=("int32",),
           reference=lambda x, num_classes: one_hot(x, num_classes, -1).max(1), result="float32",
           differentiable=False),
    OpCase("unravel_index", [integers(5, low=0, high=24)], dict(shape=[(2, 3, 4)]), dtypes=("int32",),
           differentiable=False),
    OpCase("bincount", [integers(50, low=0, high=7)], dict(minlength=[9]), dtypes=("int32",),
           result="int32", differentiable=False),
    OpCase("histogram", [normal(60)], dict(bins=[10, 3]), differentiable=False, second=False,
           reference=lambda x, bins: tuple(np.histogram(x, bins)), dtypes=("float64",)),
    OpCase("histogram", [normal(60)], dict(range=[(-1.0, 1.0)]), differentiable=False, label="range",
           reference=lambda x, range: tuple(np.histogram(x, 10, range)), dtypes=("float64",)),
    OpCase("digitize", [normal(20), values([-1.0, 0.0, 0.5])], differentiable=False, result="int32"),
    OpCase("searchsorted", [values(np.linspace(-2, 2, 9)), normal(4, 3)], dict(side=["left", "right"]),
           differentiable=False, result="int32", errors=(
               ((np.ones(3), np.ones(2), "middle"), {}, ValueError, "searchsorted: expected side"),
               ((np.ones((3, 2)), np.ones(2)), {}, ValueError, "searchsorted: expected a sorted vec"))),
    OpCase("searchsorted", [values([1, 2, 2, 5], "int32"), values([0, 2, 9], "int32")],
           dict(side=["left", "right"]), dtypes=("int32",), label="ties", differentiable=False),
]  # fmt: skip

TIES = values(np.array([[3.0, 1, 2, 1, 3], [0, 0, 0, -1, 0]]))
NAN = values(np.array([[3.0, np.nan, 2, -np.inf, np.nan], [np.inf, 0, np.nan, -1, 0]]))
SORTING = [
    OpCase("sort", [distinct(3, 17)], dict(axis=[-1, 0, None]), dtypes=FLOATS + INTS),
    OpCase("sort", [NAN], dict(axis=[-1]), label="nan", differentiable=False),
    OpCase("sort", [normal(4, 1000)], dict(axis=[-1]), label="long", differentiable=False,
           dtypes=FLOATS + INTS + ("bool",)),
    OpCase("argsort", [normal(4, 1000)], dict(axis=[-1]), label="long", differentiable=False,
           dtypes=FLOATS + INTS + ("bool",), reference=stable_argsort, result="int32"),
    OpCase("argsort", [values(np.tile([0.0, -0.0, np.nan, 1.0, -np.inf, -np.nan], 100))],
           dict(axis=[-1]), label="long, special", differentiable=False, reference=stable_argsort,
           result="int32"),
    OpCase("argsort", [TIES], dict(axis=[-1, 0, None]), reference=stable_argsort, result="int32",
           differentiable=False, dtypes=("float32", "int32")),
    OpCase("argsort", [NAN], dict(axis=[-1]), reference=stable_argsort, result="int32", label="nan",
           differentiable=False),
    OpCase("top_k", [distinct(3, 17)], dict(k=[1, 3, 17, 0]), reference=top_k, differentiable=False,
           dtypes=("float32", "float64", "int32"), errors=(
               ((np.ones(3), 4), {}, ValueError, "top_k: expected 0 <= k <= the size"),)),
    OpCase("top_k", [TIES], dict(k=[3]), reference=top_k, label="ties", differentiable=False),
    OpCase("top_k", [normal(2, 300)], dict(k=[100]), reference=top_k, label="many",
           differentiable=False),
    OpCase("in_top_k", [values([1, 0, 2, 7], "int32"), values(np.tile([0.1, 0.9, 0.3], (4, 1)))],
           dict(k=[1, 2, 3]), result="bool", differentiable=False,
           reference=lambda t, p, k: np.array([True, k > 2, k > 1, False])),
    OpCase("argpartition", [distinct(3, 9)], dict(kth=[4]), result="int32", differentiable=False,
           reference=lambda x, kth: stable_argsort(x, -1)),
]  # fmt: skip

KEYS = {
    "int": np.s_[1], "last": np.s_[..., 0], "new axis": np.s_[:, None, 1:], "steps": np.s_[::-1, ::2],
    "mixed": np.s_[1, ..., ::-2], "empty": np.s_[2:1], "all": np.s_[...],
    "array": np.s_[np.array([1, 0, 1])], "inner array": np.s_[:, np.array([[1], [-1]])],
    "apart": np.s_[np.array([1, 0, 1]), :, np.array([0, 2, 1])],
    "together": np.s_[:, np.array([1, 0, 1]), np.array([0, 2, 1])],
    "broadcast": np.s_[np.array([1, 0]), np.array([[1], [-1]])],
    "int and array": np.s_[0, :, np.array([1, 0])], "list": np.s_[[1, 0]],
    "mask": np.s_[:, np.array([True, False, True, True])],
}  # fmt: skip
ITEMS = [
    OpCase("get_item", [X], dict(key=[key]), reference=lambda x, key: x[key], label=label,
           dtypes=("float32", "bool"), errors=(
               ((ops.ones(3), 5), {}, IndexError, "index 5 is out of bounds|out of range"),))
    for label, key in KEYS.items()
]  # fmt: skip

CASES = READING + WRITING + ENCODING + SORTING + ITEMS
