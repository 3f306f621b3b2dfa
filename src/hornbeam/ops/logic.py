"""Comparisons, tests, logic and bits: element-wise ops without gradients."""

from __future__ import annotations

import math

from hornbeam import backend
from hornbeam.backend import dtypes
from hornbeam.backend.registry import op
from hornbeam.ops._common import as_bool, as_float, cast_to, elementwise, promote, public, tensor


def _compare(name, doc, example):
    function = elementwise(name, dtype="bool", doc=doc)
    return public(name, lambda x1, x2: function(*promote(x1, x2)), doc, example)


equal = _compare("equal", "Whether x1 == x2.", "[1, 2], 2 -> [False, True]")
not_equal = _compare("not_equal", "Whether x1 != x2.", "[1, 2], 2 -> [True, False]")
less = _compare("less", "Whether x1 < x2.", "[1, 2], 2 -> [True, False]")
less_equal = _compare("less_equal", "Whether x1 <= x2.", "[1, 3], 2 -> [True, False]")
greater = _compare("greater", "Whether x1 > x2.", "[1, 3], 2 -> [False, True]")
greater_equal = _compare("greater_equal", "Whether x1 >= x2.", "[1, 2], 2 -> [False, True]")


def _logical(name, doc, example):
    function = elementwise(name, dtype="bool", doc=doc)
    return public(name, lambda x1, x2: function(as_bool(x1), as_bool(x2)), doc, example)


_false = "True, False], [True, True] ->"
logical_and = _logical("logical_and", "Whether both are true.", f"[{_false} [True, False]")
logical_or = _logical("logical_or", "Whether one is true.", f"[{_false} [True, True]")
logical_xor = _logical("logical_xor", "Whether exactly one is true.", f"[{_false} [False, True]")
_logical_not = elementwise("logical_not", dtype="bool", doc="Whether x is false.")
logical_not = public(
    "logical_not", lambda x: _logical_not(as_bool(x)), "Whether x is false.", "[True] -> [False]"
)


def _test(name, doc, example):
    function = elementwise(name, dtype="bool", doc=doc)
    return public(name, lambda x: function(as_float(x)), doc, example)


isfinite = _test("isfinite", "Whether x is neither infinite nor NaN.", "[1.0] -> [True]")
isinf = _test("isinf", "Whether x is infinite.", "[1.0] -> [False]")
isnan = _test("isnan", "Whether x is NaN.", "[1.0] -> [False]")
isposinf = public("isposinf", lambda x: as_float(x) == math.inf, "Whether x is +infinity.")
isneginf = public("isneginf", lambda x: as_float(x) == -math.inf, "Whether x is -infinity.")
isreal = public("isreal", lambda x: equal(x, x) | True, "Whether x has no imaginary part: always.")
_signbit = elementwise("signbit", dtype="bool", doc="Whether the sign bit is set.")
signbit = public(
    "signbit",
    lambda x: _signbit(cast_to(tensor(x), "int32") if tensor(x).dtype == "bool" else tensor(x)),
    "Whether the sign bit is set: for negative numbers and -0.0.",
    "[-1.0, 1.0] -> [True, False]",
)


@op(inputs=("x1", "x2"))
def isclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether |x1 - x2| <= atol + rtol |x2|; equal infinities are close.

    Args:
        rtol, atol: relative and absolute tolerance.
        equal_nan: whether two NaN count as close.

    Example:

    >>> from hornbeam import ops
    >>> ops.isclose([1.0, 2.0], [1.0, 2.1]).tolist()
    [True, False]
    """
    a, b = promote(x1, x2, at_least=(float,))
    absolute = backend.OPS["absolute"]
    close = isfinite(b) & (absolute(a - b) <= atol + rtol * absolute(b))
    close = close | (a == b)
    return close | (isnan(a) & isnan(b)) if equal_nan else close


@op(inputs=("x1", "x2"))
def allclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether `isclose` holds for all elements: a tensor of rank 0."""
    return backend.OPS["all"](isclose(x1, x2, rtol, atol, equal_nan))


# ------------------------------------------------------------------ bits


def _integers(name, *xs):
    xs = promote(*xs)
    if dtypes.is_float(xs[0].dtype):
        raise TypeError(f"{name}: expected integers or booleans, got dtype {xs[0].dtype}")
    return xs


def _bitwise(name, doc, example):
    function = elementwise(name, doc=doc)
    return public(name, lambda x, y: function(*_integers(name, x, y)), doc, example)


bitwise_and = _bitwise("bitwise_and", "Bits set in both.", "[6], [3] -> [2]")
bitwise_or = _bitwise("bitwise_or", "Bits set in one at least.", "[6], [3] -> [7]")
bitwise_xor = _bitwise("bitwise_xor", "Bits set in exactly one.", "[6], [3] -> [5]")
left_shift = _bitwise("left_shift", "Bits moved up by y.", "[1], [3] -> [8]")
right_shift = _bitwise("right_shift", "Bits moved down by y; the sign stays.", "[8], [3] -> [1]")
bitwise_left_shift = public("bitwise_left_shift", lambda x, y: left_shift(x, y), "`left_shift`.")
bitwise_right_shift = public(
    "bitwise_right_shift", lambda x, y: right_shift(x, y), "`right_shift`."
)
_bitwise_not = elementwise("bitwise_not", doc="Every bit flipped.")
bitwise_not = public(
    "bitwise_not",
    lambda x: _bitwise_not(*_integers("bitwise_not", x)),
    "Every bit flipped (of truth values: not).",
    "[0, 5] -> [-1, -6]",
)
bitwise_invert = public("bitwise_invert", lambda x: bitwise_not(x), "`bitwise_not`.")
