"""Cases of the ops that move elements: shapes, joining, splitting, slices, creation."""

import numpy as np
from support.op_case import FLOATS, INTS, OpCase, normal, values

ALL = FLOATS + INTS
X = normal(2, 3, 4)
SOME = ("float32", "bfloat16", "int32", "int8", "int64", "bool")


def move(name, attrs=None, maker=X, **more):
    return OpCase(name, [maker], attrs or {}, **{"dtypes": SOME, **more})


def update(x, start_indices, u):
    y = x.copy()
    y[tuple(slice(s, s + n) for s, n in zip(start_indices, u.shape, strict=True))] = u
    return y


def window(x, start_indices, shape):
    ends = [s + n if n >= 0 else None for s, n in zip(start_indices, shape, strict=True)]
    return x[tuple(slice(s, e) for s, e in zip(start_indices, ends, strict=True))]


def unstack(x, axis=0):
    return [np.take(x, i, axis) for i in range(x.shape[axis])]


def expand_dims(x, axis):
    return np.expand_dims(x, tuple(axis) if isinstance(axis, (list, tuple)) else axis)


def linspace(a, b, **kwargs):
    return np.linspace(a, b, **kwargs)


def made(name, attrs, label="", **more):
    """An op without tensor inputs."""
    more = {"differentiable": False, "symbolic": False, "dtypes": ("float32",), **more}
    return OpCase(name, [], attrs, label=label, **more)


CASES = [
    move("reshape", dict(newshape=[(6, 4), (-1,), (4, -1), (2, 3, 4), (1, 24, 1)]), dtypes=ALL,
         reference=lambda x, newshape: np.reshape(x, newshape), errors=(
             ((np.ones((2, 3)), (4, -1)), {}, ValueError, "reshape: the sizes do not divide"),
             ((np.ones((2, 3)), (7,)), {}, ValueError, "reshape: expected a shape of 6 elements"))),
    move("ravel"),
    move("expand_dims", dict(axis=[0, 1, -1, (0, 2), (-1, 0)]), reference=expand_dims),
    move("squeeze", dict(axis=[None, 0, -1, (0, 2)]), normal(1, 3, 1),
         errors=(((np.ones((2, 3)), 0), {}, ValueError, "squeeze: expected size 1 along axis 0"),)),
    move("transpose", dict(axes=[None, (1, 2, 0), (0, 2, 1), (0, 1, 2), (-1, 0, 1)]), dtypes=ALL,
         errors=(((np.ones((2, 3)), (0, 0)), {}, ValueError, "transpose: an axis is given twice"),
                 ((np.ones((2, 3)), (0,)), {}, ValueError, "transpose: expected one entry per axis"))),
    move("transpose", dict(axes=[(1, 0), None]), normal(67, 130), label="blocks", second=False,
         dtypes=("float32", "float64", "float16", "uint8")),
    move("transpose", dict(axes=[(0, 2, 1, 3), (3, 1, 0, 2), (0, 3, 1, 2)]), normal(2, 17, 3, 20),
         label="rank 4", second=False),
    move("moveaxis", dict(source=[0, 1, -1], destination=[-1, 0])),
    move("moveaxis", dict(source=[(0, 1)], destination=[(-1, 0), (1, 2)]), label="two"),
    move("swapaxes", dict(axis1=[0, 1], axis2=[-1])),
    move("broadcast_to", dict(shape=[(5, 2, 3, 4), (2, 3, 4)]),
         errors=(((np.ones((2, 3)), (3, 3)), {}, ValueError, "broadcast_to: expected a shape"),)),
    move("broadcast_to", dict(shape=[(2, 3, 4), (5, 2, 3, 4)]), normal(3, 1), label="inner"),
    OpCase("concatenate", [[normal(2, 3, 4), normal(2, 1, 4), normal(2, 0, 4)]], dict(axis=[1, -2]),
           dtypes=SOME, errors=(
               (([np.ones((2, 3)), np.ones((3, 3))],), dict(axis=1), ValueError,
                "concatenate: expected equal shapes except along axis 1"),
               (([],), {}, ValueError, "concatenate: expected at least one tensor"))),
    OpCase("concatenate", [[normal(2, 3), normal(4, 3)]], dict(axis=[0]), label="rows"),
    OpCase("stack", [[X, X, X]], dict(axis=[0, 1, -1]), dtypes=SOME),
    *[OpCase(n, [[normal(2, 3, 4), normal(2, 3, 4)]]) for n in ("hstack", "vstack", "dstack")],
    *[OpCase(n, [[normal(3), normal(3)]], label="vectors") for n in ("hstack", "vstack", "dstack")],
    OpCase("append", [normal(2, 3), normal(2, 3)], dict(axis=[None, 0, 1])),
    move("split", dict(indices_or_sections=[2, [1, 3], [3, 1, 9], [0]], axis=[2]), dtypes=("float32",),
         errors=(((np.ones(5), 2), {}, ValueError, "split: expected a number of sections that"),)),
    move("split", dict(indices_or_sections=[3, [1]], axis=[1, -2]), dtypes=("float32", "int8"),
         label="middle"),
    move("array_split", dict(indices_or_sections=[3, [1]], axis=[2]), dtypes=("float32",)),
    move("unstack", dict(axis=[0, 1, -1]), reference=unstack, dtypes=("float32", "int32")),
    *[move(n, dict(indices_or_sections=[[1]]), dtypes=("float32",))
      for n in ("hsplit", "vsplit", "dsplit")],
    move("slice", dict(start_indices=[(0, 1, 2)], shape=[(2, 2, 2), (1, -1, 2)]), reference=window,
         errors=(((np.ones(3), (2,), (2,)), {}, ValueError, "slice: the window leaves the tensor"),)),
    OpCase("slice_update", [X, values((0, 1, 1), "int32"), normal(2, 1, 3)], dtypes=SOME,
           reference=update, differentiable=(0, 2), errors=(
               ((np.ones(3), (0,), np.ones(4)), {}, ValueError, "slice_update: expected updates"),)),
    OpCase("slice", [X, values((0, 1, 2), "int32")], dict(shape=[(2, 2, 2)]), label="at run time",
           differentiable=(0,), reference=window),
    move("flip", dict(axis=[None, 0, 1, (0, 2)])),
    move("fliplr"),
    move("flipud"),
    move("rot90", dict(k=[0, 1, 2, 3, -1], axes=[(0, 1), (2, 1)])),
    move("roll", dict(shift=[2, -1], axis=[None, 0, 1])),
    move("roll", dict(shift=[(1, -2)], axis=[(0, 2), (1, 1)]), label="axes"),
    move("tile", dict(repeats=[2, (2, 1, 3), (2, 1, 1, 1)]),
         reference=lambda x, repeats: np.tile(x, repeats)),
    move("repeat", dict(repeats=[3], axis=[None, 0, -1])),
    move("repeat", dict(repeats=[[1, 0, 2]], axis=[1]), label="counts", errors=(
        ((np.ones(3), [1, 2]), {}, ValueError, "repeat: expected one count or 3"),)),
    move("pad", dict(pad_width=[((1, 1), (0, 2), (2, 0)), 1, (1, 2)],
                     mode=["constant", "reflect", "symmetric", "edge", "wrap"]), normal(3, 3, 4),
         dtypes=("float32", "float16", "int8"), errors=(
             ((np.ones(3), [(1, -1)]), {}, ValueError, "pad: expected a pair of numbers >= 0"),
             ((np.ones(3), 1, "linear"), {}, ValueError, "pad: expected a mode among"))),
    move("pad", dict(pad_width=[((1, 1), (0, 2), (2, 0))], constant_values=[3]), label="value"),
    move("tril", dict(k=[0, 1, -1])),
    move("triu", dict(k=[0, 1, -1])),
    move("diagonal", dict(offset=[0, 1, -1, 9], axis1=[0, 1], axis2=[2])),
    move("trace", dict(offset=[0, 1]), dtypes=("float32", "int32")),
    move("diag", dict(k=[0, 1, -2]), normal(4)),
    move("diag", dict(k=[0, 1, -2]), normal(4, 3), label="matrix"),
    move("diagflat", dict(k=[0, 2]), normal(2, 3)),
    move("vander", dict(N=[None, 2], increasing=[False, True]), normal(4), dtypes=("float32", "int32"),
         second=False),
    move("zeros_like", differentiable=False),
    move("ones_like", differentiable=False),
    move("empty_like", differentiable=False, reference=np.zeros_like),
    move("full_like", dict(fill_value=[3]), differentiable=False),
    OpCase("linspace", [normal(3), normal(3)], dict(num=[5, 1], axis=[0, 1], endpoint=[True, False]),
           reference=linspace),
    made("zeros", dict(shape=[(2, 3), (0,), ()])),
    made("ones", dict(shape=[(2, 3), (0,), ()])),
    made("full", dict(shape=[(2, 3)], fill_value=[2.5])),
    made("full", dict(shape=[(2, 3)], fill_value=[2]), label="int", result="int32"),
    made("eye", dict(N=[3], M=[None, 4], k=[0, 1, -1])),
    made("identity", dict(n=[3])),
    made("tri", dict(N=[3], M=[None, 4], k=[0, 1, -1])),
    made("arange", dict(start=[1], stop=[9, 2, 1], step=[3]), result="int32"),
    made("arange", dict(start=[0.5], stop=[2.0], step=[0.25, 0.3]), label="float"),
    made("arange", dict(start=[5], stop=[1], step=[-2]), label="down", result="int32", errors=(
        ((1, 2, 0), {}, ValueError, "arange: expected a step other than 0"),)),
    made("linspace", dict(start=[0], stop=[1.0], num=[7], endpoint=[True, False]), label="numbers"),
    made("logspace", dict(start=[0], stop=[2], num=[7])),
    made("geomspace", dict(start=[1.0], stop=[100.0], num=[5]), tolerance=2),
    *[made(f.__name__, {"x": [7]}, reference=lambda x, f=f: f(x))
      for f in (np.bartlett, np.blackman, np.hamming, np.hanning)],
    made("kaiser", dict(x=[7], beta=[3.0]), reference=lambda x, beta: np.kaiser(x, beta)),
]  # fmt: skip
