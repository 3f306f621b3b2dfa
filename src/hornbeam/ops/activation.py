"""Activation functions: compositions that the engine fuses into one pass over memory."""

from __future__ import annotations

import math

from hornbeam import backend
from hornbeam.backend.registry import op
from hornbeam.ops._common import as_float, canonical_axis, elementwise, public, tensor
from hornbeam.ops.elementwise import (
    absolute,
    clip,
    exp,
    expm1,
    logaddexp,
    maximum,
    minimum,
    sigmoid,
    sign,
    sqrt,
    square,
    tanh,
    where,
)

relu = public("relu", lambda x: maximum(x, 0), "max(x, 0).", "[-1.0, 2.0] -> [0.0, 2.0]")


@relu.gradient
def _(op, dy):
    # from the output: nothing else then needs the input, and relu goes into the matmul before it
    return where(op.output > 0, dy, 0)


relu6 = public(
    "relu6", lambda x: minimum(maximum(x, 0), 6), "min(max(x, 0), 6).", "[-1.0, 7.0] -> [0.0, 6.0]"
)
softplus = public("softplus", lambda x: logaddexp(x, 0.0), "log(1 + e^x), without overflow.")
log_sigmoid = public("log_sigmoid", lambda x: -softplus(-as_float(x)), "log(sigmoid(x)).")


def _silu(x):
    x = as_float(x)
    return x * sigmoid(x)


silu = public("silu", _silu, "x sigmoid(x). Source: arXiv:1702.03118.", "[0.0] -> [0.0]")


def _softsign(x):
    x = as_float(x)
    return x / (1.0 + absolute(x))


softsign = public("softsign", _softsign, "x / (1 + |x|).", "[-1.0, 3.0] -> [-0.5, 0.75]")


@op(inputs=("x",))
def leaky_relu(x, negative_slope=0.2):
    """x where it is positive, `negative_slope` x elsewhere.

    Example:

    >>> from hornbeam import ops
    >>> ops.leaky_relu([-1.0, 2.0], 0.5).tolist()
    [-0.5, 2.0]
    """
    x = as_float(x)
    return where(x > 0, x, negative_slope * x)


@op(inputs=("x",))
def elu(x, alpha=1.0):
    """x where it is positive, alpha (e^x - 1) elsewhere. Source: arXiv:1511.07289.

    Example:

    >>> from hornbeam import ops
    >>> ops.elu([0.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    x = as_float(x)
    # the exponent stops at 0: the branch that is not taken must not overflow in the gradient
    return where(x > 0, x, alpha * expm1(minimum(x, 0.0)))


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@op
def selu(x):
    """1.0507 elu(x, alpha=1.67326), which keeps mean 0 and variance 1. Source: arXiv:1706.02515.

    Example:

    >>> from hornbeam import ops
    >>> ops.selu([0.0]).tolist()
    [0.0]
    """
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


@op(inputs=("x",))
def celu(x, alpha=1.0):
    """max(x, 0) + min(0, alpha (e^(x / alpha) - 1)). Source: arXiv:1704.07483.

    Example:

    >>> from hornbeam import ops
    >>> ops.celu([0.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    x = as_float(x)
    return where(x > 0, x, alpha * expm1(minimum(x, 0.0) / alpha))


_TANH_SCALE, _TANH_CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


def _gelu_bend(op, dy):
    """Gradient of gelu's slope, Phi(x) + x phi(x)."""
    x = op.inputs[0]
    return dy * exp(-0.5 * square(x)) * (2.0 - square(x)) / math.sqrt(2 * math.pi)


def _gelu_tanh_bend(op, dy):
    """Gradient of the slope s + x s (1 - s) v', where s = sigmoid(v)."""
    x = clip(op.inputs[0], -30.0, 30.0)  # beyond, s is 0 or 1
    s = sigmoid(_TANH_SCALE * (x + _TANH_CUBE * (x * square(x))))
    dv = _TANH_SCALE * (1.0 + 3 * _TANH_CUBE * square(x))
    bend = 2.0 * dv + x * ((1.0 - 2.0 * s) * square(dv) + 6 * _TANH_SCALE * _TANH_CUBE * x)
    return dy * s * (1.0 - s) * bend


def _with_slope(name, bend, doc):
    """A function whose gradient is a function of its operand alone: nothing else is kept."""
    slope = elementwise(f"{name}_slope", bend, doc=f"Derivative of {name}.")
    return elementwise(name, lambda op, dy: dy * slope(op.inputs[0]), doc=doc)


_gelu = _with_slope("gelu", _gelu_bend, "x times the normal distribution function of x.")
_gelu_tanh = _with_slope(
    "gelu_tanh", _gelu_tanh_bend, "x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))."
)


@op(inputs=("x",))
def gelu(x, approximate=True):
    """x times the normal distribution function of x. Source: arXiv:1606.08415.

    Args:
        approximate: compute 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) instead of
            0.5 x (1 + erf(x / sqrt(2))).

    Example:

    >>> from hornbeam import ops
    >>> ops.gelu([0.0]).tolist()
    [0.0]
    """
    return (_gelu_tanh if approximate else _gelu)(as_float(x))


hard_sigmoid = public(
    "hard_sigmoid",
    lambda x: clip(as_float(x) / 6.0 + 0.5, 0.0, 1.0),
    "relu6(x + 3) / 6, a sigmoid of straight lines.",
    "[0.0, 4.0] -> [0.5, 1.0]",
)
hard_silu = public(
    "hard_silu",
    lambda x: as_float(x) * hard_sigmoid(x),
    "x hard_sigmoid(x). Source: arXiv:1905.02244.",
    "[0.0, 4.0] -> [0.0, 4.0]",
)
hard_tanh = public(
    "hard_tanh", lambda x: clip(as_float(x), -1.0, 1.0), "x cut to [-1, 1].", "[2.0] -> [1.0]"
)
mish = public(
    "mish",
    lambda x: as_float(x) * tanh(softplus(x)),
    "x tanh(softplus(x)). Source: arXiv:1908.08681.",
    "[0.0] -> [0.0]",
)
tanh_shrink = public(
    "tanh_shrink", lambda x: as_float(x) - tanh(x), "x - tanh(x).", "[0.0] -> [0.0]"
)


@op(inputs=("x",))
def soft_shrink(x, threshold=0.5):
    """x moved towards 0 by `threshold`, and 0 within it.

    Example:

    >>> from hornbeam import ops
    >>> ops.soft_shrink([-1.0, 0.2, 1.0]).tolist()
    [-0.5, 0.0, 0.5]
    """
    x = as_float(x)
    return sign(x) * maximum(absolute(x) - threshold, 0.0)


@op(inputs=("x",))
def hard_shrink(x, threshold=0.5):
    """x where |x| > `threshold`, else 0.

    Example:

    >>> from hornbeam import ops
    >>> ops.hard_shrink([-1.0, 0.2, 1.0]).tolist()
    [-1.0, 0.0, 1.0]
    """
    x = as_float(x)
    return where(absolute(x) > threshold, x, 0.0)


@op(inputs=("x",), name="threshold")
def threshold(x, threshold, default_value):
    """x where x > `threshold`, else `default_value`.

    Example:

    >>> from hornbeam import ops
    >>> ops.threshold([1.0, 3.0], 2.0, -1.0).tolist()
    [-1.0, 3.0]
    """
    x = tensor(x)
    return where(x > threshold, x, default_value)


@op(inputs=("x",))
def squareplus(x, b=4):
    """(x + sqrt(x^2 + b)) / 2, a smooth relu. Source: arXiv:2112.11687.

    Example:

    >>> from hornbeam import ops
    >>> ops.squareplus([0.0]).tolist()
    [1.0]
    """
    x = as_float(x)
    return (x + sqrt(square(x) + b)) / 2.0


@op
def sparse_plus(x):
    """0 up to -1, x from 1 on, ((x + 1) / 2)^2 between.

    Example:

    >>> from hornbeam import ops
    >>> ops.sparse_plus([-2.0, 0.0, 2.0]).tolist()
    [0.0, 0.25, 2.0]
    """
    x = as_float(x)
    return where(x <= -1.0, 0.0, where(x < 1.0, 0.25 * square(x + 1.0), x))


sparse_sigmoid = public(
    "sparse_sigmoid",
    lambda x: clip(0.5 * as_float(x) + 0.5, 0.0, 1.0),
    "(x + 1) / 2 between -1 and 1, 0 before and 1 after.",
    "[0.0, 2.0] -> [0.5, 1.0]",
)


@op(inputs=("x",))
def glu(x, axis=-1):
    """First half of `x` along `axis` times the sigmoid of the second. Source: arXiv:1612.08083.

    Args:
        axis: axis of even size.

    Example:

    >>> from hornbeam import ops
    >>> ops.glu([2.0, 0.0]).tolist()
    [1.0]
    """
    x = as_float(x)
    axis = canonical_axis("glu", axis, x.ndim)
    if x.shape[axis] % 2:
        raise ValueError(f"glu: expected an even size on axis {axis}, got shape {tuple(x.shape)}")
    a, b = backend.OPS["split"](x, 2, axis=axis)
    return a * sigmoid(b)
