"""Cases of the reductions, running sums and moments."""

import numpy as np
from support.op_case import FLOATS, INTS, OpCase, booleans, distinct, integers, normal, values

AXES = dict(axis=[None, 0, -1, (0, 2), (1,), ()], keepdims=[False, True])
ONE_AXIS = dict(axis=[None, 0, 1, -1], keepdims=[False, True])
ALL = FLOATS + INTS
_WEIGHTS = np.arange(6.0).reshape(2, 3)
_RAMP = np.linspace(-2, 2, 60).reshape(3, 4, 5)
NAN = values(np.where(np.arange(60).reshape(3, 4, 5) % 7 == 3, np.nan, _RAMP))


def wide(dtype):
    """Short integers are summed as 32-bit ones."""
    short = {"bool": "int32", "int8": "int32", "int16": "int32", "uint8": "uint32"}
    return short.get(dtype, "uint32" if dtype == "uint16" else dtype)


def reduction(name, maker=None, attrs=AXES, dtypes=FLOATS, **more):
    return OpCase(name, [maker or normal(3, 4, 5)], attrs, dtypes=dtypes, **more)


def without_nan(name, attrs=AXES, **more):
    return OpCase(name, [NAN], attrs, dtypes=("float32", "float64"), differentiable=False, **more)


def moments(x, axes, keepdims):
    return x.mean(axes, keepdims=keepdims), x.var(axes, keepdims=keepdims)


def logsumexp(x, axis=None, keepdims=False):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def with_initial(f):
    return lambda x, axis, initial: f(x, axis=axis, initial=initial)


def large(name, shape, axis, **more):
    """Long enough for several chunks, folded rows, tails."""
    return OpCase(name, [normal(*shape)], dict(axis=[axis]), dtypes=("float32", "bfloat16"),
                  differentiable=False, label=f"{shape} over {axis}", tolerance=30,
                  **more)  # fmt: skip


SUMS = [
    reduction("sum", dtypes=ALL + ("bool",), result=wide, errors=(
        ((np.ones((2, 3)), 2), {}, ValueError,
         "sum: axis out of range; expected -2 <= axis < 2, got 2"),
        ((np.ones((2, 3)), (0, -2)), {}, ValueError, "sum: an axis is given twice"))),
    reduction("prod", normal(3, 2, 3), dtypes=FLOATS + ("int32", "int64", "int8", "uint8"),
              result=wide, tolerance=4),
    reduction("prod", values([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0]]), dict(axis=[0, 1, None]),
              ("float64",), label="zeros", second=False),
    reduction("max", distinct(3, 4, 5), dtypes=ALL + ("bool",)),
    reduction("min", distinct(3, 4, 5), dtypes=ALL + ("bool",)),
    reduction("max", attrs=dict(axis=[0, None], initial=[0.5]), reference=with_initial(np.max),
              label="initial", second=False),
    reduction("min", attrs=dict(axis=[0, None], initial=[0.5]), reference=with_initial(np.min),
              label="initial", second=False,
              errors=((([],), {}, ValueError, "min: nothing to reduce"),)),
    reduction("max", NAN, label="nan", differentiable=False),
    reduction("min", NAN, label="nan", differentiable=False),
    reduction("amax", distinct(3, 4, 5)),
    reduction("amin", distinct(3, 4, 5)),
    reduction("ptp", distinct(3, 4, 5), dict(axis=[None, 0, (0, 2)], keepdims=[False, True])),
    reduction("mean", dtypes=FLOATS + ("int32", "bool", "uint8"), result="float"),
    reduction("var", dtypes=FLOATS + ("int32",), result="float", tolerance=4),
    reduction("std", attrs=dict(axis=[None, 0, (0, 2)], keepdims=[False, True]),
              dtypes=FLOATS + ("int32",), result="float", tolerance=4),
    reduction("logsumexp", reference=logsumexp),
    reduction("logsumexp", values([[1000.0, 1000.0], [-1000.0, -1001.0]]), dict(axis=[1]),
              ("float32",), reference=lambda x, axis: np.array([1000.0, -1000.0]) +
              logsumexp(x - np.array([[1000.0], [-1000.0]]), axis=1), label="large"),
    reduction("moments", attrs=dict(axes=[0, (0, 2)], keepdims=[False, True]), reference=moments,
              dtypes=("float32", "float64"), tolerance=4),
    OpCase("average", [normal(3, 4)], dict(axis=[None, 0, 1])),
    OpCase("average", [normal(3, 4)], dict(axis=[0], weights=[np.array([0.5, 1.0, 2.0])]),
           dtypes=("float64",), label="weights of an axis", errors=(
               (([1.0, 2.0, 3.0],), dict(axis=0, weights=[1.0, 2.0]), ValueError,
                "average: expected 3 weights"),)),
    OpCase("average", [normal(2, 3)], dict(axis=[0, 1, None], weights=[_WEIGHTS]),
           dtypes=("float64",), label="weights of all"),
    OpCase("sum", [normal(0, 3)], dict(axis=[0, 1, None]), label="empty", differentiable=False),
    OpCase("prod", [normal(0, 3)], dict(axis=[0, 1, None]), label="empty", differentiable=False),
]  # fmt: skip
LARGE = [
    large("sum", (200_000,), 0), large("sum", (3, 70_000), 1), large("sum", (5000, 3), 0),
    large("sum", (1000, 700), 0), large("sum", (70, 40, 30), (0, 2)), large("sum", (64, 33, 65), 1),
    large("max", (200_000,), 0), large("min", (5003, 7), 0), large("mean", (2000, 70), 0),
    large("sum", (1, 300, 1, 20), (0, 2)), large("max", (40, 1, 600), (1,)),
]  # fmt: skip
TRUTH = [
    *(OpCase(name, [booleans(3, 4, 5)], AXES, differentiable=False, result="bool",
             dtypes=("float32", "int32", "bool"))
      for name in ("any", "all")),
    *(OpCase(name, [booleans(0, 3)], dict(axis=[0, None]), differentiable=False, result="bool",
             label="empty") for name in ("any", "all")),
    OpCase("count_nonzero", [integers(3, 4, low=0, high=3)], dict(axis=[None, 0, (0, 1)]),
           reference=lambda x, axis: np.asarray(np.count_nonzero(x, axis)), result="int32",
           differentiable=False),
]  # fmt: skip
INDICES = [
    *(OpCase(name, [maker], ONE_AXIS, dtypes=dtypes, result="int32", differentiable=False,
             label=label, errors=(
                 (([[]],), dict(axis=1), ValueError, f"{name}: expected at least one"),))
      for name in ("argmax", "argmin")
      for maker, dtypes, label in (
          (normal(3, 4, 5), ALL, ""), (normal(3, 70, 300), ("float32",), "large"),
          (normal(6, 1000), ("float32", "bfloat16"), "rows"),
          (integers(4, 50, low=0, high=3), ("int32",), "ties"), (NAN, FLOATS, "nan"))),
    *(without_nan(name, ONE_AXIS, result="int32") for name in ("nanargmax", "nanargmin")),
]  # fmt: skip
RUNNING = [
    OpCase("cumsum", [normal(3, 4, 5)], dict(axis=[None, 0, 1, -1]), dtypes=ALL),
    OpCase("cumsum", [booleans(3, 4)], dict(axis=[0]), result="int32", label="bool",
           differentiable=False),
    OpCase("cumsum", [normal(4, 5000)], dict(axis=[0, 1]), dtypes=("float32",), label="large",
           differentiable=False, tolerance=20),
    OpCase("cumprod", [distinct(3, 2, 4)], dict(axis=[None, 0, 1, -1]), dtypes=FLOATS + ("int32",),
           tolerance=4, second=False),
]  # fmt: skip
NANS = [
    *(without_nan(name, tolerance=8) for name in
      ("nansum", "nanprod", "nanmax", "nanmin", "nanmean", "nanvar", "nanstd")),
    *(without_nan(name, dict(axis=[None, 0, 1]), tolerance=8)
      for name in ("nancumsum", "nancumprod")),
]  # fmt: skip
Q = dict(q=[0.3, [0.0, 0.5, 1.0], [0.21]], axis=[None, 1, (0, 2)], keepdims=[False, True])
METHODS = ["linear", "lower", "higher", "midpoint", "nearest"]


def order(name, maker, attrs, reference=None, differentiable=False, label="", dtypes=FLOATS[:2]):
    return OpCase(name, [maker], attrs, reference, dtypes, "float", tolerance=4,
                  differentiable=differentiable, second=False, label=label)  # fmt: skip


ORDER = [
    order("quantile", distinct(3, 4, 5), Q, differentiable=True, dtypes=("float32", "float64", "int32")),
    order("quantile", distinct(3, 7), dict(q=[[0.2, 0.77]], axis=[1], method=METHODS), label="methods"),
    order("quantile", NAN, Q, label="nan"),
    order("nanquantile", NAN, Q),
    order("percentile", distinct(3, 4, 5), dict(q=[30, [0, 50.0, 100]], axis=[None, 1])),
    order("nanpercentile", NAN, dict(q=[30, [0, 50.0, 100]], axis=[None, 1])),
    order("median", distinct(3, 4, 5), dict(axis=[None, 0, (0, 2)], keepdims=[False, True]),
          differentiable=True),
    order("nanmedian", NAN, dict(axis=[None, 0, (0, 2)], keepdims=[False, True])),
    OpCase("quantile", [], differentiable=False, symbolic=False, label="errors", dtypes=(), errors=(
        (([1.0], 1.5), {}, ValueError, r"quantile: expected probabilities in \[0, 1\]"),
        (([1.0], 0.5), dict(method="best"), ValueError, "quantile: expected a method of"))),
]  # fmt: skip
CASES = ORDER + SUMS + LARGE + TRUTH + INDICES + RUNNING + NANS
