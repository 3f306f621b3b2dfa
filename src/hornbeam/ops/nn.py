"""Softmax, normalisation and cross entropy."""

from __future__ import annotations

from hornbeam import backend
from hornbeam.backend.registry import op
from hornbeam.ops import creation, index, shapes
from hornbeam.ops._common import canonical_axis
from hornbeam.ops.shapes import ordered_axes

OPS = backend.OPS


def _float(x):
    x = backend.convert_to_tensor(x)
    return x if backend.dtypes.is_float(x.dtype) else backend.cast(x, backend.floatx())


def _on_last(name, function, x, axis):
    """`function` of the last axis, applied over one axis or several at once."""
    x = _float(x)
    if isinstance(axis, (tuple, list)):
        axes = ordered_axes(name, tuple(axis), x.ndim)
    else:
        axes = (canonical_axis(name, axis, x.ndim),)
    k = len(axes)
    ends = tuple(range(x.ndim - k, x.ndim))
    y = shapes.moveaxis(x, axes, ends)
    moved = y.shape
    y = function(y if k == 1 else shapes.reshape(y, (*moved[: x.ndim - k], -1)))
    return shapes.moveaxis(shapes.reshape(y, moved), ends, axes)


# ------------------------------------------------------------------ softmax


@op(kernel="softmax")
def _softmax(x):
    e = OPS["exp"](x - backend.stop_gradient(OPS["max"](x, axis=-1, keepdims=True)))
    return e / OPS["sum"](e, axis=-1, keepdims=True)


@op(kernel="softmax_grad")
def _softmax_grad(y, dy):
    return y * (dy - OPS["sum"](y * dy, axis=-1, keepdims=True))


@_softmax.gradient
def _(op, dy):
    return _softmax_grad(op.output, dy)


@op(kernel="log_softmax")
def _log_softmax(x):
    x = x - backend.stop_gradient(OPS["max"](x, axis=-1, keepdims=True))
    return x - OPS["log"](OPS["sum"](OPS["exp"](x), axis=-1, keepdims=True))


@op(kernel="log_softmax_grad")
def _log_softmax_grad(y, dy):
    return dy - OPS["exp"](y) * OPS["sum"](dy, axis=-1, keepdims=True)


@_log_softmax.gradient
def _(op, dy):
    return _log_softmax_grad(op.output, dy)


@op
def softmax(x, axis=-1):
    """Normalised exponentials, e^x / sum(e^x) along `axis` (an int, or several axes at once).

    Example:

    >>> softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    return _on_last("softmax", _softmax, x, axis)


@op
def log_softmax(x, axis=-1):
    """Logarithm of the softmax, x - log(sum(e^x)), along `axis`."""
    return _on_last("log_softmax", _log_softmax, x, axis)


@op
def sparsemax(x, axis=-1):
    """Projection onto the probability simplex: like softmax, but with exact zeros.

    Martins and Astudillo, "From softmax to sparsemax", ICML 2016, algorithm 1.
    """
    return _on_last("sparsemax", _sparsemax, x, axis)


def _sparsemax(x):
    n = x.shape[-1]
    ordered = shapes.flip(OPS["sort"](x, axis=-1), axis=-1)
    sums = OPS["cumsum"](ordered, axis=-1)
    counts = creation.iota(n, x.dtype, 1.0, 1.0)
    inside = backend.stop_gradient(backend.cast(1 + counts * ordered > sums, x.dtype))
    support = OPS["sum"](inside, axis=-1, keepdims=True)
    threshold = (OPS["sum"](ordered * inside, axis=-1, keepdims=True) - 1) / support
    return OPS["maximum"](x - threshold, 0)


# ------------------------------------------------------------------ normalisation


@op(inputs=("x", "gamma", "beta"), kernel="layer_norm")
def _layer_norm(x, gamma, beta, epsilon):
    centered = x - OPS["mean"](x, axis=-1, keepdims=True)
    var = OPS["mean"](OPS["square"](centered), axis=-1, keepdims=True)
    return centered * OPS["rsqrt"](var + epsilon) * gamma + beta


@op(inputs=("x", "gamma", "dy"), kernel="layer_norm_grad")
def _layer_norm_grad(x, gamma, dy, epsilon):
    centered = x - OPS["mean"](x, axis=-1, keepdims=True)
    rstd = OPS["rsqrt"](OPS["mean"](OPS["square"](centered), axis=-1, keepdims=True) + epsilon)
    h, g = centered * rstd, dy * gamma
    mean_g = OPS["mean"](g, axis=-1, keepdims=True)
    mean_gh = OPS["mean"](g * h, axis=-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    dx = rstd * (g - mean_g - h * mean_gh)
    return dx, OPS["sum"](dy * h, axis=rows), OPS["sum"](dy, axis=rows)


@_layer_norm.gradient
def _(op, dy):
    return _layer_norm_grad(op.inputs[0], op.inputs[1], dy, op.epsilon)


@op(inputs=("x", "gamma"), kernel="rms_norm")
def _rms_norm(x, gamma, epsilon):
    square = OPS["mean"](OPS["square"](x), axis=-1, keepdims=True)
    return x * OPS["rsqrt"](square + epsilon) * gamma


@op(inputs=("x", "gamma", "dy"), kernel="rms_norm_grad")
def _rms_norm_grad(x, gamma, dy, epsilon):
    rstd = OPS["rsqrt"](OPS["mean"](OPS["square"](x), axis=-1, keepdims=True) + epsilon)
    h, g = x * rstd, dy * gamma
    dx = rstd * (g - h * OPS["mean"](g * h, axis=-1, keepdims=True))
    return dx, OPS["sum"](dy * h, axis=tuple(range(x.ndim - 1)))


@_rms_norm.gradient
def _(op, dy):
    return _rms_norm_grad(op.inputs[0], op.inputs[1], dy, op.epsilon)


def _row_norm(name, kernel, x, parameters, axis, epsilon):
    """A normalisation over `axis` (or axes), computed over the last axis in float32 or wider."""
    x = _float(x)
    axes = ordered_axes(name, axis, x.ndim)
    axes = tuple(sorted(axes))
    wanted = tuple(x.shape[a] for a in axes)
    n = 1
    for size in wanted:
        n *= size
    flat = []
    for p, default in parameters:
        if p is None:
            flat.append(creation.full((n,), default, x.dtype))
            continue
        p = backend.cast(backend.convert_to_tensor(p), x.dtype)
        if p.size != n:
            raise ValueError(
                f"{name}: expected parameters of shape {wanted} (the normalised axes of the input "
                f"of shape {tuple(x.shape)}), got {tuple(p.shape)}"
            )
        flat.append(shapes.reshape(p, (n,)))
    ends = tuple(range(x.ndim - len(axes), x.ndim))
    y = shapes.moveaxis(x, axes, ends)
    moved = tuple(y.shape)
    if len(axes) != 1:
        y = shapes.reshape(y, (*moved[: x.ndim - len(axes)], n))
    y = kernel(y, *flat, float(backend.epsilon() if epsilon is None else epsilon))
    return shapes.moveaxis(shapes.reshape(y, moved), ends, axes)


@op(inputs=("x", "gamma", "beta"))
def layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon=None, **kwargs):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, over `axis` (an int or several).

    Ba, Kiros and Hinton, 2016. Statistics are computed in float32 for shorter floats.

    Args:
        gamma, beta: scale and shift of the shape of the normalised axes; none if None.
        epsilon: added to the variance; `hornbeam.config.epsilon()` if None.
    """
    if kwargs.pop("rms_scaling", False):
        return rms_normalization(x, scale=gamma, axis=axis, epsilon=epsilon)
    if kwargs:
        raise TypeError(f"layer_normalization: unexpected arguments {sorted(kwargs)}")
    return _row_norm("layer_normalization", _layer_norm, x, ((gamma, 1), (beta, 0)), axis, epsilon)


@op(inputs=("x", "scale"))
def rms_normalization(x, scale=None, axis=-1, epsilon=None):
    """x / sqrt(mean(x^2) + epsilon) * scale, over `axis` (an int or several).

    Zhang and Sennrich, "Root mean square layer normalization", 2019.
    """
    return _row_norm("rms_normalization", _rms_norm, x, ((scale, 1),), axis, epsilon)


def _along(v, axis, ndim):
    """A vector shaped to be broadcast along `axis` of a tensor of rank `ndim`."""
    return shapes.reshape(v, tuple(-1 if i == axis else 1 for i in range(ndim)))


@op(inputs=("x", "mean", "variance", "offset", "scale"))
def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """(x - mean) / sqrt(variance + epsilon) * scale + offset with given statistics.

    Shapes: mean, variance, offset and scale are vectors of the size of `axis`.
    """
    x = _float(x)
    axis = canonical_axis("batch_normalization", axis, x.ndim)
    n = x.shape[axis]
    vectors = []
    for what, v in (("mean", mean), ("variance", variance), ("offset", offset), ("scale", scale)):
        v = None if v is None else backend.cast(backend.convert_to_tensor(v), x.dtype)
        if v is not None and tuple(v.shape) != (n,):
            raise ValueError(
                f"batch_normalization: expected {what} of shape ({n},), the size of axis {axis} of "
                f"the input, got {tuple(v.shape)}"
            )
        vectors.append(v)
    mean, variance, offset, scale = vectors
    factor = OPS["rsqrt"](variance + epsilon)
    factor = factor if scale is None else factor * scale
    y = (x - _along(mean, axis, x.ndim)) * _along(factor, axis, x.ndim)
    return y if offset is None else y + _along(offset, axis, x.ndim)


@op(inputs=("x", "gamma", "beta"), kernel="batch_norm_train")
def _batch_norm_last(x, gamma, beta, epsilon):
    rows = tuple(range(x.ndim - 1))
    wide = backend.cast(x, gamma.dtype)
    mean = OPS["mean"](wide, axis=rows)
    var = OPS["mean"](OPS["square"](wide - mean), axis=rows)
    y = (wide - mean) * (OPS["rsqrt"](var + epsilon) * gamma) + beta
    return backend.cast(y, x.dtype), mean, var


@op(inputs=("x", "gamma", "mean", "variance", "dy"), kernel="batch_norm_grad")
def _batch_norm_grad(x, gamma, mean, variance, dy, epsilon):
    rows = tuple(range(x.ndim - 1))
    rstd = OPS["rsqrt"](variance + epsilon)
    h = (backend.cast(x, gamma.dtype) - mean) * rstd
    d = backend.cast(dy, gamma.dtype)
    left = d - OPS["mean"](d, axis=rows) - h * OPS["mean"](d * h, axis=rows)
    dx = backend.cast(gamma * rstd * left, x.dtype)
    return dx, OPS["sum"](d * h, axis=rows), OPS["sum"](d, axis=rows)


@_batch_norm_last.gradient
def _(op, dy, dmean, dvar):
    # Only y is differentiated: `_batch_norm_train` passes the statistics on without gradient.
    mean, var = op.outputs[1], op.outputs[2]
    return _batch_norm_grad(op.inputs[0], op.inputs[1], mean, var, dy, op.epsilon)


@op(inputs=("x", "gamma", "beta"))
def _batch_norm_train(x, gamma=None, beta=None, axis=-1, epsilon=1e-3):
    """x normalised by its own mean and variance over all axes but `axis`.

    Returns:
        (y, mean, variance). No gradient flows through mean and variance, which serve the moving
        averages; the gradient of y takes into account that they depend on x. They are float32 where
        x is shorter.
    """
    x = _float(x)
    axis = canonical_axis("batch_norm_train", axis, x.ndim)
    n = x.shape[axis]
    dtype = backend.result_type(x.dtype, "float32")
    gamma = creation.ones((n,), dtype) if gamma is None else backend.convert_to_tensor(gamma)
    beta = creation.zeros((n,), dtype) if beta is None else backend.convert_to_tensor(beta)
    gamma, beta = backend.cast(gamma, dtype), backend.cast(beta, dtype)
    y, mean, var = _batch_norm_last(shapes.moveaxis(x, axis, -1), gamma, beta, float(epsilon))
    y = shapes.moveaxis(y, -1, axis)
    return y, backend.stop_gradient(mean), backend.stop_gradient(var)


@op
def normalize(x, axis=-1, order=2, epsilon=None):
    """x divided by its norm of the given order along `axis` (at least `epsilon`).

    Example:

    >>> normalize([0.0, 2.0]).tolist()
    [0.0, 1.0]
    """
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"normalize: expected an order >= 1, got {order!r}")
    x = _float(x)
    x = shapes.expand_dims(x, 0) if x.ndim == 0 else x
    epsilon = backend.epsilon() if epsilon is None else epsilon
    if order == 2:
        inverse = OPS["rsqrt"](OPS["sum"](OPS["square"](x), axis=axis, keepdims=True))
        return x * OPS["minimum"](inverse, 1.0 / epsilon)
    powers = OPS["power"](OPS["absolute"](x), order)
    size = OPS["power"](OPS["sum"](powers, axis=axis, keepdims=True), 1.0 / order)
    return x / OPS["maximum"](size, epsilon)


# ------------------------------------------------------------------ cross entropy


@op(kernel="softmax_crossentropy")
def _softmax_crossentropy(logits, targets):
    return -OPS["sum"](targets * _log_softmax(logits), axis=-1)


@op(kernel="softmax_crossentropy_grad")
def _softmax_crossentropy_grad(logits, targets, dy):
    total = OPS["sum"](targets, axis=-1, keepdims=True)
    return (_softmax(logits) * total - targets) * shapes.expand_dims(dy, -1)


@_softmax_crossentropy.gradient
def _(op, dy):
    logits, targets = op.inputs
    dtargets = None
    if op.needs[1]:
        dtargets = -_log_softmax(logits) * shapes.expand_dims(dy, -1)
    return _softmax_crossentropy_grad(logits, targets, dy), dtargets


@op(kernel="sparse_softmax_crossentropy")
def _sparse_softmax_crossentropy(logits, labels):
    places = shapes.expand_dims(labels, -1)
    return -shapes.squeeze(index.take_along_axis(_log_softmax(logits), places, axis=-1), -1)


@op(kernel="sparse_softmax_crossentropy_grad")
def _sparse_softmax_crossentropy_grad(logits, labels, dy):
    hot = index.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return (_softmax(logits) - hot) * shapes.expand_dims(dy, -1)


@_sparse_softmax_crossentropy.gradient
def _(op, dy):
    return _sparse_softmax_crossentropy_grad(op.inputs[0], op.inputs[1], dy), None


# What the pass `crossentropy` makes of a loss and its gradient: (gradient, loss), computed in the
# dtype of `dy`, which may be wider than the logits and the gradient.


@op(kernel="softmax_crossentropy_both")
def _softmax_crossentropy_both(logits, targets, dy):
    wide, targets = backend.cast(logits, dy.dtype), backend.cast(targets, dy.dtype)
    gradient = _softmax_crossentropy_grad(wide, targets, dy)
    return backend.cast(gradient, logits.dtype), _softmax_crossentropy(wide, targets)


@op(kernel="sparse_softmax_crossentropy_both")
def _sparse_softmax_crossentropy_both(logits, labels, dy):
    wide = backend.cast(logits, dy.dtype)
    gradient = _sparse_softmax_crossentropy_grad(wide, labels, dy)
    return backend.cast(gradient, logits.dtype), _sparse_softmax_crossentropy(wide, labels)


def _probabilities(name, output, axis):
    """Probabilities made to sum to 1, and kept away from 0 and 1 by epsilon."""
    output = output / OPS["sum"](output, axis=axis, keepdims=True)
    return OPS["clip"](output, backend.epsilon(), 1 - backend.epsilon())


def _logits_behind(output, axis):
    """The logits, where `output` is their softmax (sigmoid for axis None) in a traced program.

    The crossentropy is then computed from them in one pass; it has no need to be clipped.
    """
    if not isinstance(output, backend.Value):
        return None
    wanted = "sigmoid" if axis is None else "softmax"
    if output.node.op.name != wanted or axis not in (None, output.ndim - 1):
        return None
    return output.node.inputs[0]


@op
def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """-sum(target * log(output)) along the class `axis`.

    Args:
        target: probabilities of the classes, of the shape of `output`.
        output: probabilities (normalised, and clipped by epsilon), or logits.
    """
    target, output = backend.convert_to_tensor(target), _float(output)
    if tuple(target.shape) != tuple(output.shape):
        raise ValueError(
            f"categorical_crossentropy: expected target and output of the same shape, got "
            f"{tuple(target.shape)} and {tuple(output.shape)} (integer classes go to "
            "sparse_categorical_crossentropy)"
        )
    if output.ndim < 1:
        raise ValueError("categorical_crossentropy: expected an axis of classes, got a scalar")
    target = backend.cast(target, output.dtype)
    axis = canonical_axis("categorical_crossentropy", axis, output.ndim)
    if from_logits:
        logits, target = shapes.moveaxis(output, axis, -1), shapes.moveaxis(target, axis, -1)
        return _softmax_crossentropy(logits, target)
    logits = _logits_behind(output, axis)
    if logits is not None:  # the softmax sums to 1 already: targets weigh the logarithms alike
        return _softmax_crossentropy(logits, target)
    log_p = OPS["log"](_probabilities("categorical_crossentropy", output, axis))
    return -OPS["sum"](target * log_p, axis=axis)


@op
def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """-log(output[target]) along the class `axis`.

    Args:
        target: integer classes, of the shape of `output` without `axis` (or with size 1 there).
        output: probabilities (normalised, and clipped by epsilon), or logits.
    """
    output = _float(output)
    target = backend.cast(backend.convert_to_tensor(target), "int32")
    if output.ndim < 1:
        raise ValueError("sparse_categorical_crossentropy: expected an axis of classes")
    axis = canonical_axis("sparse_categorical_crossentropy", axis, output.ndim)
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = shapes.squeeze(target, -1)
    wanted = tuple(n for i, n in enumerate(output.shape) if i != axis)
    if tuple(target.shape) != wanted:
        raise ValueError(
            f"sparse_categorical_crossentropy: expected classes of shape {wanted} for an output of "
            f"shape {tuple(output.shape)}, got {tuple(target.shape)}"
        )
    if from_logits:
        return _sparse_softmax_crossentropy(shapes.moveaxis(output, axis, -1), target)
    logits = _logits_behind(output, axis)
    if logits is not None:
        return _sparse_softmax_crossentropy(logits, target)
    p = _probabilities("sparse_categorical_crossentropy", output, axis)
    places = shapes.expand_dims(target, axis)
    return -OPS["log"](shapes.squeeze(index.take_along_axis(p, places, axis=axis), axis))


@op
def binary_crossentropy(target, output, from_logits=False):
    """-(target log(output) + (1 - target) log(1 - output)), element by element.

    Args:
        output: probabilities (clipped by epsilon), or logits x, for which it is computed as
            max(x, 0) - x target + log(1 + e^-|x|).
    """
    target, output = backend.convert_to_tensor(target), _float(output)
    target = backend.cast(target, output.dtype)
    if tuple(target.shape) != tuple(output.shape):
        raise ValueError(
            f"binary_crossentropy: expected target and output of the same shape, got "
            f"{tuple(target.shape)} and {tuple(output.shape)}"
        )
    logits = None if from_logits else _logits_behind(output, None)
    if logits is not None:
        output, from_logits = logits, True
    if from_logits:
        tail = OPS["log1p"](OPS["exp"](-OPS["absolute"](output)))
        return OPS["maximum"](output, 0) - output * target + tail
    output = OPS["clip"](output, backend.epsilon(), 1 - backend.epsilon())
    return -(target * OPS["log"](output) + (1 - target) * OPS["log"](1 - output))
