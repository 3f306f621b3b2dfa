"""Cases of the element-wise ops: arithmetic, comparisons, logic, bits, activations."""

import math

import numpy as np
from support.op_case import (
    FLOATS,
    INTS,
    OpCase,
    booleans,
    distinct,
    integers,
    normal,
    uniform,
    values,
)

ALL = FLOATS + INTS
WIDE = ("float32", "float64", "int32", "int64")
inf, nan = math.inf, math.nan
SPECIAL = values([0.0, -0.0, 1.0, -1.0, inf, -inf, nan, 0.5, -2.5, 1e-40, 3e38, -3e38])


def unary(name, low, high, reference=None, dtypes=FLOATS, result="float", **more):
    return OpCase(
        name, [uniform(5, 7, low=low, high=high)], reference=reference, dtypes=dtypes,
        result=result, elementwise=True, **more,
    )  # fmt: skip


def binary(name, a=None, b=None, dtypes=FLOATS, **more):
    a, b = a or distinct(3, 8), b or uniform(3, 8, low=0.5, high=3.0)
    return OpCase(name, [a, b], dtypes=dtypes, elementwise=True, **more)


def stepped(name, reference=None, dtypes=FLOATS, **more):
    """Functions without slope."""
    return OpCase(
        name, [normal(5, 7, scale=4.0)], reference=reference, dtypes=dtypes,
        differentiable=False, elementwise=True, **more,
    )  # fmt: skip


def special(name, reference=None, dtypes=("float32", "float64"), result="float"):
    """Zeros of both signs, infinities, NaN and numbers near the ends of the range."""

    def finite_range(x):
        y = np.asarray((reference or getattr(np, name))(x))
        return y if y.dtype == bool else np.where(np.abs(y) > 3.4028235e38, np.copysign(inf, y), y)

    return OpCase(
        name, [SPECIAL], reference=finite_range, dtypes=dtypes[:1], result=result,
        differentiable=False, label="special",
    )  # fmt: skip


def inverse_erf(y):
    """By bisection."""
    y = np.asarray(y, np.float64)
    low, high = np.full(y.shape, -6.0), np.full(y.shape, 6.0)
    for _ in range(80):
        middle = (low + high) / 2
        above = erf(middle) > y
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2


erf, erfc = np.vectorize(math.erf, [float]), np.vectorize(math.erfc, [float])


def np_clip(x, x_min, x_max):
    return np.clip(x, x_min, x_max)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(x, 0)


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


ARITHMETIC = [
    binary("add", normal(3, 8), normal(3, 8), ALL + ("bool",), errors=(
        ((np.zeros((3, 4)), np.zeros((2, 4))), {}, ValueError,
         r"add: shapes do not broadcast.*\(3, 4\)"),
        (([1, [2, 3]], 1), {}, ValueError, "ragged"),
        ((np.array(["a"]), 1), {}, ValueError, "dtype: expected one of"),
    )),
    binary("subtract", normal(3, 8), normal(3, 8), ALL),
    binary("multiply", normal(3, 8), normal(3, 8), ALL + ("bool",)),
    binary("divide", dtypes=FLOATS + ("int32", "uint8"), result="float"),
    binary("true_divide", result="float"),
    binary("floor_divide", distinct(3, 8), normal(3, 8), WIDE, differentiable=False,
           reference=lambda a, b: _integer_division(np.floor_divide, a, b)),
    *(binary(name, distinct(3, 8), divisors, WIDE, tolerance=4, label=label,
             differentiable=label == "positive",
             reference=lambda a, b, f=function: _integer_division(f, a, b))
      for name, function in (("mod", np.mod), ("fmod", np.fmod))
      for label, divisors in (("positive", uniform(3, 8, low=0.7, high=3)), ("", normal(3, 8)))),
    binary("power", uniform(3, 8, low=0.3, high=2), normal(3, 8), tolerance=4),
    binary("power", integers(3, 8, low=-4, high=5), integers(3, 8, low=0, high=6),
           ("int32",), label="int", differentiable=False),
    binary("maximum", distinct(3, 8), normal(3, 8), ALL + ("bool",), label="distinct"),
    binary("minimum", distinct(3, 8), normal(3, 8), ALL + ("bool",)),
    binary("fmax", values([1.0, nan, 3.0]), values([nan, 2.0, 1.0])),
    binary("fmin", values([1.0, nan, 3.0]), values([nan, 2.0, 1.0])),
    binary("maximum", values([1.0, nan, 3.0, inf]), values([nan, 2.0, 1.0, -inf]),
           differentiable=False, label="nan"),
    binary("arctan2", normal(3, 8), normal(3, 8), result="float"),
    binary("hypot", normal(3, 8), normal(3, 8), result="float"),
    binary("logaddexp", normal(3, 8), normal(3, 8), result="float"),
    binary("logaddexp2", normal(3, 8), normal(3, 8), result="float"),
    binary("heaviside", values([-1.5, 0.0, 2.0]), normal(3), result="float", differentiable=[1]),
    binary("nextafter", normal(3, 8), normal(3, 8), ("float64",), differentiable=False),
    binary("gcd", integers(3, 8, low=-20, high=40), integers(3, 8, low=0, high=30), ("int32",),
           differentiable=False),
    binary("lcm", integers(3, 8, low=-20, high=40), integers(3, 8, low=0, high=30), ("int32",),
           differentiable=False),
    binary("divide_no_nan", distinct(3, 2), values([[0.0, 2.0]] * 3), differentiable=[0],
           reference=lambda a, b: np.where(b == 0, 0, a / np.where(b == 0, 1, b))),
    OpCase("ldexp", [normal(3, 8), integers(3, 8, low=-5, high=6)], dtypes=FLOATS),
    OpCase("negative", [normal(5, 7)], dtypes=FLOATS + ("int32", "int64", "int8", "uint8"),
           elementwise=True),
    *(OpCase(name, [distinct(5, 7)], dtypes=ALL + ("bool",), elementwise=True)
      for name in ("abs", "absolute")),
    unary("fabs", 0.2, 3),
    OpCase("square", [normal(5, 7)], dtypes=FLOATS + ("int32", "int8", "uint8"), elementwise=True),
    stepped("sign", dtypes=FLOATS + ("int32", "int64", "uint8")),
    stepped("floor"), stepped("ceil"), stepped("trunc", dtypes=ALL),
    stepped("round", dtypes=FLOATS + ("int32",), reference=np.round,
            attrs=dict(decimals=[0])),
    OpCase("round", [values([0.5, 1.5, 2.5, -0.5, 1234.567, 0.125])], dict(decimals=[0, 1, -2]),
           np.round, ("float64",), differentiable=False, label="decimals"),
    OpCase("round", [values([15, 25, -31, 149])], dict(decimals=[1, -1]), np.round, ("int32",),
           differentiable=False, label="tens"),
    unary("sqrt", 0.1, 9, dtypes=FLOATS + ("int32",)),
    unary("rsqrt", 0.1, 9, lambda x: 1 / np.sqrt(x)),
    unary("reciprocal", 0.3, 3, lambda x: 1 / x),
    unary("cbrt", 0.1, 9),
    OpCase("copy", [normal(5, 7)], dtypes=ALL),
    OpCase("clip", [distinct(5, 7)], dict(x_min=[-0.5], x_max=[0.7]), np_clip, FLOATS,
           elementwise=True),
    OpCase("clip", [integers(5, 7, low=-9, high=9)], dict(x_min=[-3], x_max=[4]), np_clip,
           ("int32",), label="int", differentiable=False),
    OpCase("nan_to_num", [SPECIAL], dict(nan=[0.0, 7.0]), np.nan_to_num, ("float64",),
           differentiable=False),
    OpCase("where", [booleans(3, 8), normal(3, 8), normal(3, 8)], dtypes=ALL + ("bool",),
           elementwise=True),
    *(OpCase(name, [normal(5, 7)]) for name in ("real", "conj", "conjugate")),
    OpCase("imag", [normal(5, 7)], reference=lambda x: np.zeros_like(x), second=False),
    OpCase("angle", [distinct(5, 7)], result="float", differentiable=False),
]  # fmt: skip


def _integer_division(f, a, b):
    return np.where(b == 0, 0, f(a, np.where(b == 0, 1, b))) if a.dtype.kind in "iu" else f(a, b)


FUNCTIONS = [
    unary("exp", -5, 5, dtypes=FLOATS + ("int32",)), unary("exp2", -5, 5), unary("expm1", -4, 3),
    unary("log", 0.2, 9), unary("log2", 0.2, 9), unary("log10", 0.2, 9), unary("log1p", -0.7, 9),
    unary("sin", -9, 9), unary("cos", -9, 9), unary("tan", -1.2, 1.2),
    unary("arcsin", -0.9, 0.9), unary("arccos", -0.9, 0.9), unary("arctan", -5, 5),
    unary("sinh", -4, 4), unary("cosh", -4, 4), unary("tanh", -4, 4),
    unary("arcsinh", -4, 4), unary("arccosh", 1.2, 6), unary("arctanh", -0.9, 0.9),
    unary("deg2rad", -300, 300), unary("rad2deg", -5, 5), unary("sinc", -3, 3, tolerance=4),
    unary("sigmoid", -6, 6, sigmoid), unary("erf", -3, 3, erf), unary("erfc", -2, 3, erfc),
    unary("erfinv", -0.95, 0.95, inverse_erf),
    unary("i0", -6, 6),
    OpCase("sin", [uniform(500, low=-2e5, high=2e5)], dtypes=("float32",), differentiable=False,
           label="large"),
    OpCase("cos", [uniform(500, low=-2e5, high=2e5)], dtypes=("float32",), differentiable=False,
           label="large"),
    *(special(name) for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "arctan",
        "tanh", "sinh", "cosh", "sqrt", "square", "floor", "ceil", "trunc", "sign", "cbrt")),
    *(special(name, result="bool") for name in ("isnan", "isinf", "isfinite", "signbit")),
    special("sigmoid", sigmoid),
    special("erf", erf),
    special("rsqrt", lambda x: 1 / np.sqrt(x)),
]  # fmt: skip

BITS = integers(3, 8, low=0, high=100, dtype=None)
LOGIC = [
    *(OpCase(name, [normal(3, 8), normal(3, 8)], dtypes=ALL + ("bool",), result="bool",
             elementwise=True, differentiable=False)
      for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
                   "logical_and", "logical_or", "logical_xor")),
    OpCase("logical_not", [normal(3, 8)], dtypes=ALL + ("bool",), result="bool", elementwise=True,
           differentiable=False),
    *(OpCase(name, [normal(3, 8)], dtypes=FLOATS + ("int32",), result="bool", elementwise=True,
             differentiable=False)
      for name in ("isfinite", "isinf", "isnan", "isposinf", "isneginf", "isreal", "signbit")),
    *(OpCase(name, [BITS, BITS], dtypes=INTS + ("bool",), elementwise=True, differentiable=False,
             errors=((([1.5], [1]), {}, TypeError, f"{name}: expected integers"),))
      for name in ("bitwise_and", "bitwise_or", "bitwise_xor")),
    *(OpCase(name, [BITS], dtypes=INTS + ("bool",),
             reference=np.bitwise_not, elementwise=True, differentiable=False)
      for name in ("bitwise_not", "bitwise_invert")),
    *(OpCase(name, [BITS, integers(3, 8, low=0, high=9, dtype=None)], dtypes=INTS,
             reference=reference, elementwise=True, differentiable=False)
      for name, reference in (
          ("left_shift", np.left_shift), ("right_shift", np.right_shift),
          ("bitwise_left_shift", np.left_shift), ("bitwise_right_shift", np.right_shift))),
    OpCase("isclose", [values([1.0, 2.0, inf, nan, 0.0]), values([1.0, 2.1, inf, nan, 1e-9])],
           dict(equal_nan=[False, True], rtol=[1e-5, 0.1]), result="bool", differentiable=False),
    OpCase("allclose", [values([1.0, 2.0]), values([1.0, 2.00001])], dict(rtol=[1e-5, 1e-7]),
           reference=lambda *a, **k: np.array(np.allclose(*a, **k)), result="bool",
           differentiable=False),
]  # fmt: skip


def activation(name, reference, attrs=None, **more):
    more = dict(result="float", tolerance=4, elementwise=True, dtypes=FLOATS) | more
    return OpCase(name, [distinct(5, 7)], attrs or {}, reference, **more)


ACTIVATIONS = [
    activation("relu", lambda x: np.maximum(x, 0), dtypes=ALL, result="same"),
    activation("relu6", lambda x: np.clip(x, 0, 6)),
    activation("softplus", softplus),
    activation("log_sigmoid", lambda x: -softplus(-x)),
    activation("silu", lambda x: x * sigmoid(x)),
    activation("softsign", lambda x: x / (1 + np.abs(x))),
    activation("leaky_relu", lambda x, negative_slope: np.where(x > 0, x, negative_slope * x),
               dict(negative_slope=[0.2, 0.01])),
    activation("elu", elu, dict(alpha=[1.0, 0.5])),
    activation("selu", lambda x: 1.0507009873554805 * elu(x, 1.6732632423543772)),
    activation("celu", lambda x, alpha: alpha * elu(x / alpha),
               dict(alpha=[1.0, 0.5])),
    activation("gelu", lambda x, approximate: 0.5 * x * (
        1 + (np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) if approximate
             else erf(x / math.sqrt(2)))), dict(approximate=[True, False])),
    activation("hard_sigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    activation("hard_silu", lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    activation("hard_tanh", lambda x: np.clip(x, -1, 1)),
    activation("mish", lambda x: x * np.tanh(softplus(x))),
    activation("tanh_shrink", lambda x: x - np.tanh(x)),
    activation("soft_shrink",
               lambda x, threshold: np.sign(x) * np.maximum(np.abs(x) - threshold, 0),
               dict(threshold=[0.5, 1.3])),
    activation("hard_shrink", lambda x, threshold: np.where(np.abs(x) > threshold, x, 0),
               dict(threshold=[0.52, 1.3])),
    activation("threshold",
               lambda x, threshold, default_value: np.where(x > threshold, x, default_value),
               dict(threshold=[0.52], default_value=[3.0])),
    activation("squareplus", lambda x, b: (x + np.sqrt(x * x + b)) / 2, dict(b=[4, 1])),
    activation("sparse_plus", lambda x: np.where(x <= -1, 0, np.where(x < 1, (x + 1) ** 2 / 4, x))),
    activation("sparse_sigmoid", lambda x: np.clip((x + 1) / 2, 0, 1)),
    OpCase("glu", [distinct(4, 6)], dict(axis=[0, -1]),
           lambda x, axis: np.split(x, 2, axis)[0] * sigmoid(np.split(x, 2, axis)[1]), FLOATS,
           tolerance=4, errors=(
               (([1.0, 2.0, 3.0],), {}, ValueError, "glu: expected an even size on axis 0"),)),
]  # fmt: skip

LOW = {d: np.iinfo(d).min for d in INTS}
HIGH = {d: np.iinfo(d).max for d in INTS}
CASTS = [
    OpCase("cast", [normal(5, 7, scale=20.0)], dict(dtype=[d]),
           lambda x, dtype: x if dtype == "bfloat16" else np.asarray(x).astype(dtype),
           ("float32", "float64", "int32", "int64", "int8", "bool"), result=d,
           differentiable=d in FLOATS and d not in ("bfloat16", "float16", "float32"), label=d)
    for d in FLOATS + ("int32", "int64", "int8", "int16", "bool")
] + [
    OpCase("saturate_cast", [values([-1e30, -300.0, -1.5, 0.0, 100.7, 300.0, 1e30])],
           dict(dtype=[d]), lambda x, dtype: np.clip(x, LOW[dtype], HIGH[dtype]).astype(dtype),
           ("float32", "float64"), result=d, differentiable=False, label=d)
    for d in ("int8", "uint8", "int16")
]  # fmt: skip
CASES = ARITHMETIC + FUNCTIONS + LOGIC + ACTIVATIONS + CASTS
