"""Element-wise functions by name (`keras.activations`): arrays or tensors in, tensor out."""

import types

from hornbeam import ops
from hornbeam.saving import object_registration, serialization_lib


def relu(x, negative_slope=0.0, max_value=None, threshold=0.0):
    """`max(x, 0)`, and its variants.

    Args:
        x: tensor.
        negative_slope: slope below the threshold.
        max_value: upper bound, or None.
        threshold: values below it are dampened to `negative_slope * (x - threshold)`.

    Example:

    >>> import hornbeam as keras
    >>> keras.activations.relu(keras.ops.convert_to_tensor([-1.0, 2.0])).numpy().tolist()
    [0.0, 2.0]
    """
    if threshold == 0.0:
        if negative_slope != 0.0:
            out = ops.leaky_relu(x, negative_slope=negative_slope)
        elif max_value == 6:
            return ops.relu6(x)
        else:
            out = ops.relu(x)
    else:
        x = ops.convert_to_tensor(x)
        out = ops.where(ops.greater(x, threshold), x, negative_slope * (x - threshold))
    return out if max_value is None else ops.minimum(out, max_value)


def leaky_relu(x, negative_slope=0.2):
    """`x` where positive, else `negative_slope * x`."""
    return ops.leaky_relu(x, negative_slope=negative_slope)


def relu6(x):
    """`min(max(x, 0), 6)`."""
    return ops.relu6(x)


def softmax(x, axis=-1):
    """`exp(x) / sum(exp(x))` along `axis`."""
    return ops.softmax(x, axis=axis)


def elu(x, alpha=1.0):
    """`x` where positive, else `alpha * (exp(x) - 1)` (Clevert et al., 2015)."""
    return ops.elu(x, alpha=alpha)


def selu(x):
    """Scaled `elu` whose activations keep mean 0 and variance 1 (Klambauer et al., 2017)."""
    return ops.selu(x)


def softplus(x):
    """`log(1 + exp(x))`."""
    return ops.softplus(x)


def softsign(x):
    """`x / (1 + |x|)`."""
    return ops.softsign(x)


def soft_shrink(x, threshold=0.5):
    """`x` moved towards zero by `threshold`; zero within it."""
    return ops.soft_shrink(x, threshold=threshold)


def sparse_plus(x):
    """0 below -1, `x` above 1, `(x + 1)² / 4` between."""
    return ops.sparse_plus(x)


def silu(x):
    """`x * sigmoid(x)` (Ramachandran et al., 2017)."""
    return ops.silu(x)


def squareplus(x, b=4):
    """`(x + sqrt(x² + b)) / 2`."""
    return ops.squareplus(x, b=b)


def gelu(x, approximate=False):
    """`x * P(X <= x)` for a unit normal X (Hendrycks and Gimpel, 2016)."""
    return ops.gelu(x, approximate=approximate)


def celu(x, alpha=1.0):
    """`max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)` (Barron, 2017)."""
    return ops.celu(x, alpha=alpha)


def glu(x, axis=-1):
    """`a * sigmoid(b)` for the halves a and b of `x` along `axis`."""
    return ops.glu(x, axis=axis)


def tanh(x):
    """Hyperbolic tangent."""
    return ops.tanh(x)


def tanh_shrink(x):
    """`x - tanh(x)`."""
    return ops.tanh_shrink(x)


def hard_tanh(x):
    """`x` cut to [-1, 1]."""
    return ops.hard_tanh(x)


def hard_shrink(x, threshold=0.5):
    """`x` where |x| > threshold, else zero."""
    return ops.hard_shrink(x, threshold=threshold)


def threshold(x, threshold, default_value):
    """`x` where it is above `threshold`, else `default_value`."""
    return ops.threshold(x, threshold, default_value)


def sigmoid(x):
    """`1 / (1 + exp(-x))`."""
    return ops.sigmoid(x)


def exponential(x):
    """`exp(x)`."""
    return ops.exp(x)


def hard_sigmoid(x):
    """`x / 6 + 1 / 2`, cut to [0, 1]."""
    return ops.hard_sigmoid(x)


def log_sigmoid(x):
    """`log(sigmoid(x))`."""
    return ops.log_sigmoid(x)


def sparse_sigmoid(x):
    """`(x + 1) / 2`, cut to [0, 1]."""
    return ops.sparse_sigmoid(x)


def hard_silu(x):
    """`x * hard_sigmoid(x)` (Howard et al., 2019)."""
    return ops.hard_silu(x)


def linear(x):
    """`x` itself."""
    return x


def mish(x):
    """`x * tanh(softplus(x))` (Misra, 2019)."""
    return ops.multiply(x, ops.tanh(ops.softplus(x)))


def log_softmax(x, axis=-1):
    """`log(softmax(x))` along `axis`."""
    return ops.log_softmax(x, axis=axis)


def sparsemax(x, axis=-1):
    """Projection onto the probability simplex (Martins and Astudillo, 2016)."""
    return ops.sparsemax(x, axis=axis)


hard_swish = hard_silu
swish = silu

_BY_NAME = {
    name: fn
    for name, fn in globals().items()
    if isinstance(fn, types.FunctionType) and fn.__module__ == __name__
}
for _name, _fn in _BY_NAME.items():
    object_registration.register_builtin(_fn, "keras.activations", _name)


def serialize(activation):
    """The name of a built-in activation, or plain data that describes another one."""
    if any(activation is fn for fn in _BY_NAME.values()):
        return activation.__name__
    return serialization_lib.serialize_keras_object(activation)


def deserialize(config, custom_objects=None):
    """The activation that `serialize` described."""
    return serialization_lib.deserialize_keras_object(
        config, custom_objects=custom_objects, module_objects=_BY_NAME
    )


def get(identifier):
    """An activation from a callable, a name such as `"relu"`, a config, or None (`linear`).

    Raises:
        ValueError: none of these.
    """
    if identifier is None:
        return linear
    found = deserialize(identifier) if isinstance(identifier, (dict, str)) else identifier
    if callable(found):
        return found
    raise ValueError(
        f"activation: expected a callable, a config or one of {sorted(_BY_NAME)}, "
        f"got {identifier!r}"
    )
