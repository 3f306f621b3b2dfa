"""Metrics of real-valued predictions."""

import warnings

from hornbeam import backend, losses, ops
from hornbeam.losses.loss import align
from hornbeam.metrics.metric import Metric
from hornbeam.metrics.reduction import Mean, MeanMetricWrapper


class MeanSquaredError(MeanMetricWrapper):
    """Mean of squared errors.

    >>> m = MeanSquaredError()
    >>> float(m([[0.0, 1.0]], [[1.0, 1.0]]))
    0.5
    """

    _direction = "down"

    def __init__(self, name="mean_squared_error", dtype=None):
        super().__init__(losses.mean_squared_error, name, dtype)


class MeanAbsoluteError(MeanMetricWrapper):
    """Mean of absolute errors."""

    _direction = "down"

    def __init__(self, name="mean_absolute_error", dtype=None):
        super().__init__(losses.mean_absolute_error, name, dtype)


class MeanAbsolutePercentageError(MeanMetricWrapper):
    """Mean of absolute errors in per cent of the targets."""

    _direction = "down"

    def __init__(self, name="mean_absolute_percentage_error", dtype=None):
        super().__init__(losses.mean_absolute_percentage_error, name, dtype)


class MeanSquaredLogarithmicError(MeanMetricWrapper):
    """Mean of squared differences of logarithms."""

    _direction = "down"

    def __init__(self, name="mean_squared_logarithmic_error", dtype=None):
        super().__init__(losses.mean_squared_logarithmic_error, name, dtype)


class LogCoshError(MeanMetricWrapper):
    """Mean of log(cosh(error))."""

    _direction = "down"

    def __init__(self, name="logcosh", dtype=None):
        super().__init__(losses.log_cosh, name, dtype)


class RootMeanSquaredError(Mean):
    """Root of the mean of squared errors."""

    _direction = "down"

    def __init__(self, name="root_mean_squared_error", dtype=None):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = align(self.name, y_true, ops.cast(y_pred, self.dtype))
        super().update_state(ops.square(y_pred - y_true), sample_weight)

    def result(self):
        return ops.sqrt(super().result())


def cosine_similarity(y_true, y_pred, axis=-1):
    """Cosine of the angle between y_true and y_pred along `axis` (the loss is its negative)."""
    return -losses.cosine_similarity(y_true, y_pred, axis=axis)


class CosineSimilarity(MeanMetricWrapper):
    """Mean cosine of the angle between targets and predictions."""

    _direction = "up"

    def __init__(self, name="cosine_similarity", dtype=None, axis=-1):
        super().__init__(cosine_similarity, name, dtype, axis=axis)


class R2Score(Metric):
    """Coefficient of determination: 1 - Σ(y - ŷ)² / Σ(y - ȳ)².

    Args:
        class_aggregation: over outputs: "uniform_average", "variance_weighted_average", None.
        num_regressors: number of independent variables, for the adjusted score; 0: plain.

    Shapes: y_true and y_pred (n, outputs).
    """

    _direction = "up"

    def __init__(
        self,
        class_aggregation="uniform_average",
        num_regressors=0,
        name="r2_score",
        dtype=None,
    ):
        super().__init__(name=name, dtype=dtype)
        if class_aggregation not in (None, "uniform_average", "variance_weighted_average"):
            raise ValueError(
                "R2Score: unknown class_aggregation; expected None, 'uniform_average' or "
                f"'variance_weighted_average', got {class_aggregation!r}"
            )
        if num_regressors < 0:
            raise ValueError(f"R2Score: num_regressors must be at least 0; got {num_regressors}")
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self.add_variable((), "zeros", self.dtype, name="num_samples")
        self._built = False

    def _build(self, shape):
        self.squared_sum = self.add_variable(shape, "zeros", self.dtype, name="squared_sum")
        self.sum = self.add_variable(shape, "zeros", self.dtype, name="sum")
        self.total_mse = self.add_variable(shape, "zeros", self.dtype, name="residual")
        self.count = self.add_variable(shape, "zeros", self.dtype, name="count")
        self._built = True

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = align("R2Score", y_true, ops.cast(y_pred, self.dtype))
        if y_pred.ndim != 2:
            raise ValueError(
                f"R2Score: expected y_true and y_pred of shape (n, outputs), got "
                f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}"
            )
        if not self._built:
            self._build((y_pred.shape[-1],))
        weight = ops.ones_like(y_true)
        if sample_weight is not None:
            weight = ops.cast(sample_weight, self.dtype)
            weight = ops.expand_dims(weight, 1) if weight.ndim == 1 else weight
            weight = ops.broadcast_to(weight, y_true.shape)
        self.sum.assign_add(ops.sum(y_true * weight, axis=0))
        self.squared_sum.assign_add(ops.sum(y_true * y_true * weight, axis=0))
        self.total_mse.assign_add(ops.sum(ops.square(y_true - y_pred) * weight, axis=0))
        self.count.assign_add(ops.sum(weight, axis=0))
        self.num_samples.assign_add(float(y_true.size))

    def result(self):
        total = self.squared_sum.value - ops.square(self.sum.value) / self.count.value
        scores = 1.0 - self.total_mse.value / total
        scores = ops.where(ops.isinf(scores), ops.zeros_like(scores), scores)
        if self.class_aggregation == "uniform_average":
            score = ops.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            score = ops.sum(total * scores) / ops.sum(total)
        else:
            score = scores
        if not self.num_regressors:
            return score
        if not backend.is_tracing() and self.num_regressors >= float(self.num_samples.numpy()) - 1:
            warnings.warn(
                "R2Score: no adjusted score with as many regressors as samples; the plain score "
                "is given",
                stacklevel=2,
            )
            return score
        n, p = self.num_samples.value, float(self.num_regressors)
        return 1.0 - (1.0 - score) * (n - 1.0) / (n - p - 1.0)

    def get_config(self):
        return super().get_config() | {
            "class_aggregation": self.class_aggregation,
            "num_regressors": self.num_regressors,
        }


def standardized(x, axis):
    x = x - ops.mean(x, axis=axis, keepdims=True)
    return x / ops.sqrt(ops.mean(ops.square(x), axis=axis, keepdims=True))


def pearson_correlation(y_true, y_pred, axis=-1):
    """Mean product of standardised values along `axis`: in [-1, 1]."""
    y_true, y_pred = align("pearson_correlation", y_true, y_pred)
    return ops.mean(standardized(y_true, axis) * standardized(y_pred, axis), axis=axis)


def concordance_correlation(y_true, y_pred, axis=-1):
    """2 · covariance / (var(y_true) + var(y_pred) + (difference of means)²) (Lin 1989)."""
    y_true, y_pred = align("concordance_correlation", y_true, y_pred)
    true_mean = ops.mean(y_true, axis=axis, keepdims=True)
    pred_mean = ops.mean(y_pred, axis=axis, keepdims=True)
    true_var = ops.mean(ops.square(y_true - true_mean), axis=axis, keepdims=True)
    pred_var = ops.mean(ops.square(y_pred - pred_mean), axis=axis, keepdims=True)
    # subtracting either mean from y_true gives the same sum
    product = (y_true - pred_mean) * (y_pred - pred_mean)
    scale = true_var + pred_var + ops.square(true_mean - pred_mean) + backend.epsilon()
    return ops.mean(2.0 * product / scale, axis=axis)


class PearsonCorrelation(MeanMetricWrapper):
    """Mean Pearson correlation of targets and predictions along `axis`."""

    _direction = "up"

    def __init__(self, name="pearson_correlation", dtype=None, axis=-1):
        super().__init__(pearson_correlation, name, dtype, axis=axis)


class ConcordanceCorrelation(MeanMetricWrapper):
    """Mean concordance correlation of targets and predictions along `axis`."""

    _direction = "up"

    def __init__(self, name="concordance_correlation", dtype=None, axis=-1):
        super().__init__(concordance_correlation, name, dtype, axis=axis)
