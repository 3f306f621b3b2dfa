"""Element-wise arithmetic: numbers in, numbers out.

Operands broadcast as in NumPy and are promoted to a common dtype by Keras's rules; functions that
are only defined on floats turn integers into `floatx()`. Integer arithmetic wraps; a division of
integers by zero gives 0.
"""

from __future__ import annotations

import builtins
import math

from hornbeam import backend
from hornbeam.backend import dtypes, registry
from hornbeam.backend.registry import op
from hornbeam.ops._common import (
    as_bool,
    as_float,
    cast_to,
    elementwise,
    promote,
    public,
    tensor,
)
from hornbeam.ops.logic import greater_equal, isinf, isnan, less_equal


def _number(x):
    """The tensor, with truth values as int32."""
    x = tensor(x)
    return cast_to(x, "int32") if x.dtype == "bool" else x


def _unary(name, rule, doc, example=None, prepare=as_float):
    """A primitive of one operand and the public op that promotes its argument and calls it."""
    function = elementwise(name, rule, doc=doc)
    return public(name, lambda x: function(prepare(x)), doc, example)


def _binary(name, rule1, rule2, doc, example=None, at_least=(), number=False):
    function = elementwise(name, rule1, rule2, doc=doc)

    def body(x1, x2):
        return function(*promote(x1, x2, at_least=at_least, number=number))

    return public(name, body, doc, example)


def _where(mask, a, b):
    return where(mask, a, b)


# ------------------------------------------------------------------ choice and conversion

_select = elementwise(
    "where",
    None,
    lambda op, dy: _select(op.inputs[0], dy, _zero(dy)),
    lambda op, dy: _select(op.inputs[0], _zero(dy), dy),
    doc="The second operand where the first is true, else the third.",
)


def _zero(like):
    return _constant(0, like.dtype)


def _constant(number, dtype):
    return backend.convert_to_tensor(number, dtype)


@op(inputs=("condition", "x1", "x2"))
def where(condition, x1=None, x2=None):
    """`x1` where `condition` is true, else `x2`; with the condition alone, `nonzero(condition)`.

    Args:
        condition: tensor of truth values (numbers are true if not 0).
        x1, x2: tensors; the three broadcast.

    Example:

    >>> from hornbeam import ops
    >>> ops.where([True, False], [1, 2], 0).tolist()
    [1, 0]
    """
    if x1 is None and x2 is None:
        return backend.OPS["nonzero"](condition)
    if x1 is None or x2 is None:
        raise ValueError("where: expected both x1 and x2, or neither, got one of them")
    return _select(as_bool(condition), *promote(x1, x2))


@op(inputs=("x",))
def cast(x, dtype):
    """The elements of `x` converted to `dtype` (a name, a NumPy dtype or a Python type).

    Floats are cut towards zero; conversion to bool tests for != 0.

    Example:

    >>> from hornbeam import ops
    >>> ops.cast([1.7, -1.7], "int32").tolist()
    [1, -1]
    """
    return cast_to(tensor(x), backend.standardize_dtype(dtype))


_RANGES = {d: (-(2 ** (8 * s - 1)), 2 ** (8 * s - 1) - 1)
           for d, s in (("int8", 1), ("int16", 2), ("int32", 4), ("int64", 8))} | {
    d: (0, 2 ** (8 * s) - 1)
    for d, s in (("uint8", 1), ("uint16", 2), ("uint32", 4), ("uint64", 8))
}  # fmt: skip
_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38}


@op(inputs=("x",))
def saturate_cast(x, dtype):
    """`x` converted to `dtype`, with values out of its range replaced by the nearest in it.

    Example:

    >>> from hornbeam import ops
    >>> ops.saturate_cast([-3.0, 300.0], "uint8").tolist()
    [0, 255]
    """
    x, dtype = tensor(x), backend.standardize_dtype(dtype)
    if dtype == "bool":
        return cast_to(x, dtype)
    if dtypes.is_float(dtype):
        if not dtypes.is_float(x.dtype) or dtypes.item_bytes(x.dtype) <= dtypes.item_bytes(dtype):
            return cast_to(x, dtype)
        bound = _LARGEST[dtype]
        return cast_to(clip(x, -bound, bound), dtype)
    low, high = _RANGES[dtype]
    if x.dtype == "bool":
        return cast_to(x, dtype)
    if dtypes.is_float(x.dtype):
        # the bounds as floats may round beyond the range: compare, then put the exact ones
        inside = cast_to(x, dtype)
        inside = where(greater_equal(x, float(high)), _constant(high, dtype), inside)
        return where(less_equal(x, float(low)), _constant(low, dtype), inside)
    own_low, own_high = _RANGES[x.dtype]
    if high < own_high:
        x = minimum(x, _constant(high, x.dtype))
    if low > own_low:
        x = maximum(x, _constant(low, x.dtype))
    return cast_to(x, dtype)


# ------------------------------------------------------------------ arithmetic

add = _binary("add", lambda op, dy: dy, lambda op, dy: dy, "Sum, x1 + x2.", "[1, 2], 3 -> [4, 5]")
subtract = _binary(
    "subtract",
    lambda op, dy: dy,
    lambda op, dy: -dy,
    "Difference, x1 - x2.",
    "[1, 2], 3 -> [-2, -1]",
    number=True,
)
multiply = _binary(
    "multiply",
    lambda op, dy: dy * op.inputs[1],
    lambda op, dy: dy * op.inputs[0],
    "Product, x1 * x2.",
    "[1, 2], 3 -> [3, 6]",
)
divide = _binary(
    "divide",
    lambda op, dy: dy / op.inputs[1],
    lambda op, dy: -dy * op.output / op.inputs[1],
    "Quotient, x1 / x2, as a float.",
    "[1, 2], 2 -> [0.5, 1.0]",
    at_least=(float,),
)
true_divide = public("true_divide", lambda x1, x2: divide(x1, x2), "Quotient, x1 / x2, as a float.")
floor_divide = _binary(
    "floor_divide", None, None, "Quotient rounded down.", "[7, -7], 2 -> [3, -4]", number=True
)
mod = _binary(
    "mod",
    lambda op, dy: dy,
    lambda op, dy: -dy * _floor_ratio(*op.inputs),
    "Remainder of the quotient rounded down; it has the sign of x2.",
    "[7, -7], 3 -> [1, 2]",
    number=True,
)
fmod = _binary(
    "fmod",
    lambda op, dy: dy,
    lambda op, dy: -dy * trunc(op.inputs[0] / op.inputs[1]),
    "Remainder of the quotient cut towards zero; it has the sign of x1.",
    "[7, -7], 3 -> [1, -1]",
    number=True,
)


def _floor_ratio(a, b):
    return floor_divide(a, b)


_power = elementwise(
    "power",
    lambda op, dy: dy * _power_slope(*op.inputs),
    lambda op, dy: dy * op.output * _log_of_positive(op.inputs[0]),
    doc="x1 to the power of x2.",
)


def _power_slope(x, n):
    return _where(n == 0, 0.0, n * _power(x, n - 1))


def _log_of_positive(x):
    return _where(x > 0, log(_where(x > 0, x, 1.0)), 0.0)


@op
def power(x1, x2):
    """x1 to the power of x2. Operands broadcast.

    Example:

    >>> from hornbeam import ops
    >>> ops.power([1, 2, 3], 2).tolist()
    [1, 4, 9]
    """
    a, b = promote(x1, x2, number=True)
    if type(x2) in (int, float) and dtypes.is_float(a.dtype):  # cheaper, and exact
        short = {1: lambda x: x, 2: square, 0.5: sqrt, -1: reciprocal, -0.5: rsqrt}.get(x2)
        if short is not None:
            return short(a)
        if x2 == 3:
            return a * square(a)
    return _power(a, b)


maximum = _binary(
    "maximum",
    # where both are equal the gradient goes to x2: maximum(x, 0) has slope 0 at 0
    lambda op, dy: _where(op.inputs[0] > op.inputs[1], dy, 0.0),
    lambda op, dy: _where(op.inputs[0] > op.inputs[1], 0.0, dy),
    "The larger of x1 and x2; NaN if one of them is.",
    "[1, 5], 3 -> [3, 5]",
)
minimum = _binary(
    "minimum",
    lambda op, dy: _where(op.inputs[0] < op.inputs[1], dy, 0.0),
    lambda op, dy: _where(op.inputs[0] < op.inputs[1], 0.0, dy),
    "The smaller of x1 and x2; NaN if one of them is.",
    "[1, 5], 3 -> [1, 3]",
)
fmax = public(
    "fmax",
    lambda x1, x2: _ignoring_nan(maximum, x1, x2),
    "The larger of x1 and x2; if one of them is NaN, the other.",
    "[1, 5], 3 -> [3, 5]",
)
fmin = public(
    "fmin",
    lambda x1, x2: _ignoring_nan(minimum, x1, x2),
    "The smaller of x1 and x2; if one of them is NaN, the other.",
    "[1, 5], 3 -> [1, 3]",
)


def _ignoring_nan(choose, x1, x2):
    a, b = promote(x1, x2)
    return choose(_where(isnan(a), b, a), _where(isnan(b), a, b))


negative = _unary("negative", lambda op, dy: -dy, "Negative, -x.", "[1, -2] -> [-1, 2]", _number)
_absolute = elementwise("abs", lambda op, dy: dy * sign(op.inputs[0]), doc="|x|.")
absolute = public(
    "absolute", lambda x: _absolute(tensor(x)), "Absolute value, |x|.", "[1, -2] -> [1, 2]"
)
abs = public("abs", lambda x: _absolute(tensor(x)), "Absolute value, |x|.", "[1, -2] -> [1, 2]")
fabs = public("fabs", lambda x: _absolute(as_float(x)), "Absolute value, |x|, as a float.")
sign = _unary("sign", None, "-1, 0 or 1: the sign of x.", "[3, 0, -2] -> [1, 0, -1]", tensor)
square = _unary(
    "square", lambda op, dy: 2.0 * dy * op.inputs[0], "Square, x^2.", "[1, -2] -> [1, 4]", _number
)
reciprocal = _unary(
    "reciprocal",
    lambda op, dy: -dy * square(op.output),
    "Reciprocal, 1 / x.",
    "[1, 4] -> [1.0, 0.25]",
)
sqrt = _unary("sqrt", lambda op, dy: 0.5 * dy / op.output, "Square root.", "[1, 4] -> [1.0, 2.0]")
rsqrt = _unary(
    "rsqrt",
    lambda op, dy: -0.5 * dy * op.output / op.inputs[0],
    "Reciprocal square root, 1 / sqrt(x).",
    "[1, 4] -> [1.0, 0.5]",
)
cbrt = _unary("cbrt", lambda op, dy: dy / (3.0 * square(op.output)), "Cube root.", "[0.0] -> [0.0]")
floor = _unary("floor", None, "Largest integer that is not above x.", "[1.5, -1.5] -> [1.0, -2.0]")
ceil = _unary("ceil", None, "Smallest integer that is not below x.", "[1.5, -1.5] -> [2.0, -1.0]")
_trunc = elementwise("trunc", None, doc="x without its fraction.")
_round = elementwise("round", None, doc="Nearest integer, ties to even.")


@op
def trunc(x):
    """x without its fraction. Integers stay as they are.

    Example:

    >>> from hornbeam import ops
    >>> ops.trunc([1.5, -1.5]).tolist()
    [1.0, -1.0]
    """
    x = tensor(x)
    return _trunc(x) if dtypes.is_float(x.dtype) else x


@op(inputs=("x",), name="round")
def round(x, decimals=0):
    """x rounded to `decimals` digits after the point, ties to even.

    Example:

    >>> from hornbeam import ops
    >>> ops.round([0.5, 1.5, 2.5]).tolist()
    [0.0, 2.0, 2.0]
    """
    x = tensor(x)
    if not dtypes.is_float(x.dtype):
        if decimals >= 0:
            return x
        unit = 10**-decimals  # integers: to tens, hundreds, …
        return cast_to(_round(cast_to(x, "float64") / unit) * unit, x.dtype)
    if decimals == 0:
        return _round(x)
    unit = 10.0 ** builtins.abs(decimals)
    return _round(x * unit) / unit if decimals > 0 else _round(x / unit) * unit


gcd = _binary("gcd", None, None, "Greatest common divisor.", "[12, 18], 8 -> [4, 2]")
lcm = _binary("lcm", None, None, "Least common multiple.", "[4, 6], 10 -> [20, 30]")
heaviside = _binary(
    "heaviside",
    None,
    lambda op, dy: _where(op.inputs[0] == 0, dy, 0.0),
    "0 where x1 < 0, x2 where x1 is 0, 1 where x1 > 0.",
    "[-1.0, 0.0, 2.0], 0.5 -> [0.0, 0.5, 1.0]",
    at_least=(float,),
)
nextafter = _binary(
    "nextafter", lambda op, dy: dy, None, "The float after x1 in the direction of x2.",
    at_least=(float,),
)  # fmt: skip


@op(name="copy")
def copy(x):
    """The elements of `x` in a tensor of its own."""
    return registry.copy(tensor(x))


@op(name="divide_no_nan")
def divide_no_nan(x1, x2):
    """Quotient x1 / x2, and 0 where x2 is 0.

    Example:

    >>> from hornbeam import ops
    >>> ops.divide_no_nan([1.0, 2.0], [0.0, 4.0]).tolist()
    [0.0, 0.5]
    """
    a, b = promote(x1, x2, at_least=(float,))
    zero = b == 0
    return _where(zero, 0.0, a / _where(zero, 1.0, b))


@op
def ldexp(x1, x2):
    """x1 * 2^x2, for integers x2.

    Example:

    >>> from hornbeam import ops
    >>> ops.ldexp([1.0, 3.0], [2, -1]).tolist()
    [4.0, 1.5]
    """
    x2 = tensor(x2)
    if dtypes.is_float(x2.dtype):
        raise TypeError(f"ldexp: expected integers x2, got dtype {x2.dtype}")
    a = as_float(x1)
    half = x2 // 2  # in two factors: 2^x2 itself may overflow where the result does not
    return a * exp2(cast_to(half, a.dtype)) * exp2(cast_to(x2 - half, a.dtype))


# ------------------------------------------------------------------ exponentials and logarithms

exp = _unary("exp", lambda op, dy: dy * op.output, "Exponential, e^x.", "[0, 1000] -> [1.0, inf]")
exp2 = _unary(
    "exp2",
    lambda op, dy: dy * op.output * math.log(2),
    "Power of two, 2^x.",
    "[0, 3] -> [1.0, 8.0]",
)
expm1 = _unary(
    "expm1", lambda op, dy: dy * (op.output + 1.0), "e^x - 1, accurate near 0.", "[0.0] -> [0.0]"
)
log = _unary("log", lambda op, dy: dy / op.inputs[0], "Natural logarithm.", "[1.0] -> [0.0]")
log2 = _unary(
    "log2",
    lambda op, dy: dy / (op.inputs[0] * math.log(2)),
    "Logarithm to base 2.",
    "[8.0] -> [3.0]",
)
log10 = _unary(
    "log10",
    lambda op, dy: dy / (op.inputs[0] * math.log(10)),
    "Logarithm to base 10.",
    "[1.0, 100.0] -> [0.0, 2.0]",
)
log1p = _unary(
    "log1p",
    lambda op, dy: dy / (op.inputs[0] + 1.0),
    "log(1 + x), accurate near 0.",
    "[0.0] -> [0.0]",
)
logaddexp = _binary(
    "logaddexp",
    lambda op, dy: dy * sigmoid(op.inputs[0] - op.inputs[1]),
    lambda op, dy: dy * sigmoid(op.inputs[1] - op.inputs[0]),
    "log(e^x1 + e^x2), without overflow.",
    at_least=(float,),
)


@op
def logaddexp2(x1, x2):
    """log2(2^x1 + 2^x2), without overflow. Operands broadcast.

    Example:

    >>> from hornbeam import ops
    >>> ops.logaddexp2([3.0], [3.0]).tolist()
    [4.0]
    """
    a, b = promote(x1, x2, at_least=(float,))
    top = maximum(a, b)
    y = top + log2(1.0 + exp2(minimum(a, b) - top))
    return _where(isinf(top), top, y)


# ------------------------------------------------------------------ circle and hyperbola

sin = _unary("sin", lambda op, dy: dy * cos(op.inputs[0]), "Sine (radians).", "[0.0] -> [0.0]")
cos = _unary("cos", lambda op, dy: -dy * sin(op.inputs[0]), "Cosine (radians).", "[0.0] -> [1.0]")
tan = _unary(
    "tan", lambda op, dy: dy * (1.0 + square(op.output)), "Tangent (radians).", "[0.0] -> [0.0]"
)
arcsin = _unary(
    "arcsin",
    lambda op, dy: dy * rsqrt(1.0 - square(op.inputs[0])),
    "Inverse sine.",
    "[0.0] -> [0.0]",
)
arccos = _unary(
    "arccos",
    lambda op, dy: -dy * rsqrt(1.0 - square(op.inputs[0])),
    "Inverse cosine.",
    "[1.0] -> [0.0]",
)
arctan = _unary(
    "arctan", lambda op, dy: dy / (1.0 + square(op.inputs[0])), "Inverse tangent.", "[0.0] -> [0.0]"
)
arctan2 = _binary(
    "arctan2",
    lambda op, dy: dy * op.inputs[1] / (square(op.inputs[0]) + square(op.inputs[1])),
    lambda op, dy: -dy * op.inputs[0] / (square(op.inputs[0]) + square(op.inputs[1])),
    "Angle of the point (x2, x1), in (-pi, pi].",
    "[0.0], [1.0] -> [0.0]",
    at_least=(float,),
)
hypot = _binary(
    "hypot",
    lambda op, dy: dy * divide_no_nan(op.inputs[0], op.output),
    lambda op, dy: dy * divide_no_nan(op.inputs[1], op.output),
    "sqrt(x1^2 + x2^2), without overflow.",
    "[3.0], [4.0] -> [5.0]",
    at_least=(float,),
)
sinh = _unary("sinh", lambda op, dy: dy * cosh(op.inputs[0]), "Hyperbolic sine.", "[0.0] -> [0.0]")
cosh = _unary(
    "cosh", lambda op, dy: dy * sinh(op.inputs[0]), "Hyperbolic cosine.", "[0.0] -> [1.0]"
)
tanh = _unary(
    "tanh", lambda op, dy: dy * (1.0 - square(op.output)), "Hyperbolic tangent.", "[0.0] -> [0.0]"
)
arcsinh = _unary(
    "arcsinh",
    lambda op, dy: dy * rsqrt(square(op.inputs[0]) + 1.0),
    "Inverse hyperbolic sine.",
    "[0.0] -> [0.0]",
)
arccosh = _unary(
    "arccosh",
    lambda op, dy: dy * rsqrt(square(op.inputs[0]) - 1.0),
    "Inverse hyperbolic cosine.",
    "[1.0] -> [0.0]",
)
arctanh = _unary(
    "arctanh",
    lambda op, dy: dy / (1.0 - square(op.inputs[0])),
    "Inverse hyperbolic tangent.",
    "[0.0] -> [0.0]",
)
deg2rad = public(
    "deg2rad", lambda x: as_float(x) * (math.pi / 180), "Degrees to radians.", "[0.0] -> [0.0]"
)
rad2deg = public(
    "rad2deg", lambda x: as_float(x) * (180 / math.pi), "Radians to degrees.", "[0.0] -> [0.0]"
)


@op
def sinc(x):
    """sin(pi x) / (pi x), and 1 at 0.

    Example:

    >>> from hornbeam import ops
    >>> ops.sinc([0.0]).tolist()
    [1.0]
    """
    x = as_float(x)
    zero = x == 0
    t = math.pi * _where(zero, 1.0, x)
    return _where(zero, 1.0, sin(t) / t)


# ------------------------------------------------------------------ special functions

sigmoid = _unary(
    "sigmoid",
    lambda op, dy: dy * op.output * (1.0 - op.output),
    "Logistic function, 1 / (1 + e^-x).",
    "[0.0] -> [0.5]",
)
_TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
erf = _unary(
    "erf",
    lambda op, dy: _TWO_OVER_SQRT_PI * dy * exp(-square(op.inputs[0])),
    "Error function, 2 / sqrt(pi) times the integral of e^-t^2 from 0 to x.",
    "[0.0] -> [0.0]",
)
erfc = _unary(
    "erfc",
    lambda op, dy: -_TWO_OVER_SQRT_PI * dy * exp(-square(op.inputs[0])),
    "1 - erf(x), accurate for large x.",
    "[0.0] -> [1.0]",
)
erfinv = _unary(
    "erfinv",
    lambda op, dy: dy * exp(square(op.output)) / _TWO_OVER_SQRT_PI,
    "Inverse of erf, on [-1, 1].",
    "[0.0, 1.0] -> [0.0, inf]",
)
_i1 = elementwise(
    "i1",
    lambda op, dy: dy * (i0(op.inputs[0]) - divide_no_nan(op.output, op.inputs[0])),
    doc="Modified Bessel function of the first kind, order 1.",
)
i0 = _unary(
    "i0",
    lambda op, dy: dy * _i1(op.inputs[0]),
    "Modified Bessel function of the first kind, order 0.",
    "[0.0] -> [1.0]",
)
_digamma = elementwise("digamma", doc="Derivative of log gamma.")
_lgamma = elementwise(
    "lgamma", lambda op, dy: dy * _digamma(op.inputs[0]), doc="Logarithm of |gamma|."
)


# ------------------------------------------------------------------ bounds


@op(inputs=("x", "x_min", "x_max"))
def clip(x, x_min, x_max):
    """`x` with values outside of [x_min, x_max] replaced by the nearer bound.

    Example:

    >>> from hornbeam import ops
    >>> ops.clip([-1.0, 0.5, 3.0], 0.0, 1.0).tolist()
    [0.0, 0.5, 1.0]
    """
    x = _number(x)
    for bound, choose in ((x_min, _clip_low), (x_max, _clip_high)):
        if bound is not None:
            x = choose(*promote(x, bound))
    return x


def _clip_low(x, low):
    return _where(x < low, low, x)  # NaN stays; at the bound the gradient passes


def _clip_high(x, high):
    return _where(x > high, high, x)


@op(inputs=("x",))
def nan_to_num(x, nan=0.0, posinf=None, neginf=None):
    """`x` with NaN and infinities replaced by numbers.

    Args:
        nan: number that replaces NaN.
        posinf, neginf: replace the infinities; the largest finite numbers of the dtype if None.

    Example:

    >>> from hornbeam import ops
    >>> ops.nan_to_num([float("nan"), 1.0]).tolist()
    [0.0, 1.0]
    """
    x = _number(x)
    if not dtypes.is_float(x.dtype):
        return x
    largest = _LARGEST.get(x.dtype, 1.7976931348623157e308)
    y = _where(isnan(x), nan, x)
    y = _where(x == math.inf, largest if posinf is None else posinf, y)
    return _where(x == -math.inf, -largest if neginf is None else neginf, y)


# ------------------------------------------------------------------ real tensors as complex ones

real = public("real", lambda x: tensor(x), "Real part; tensors are real, so `x` itself.")
imag = public("imag", lambda x: tensor(x) * 0, "Imaginary part; tensors are real, so zeros.")
conjugate = public("conjugate", lambda x: tensor(x), "Complex conjugate of a real tensor: itself.")
conj = public("conj", lambda x: tensor(x), "Complex conjugate of a real tensor: itself.")


def _angle(x):
    return where(x < 0, math.pi, where(isnan(x), x, 0.0))


angle = public(
    "angle",
    lambda x: _angle(as_float(x)),
    "Angle in the complex plane: 0, or pi for negative numbers.",
    "[1.0] -> [0.0]",
)
