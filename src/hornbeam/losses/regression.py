"""Losses between real numbers: squared, absolute, logarithmic and robust errors."""

from math import log

from hornbeam import backend, ops
from hornbeam.losses.loss import LossFunctionWrapper, align


def mean_squared_error(y_true, y_pred):
    """mean over the last axis of (y_true - y_pred)²; (n, …, d) → (n, …).

    >>> mean_squared_error([[0.0, 1.0]], [[1.0, 1.0]]).numpy().tolist()
    [0.5]
    """
    y_true, y_pred = align("mean_squared_error", y_true, y_pred)
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def mean_absolute_error(y_true, y_pred):
    """mean over the last axis of |y_true - y_pred|; (n, …, d) → (n, …)."""
    y_true, y_pred = align("mean_absolute_error", y_true, y_pred)
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


def mean_absolute_percentage_error(y_true, y_pred):
    """100 · mean over the last axis of |y_true - y_pred| / max(|y_true|, ε)."""
    y_true, y_pred = align("mean_absolute_percentage_error", y_true, y_pred)
    error = ops.abs((y_true - y_pred) / ops.maximum(ops.abs(y_true), backend.epsilon()))
    return 100.0 * ops.mean(error, axis=-1)


def mean_squared_logarithmic_error(y_true, y_pred):
    """mean over the last axis of (log(y_true + 1) - log(y_pred + 1))², arguments at least ε."""
    y_true, y_pred = align("mean_squared_logarithmic_error", y_true, y_pred)
    true_log = ops.log(ops.maximum(y_true, backend.epsilon()) + 1.0)
    pred_log = ops.log(ops.maximum(y_pred, backend.epsilon()) + 1.0)
    return ops.mean(ops.square(pred_log - true_log), axis=-1)


def huber(y_true, y_pred, delta=1.0):
    """Quadratic for |error| ≤ delta, linear beyond (Huber 1964); mean over the last axis.

    >>> huber([[0.0, 0.0]], [[1.0, 3.0]]).numpy().tolist()
    [1.5]
    """
    y_true, y_pred = align("huber", y_true, y_pred)
    error = ops.abs(y_pred - y_true)
    inner = 0.5 * ops.square(error)
    outer = delta * error - 0.5 * delta * delta
    return ops.mean(ops.where(error <= delta, inner, outer), axis=-1)


def log_cosh(y_true, y_pred):
    """mean over the last axis of log(cosh(e)), as e + softplus(-2e) - log 2 (no overflow)."""
    y_true, y_pred = align("log_cosh", y_true, y_pred)
    error = y_pred - y_true
    return ops.mean(error + ops.softplus(-2.0 * error) - log(2.0), axis=-1)


def poisson(y_true, y_pred):
    """mean over the last axis of y_pred - y_true · log(y_pred + ε)."""
    y_true, y_pred = align("poisson", y_true, y_pred)
    return ops.mean(y_pred - y_true * ops.log(y_pred + backend.epsilon()), axis=-1)


def unit_vectors(x, axis):
    """x / ‖x‖₂ along `axis`, with the norm bounded below as Keras bounds it (1e-12 squared)."""
    norm = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(norm, 1e-12))


def cosine_similarity(y_true, y_pred, axis=-1):
    """-Σ ŷ_true · ŷ_pred over `axis` of the normalised vectors: -1 is the best value."""
    y_true, y_pred = align("cosine_similarity", y_true, y_pred)
    return -ops.sum(unit_vectors(y_true, axis) * unit_vectors(y_pred, axis), axis=axis)


class MeanSquaredError(LossFunctionWrapper):
    """Mean of squared errors; see `mean_squared_error`.

    >>> float(MeanSquaredError()([[0.0], [2.0]], [[1.0], [1.0]]))
    1.0
    """

    def __init__(self, reduction="sum_over_batch_size", name="mean_squared_error", dtype=None):
        super().__init__(mean_squared_error, reduction, name, dtype)


class MeanAbsoluteError(LossFunctionWrapper):
    """Mean of absolute errors; see `mean_absolute_error`."""

    def __init__(self, reduction="sum_over_batch_size", name="mean_absolute_error", dtype=None):
        super().__init__(mean_absolute_error, reduction, name, dtype)


class MeanAbsolutePercentageError(LossFunctionWrapper):
    """Mean of absolute errors in per cent; see `mean_absolute_percentage_error`."""

    def __init__(
        self, reduction="sum_over_batch_size", name="mean_absolute_percentage_error", dtype=None
    ):
        super().__init__(mean_absolute_percentage_error, reduction, name, dtype)


class MeanSquaredLogarithmicError(LossFunctionWrapper):
    """Mean of squared differences of logarithms; see `mean_squared_logarithmic_error`."""

    def __init__(
        self, reduction="sum_over_batch_size", name="mean_squared_logarithmic_error", dtype=None
    ):
        super().__init__(mean_squared_logarithmic_error, reduction, name, dtype)


class Huber(LossFunctionWrapper):
    """Huber's robust loss; see `huber`."""

    def __init__(self, delta=1.0, reduction="sum_over_batch_size", name="huber_loss", dtype=None):
        super().__init__(huber, reduction, name, dtype, delta=delta)


class LogCosh(LossFunctionWrapper):
    """Logarithm of the hyperbolic cosine of the error; see `log_cosh`."""

    def __init__(self, reduction="sum_over_batch_size", name="log_cosh", dtype=None):
        super().__init__(log_cosh, reduction, name, dtype)


class Poisson(LossFunctionWrapper):
    """Poisson negative log-likelihood up to a constant; see `poisson`."""

    def __init__(self, reduction="sum_over_batch_size", name="poisson", dtype=None):
        super().__init__(poisson, reduction, name, dtype)


class CosineSimilarity(LossFunctionWrapper):
    """Negative cosine of the angle between targets and predictions; see `cosine_similarity`."""

    def __init__(
        self, axis=-1, reduction="sum_over_batch_size", name="cosine_similarity", dtype=None
    ):
        super().__init__(cosine_similarity, reduction, name, dtype, axis=axis)
