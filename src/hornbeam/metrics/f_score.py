"""F-scores: weighted harmonic means of precision and recall."""

from hornbeam import backend, ops
from hornbeam.metrics.metric import Metric

_COUNTS = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")


class FBetaScore(Metric):
    """(1 + β²) · precision · recall / (β² · precision + recall), per class and averaged.

    Args:
        average: None (one score per class), "micro", "macro" or "weighted" (by class size).
        beta: weight of recall.
        threshold: scores above it count as predicted; None: the largest score of each row.

    Shapes: y_true and y_pred (n, classes), targets one-hot or multi-label.
    """

    _direction = "up"

    def __init__(self, average=None, beta=1.0, threshold=None, name="fbeta_score", dtype=None):
        super().__init__(name=name, dtype=dtype)
        kind = type(self).__name__
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(
                f"{kind}: unknown average; expected None, 'micro', 'macro' or 'weighted', got "
                f"{average!r}"
            )
        if not isinstance(beta, float) or beta <= 0:
            raise ValueError(f"{kind}: beta must be a positive float; got {beta!r}")
        if threshold is not None and not (isinstance(threshold, float) and 0 < threshold <= 1):
            raise ValueError(f"{kind}: threshold must be a float in (0, 1]; got {threshold!r}")
        self.average = average
        self.beta = beta
        self.threshold = threshold
        self.axis = None if average == "micro" else 0
        self._built = False

    def _build(self, y_true_shape, y_pred_shape):
        if len(y_pred_shape) != 2 or len(y_true_shape) != 2:
            raise ValueError(
                f"{type(self).__name__}: expected y_true and y_pred of shape (n, classes), got "
                f"{tuple(y_true_shape)} and {tuple(y_pred_shape)}. Likely cause: integer labels; "
                "use to_categorical"
            )
        shape = () if self.average == "micro" else (y_pred_shape[-1],)
        for count in _COUNTS:
            setattr(self, count, self.add_variable(shape, "zeros", self.dtype, name=count))
        self._built = True

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true, self.dtype)
        y_pred = ops.cast(y_pred, self.dtype)
        if not self._built:
            self._build(y_true.shape, y_pred.shape)
        if self.threshold is None:
            best = ops.max(y_pred, axis=-1, keepdims=True)
            chosen = ops.logical_and(y_pred >= best, ops.abs(y_pred) > 1e-9)
        else:
            chosen = y_pred > self.threshold
        chosen = ops.cast(chosen, self.dtype)
        weight = None
        if sample_weight is not None:
            weight = ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        sums = (chosen * y_true, chosen * (1 - y_true), (1 - chosen) * y_true, y_true)
        for count, values in zip(_COUNTS, sums, strict=True):
            values = values if weight is None else values * weight
            getattr(self, count).assign_add(ops.sum(values, axis=self.axis))

    def result(self):
        tp, fp, fn, size = (getattr(self, count).value for count in _COUNTS)
        epsilon, beta_2 = backend.epsilon(), self.beta**2
        precision = tp / (tp + fp + epsilon)
        recall = tp / (tp + fn + epsilon)
        score = precision * recall / (beta_2 * precision + recall + epsilon) * (1 + beta_2)
        if self.average == "weighted":
            return ops.sum(score * size / (ops.sum(size) + epsilon))
        return score if self.average is None else ops.mean(score)

    def get_config(self):
        return super().get_config() | {
            "average": self.average,
            "beta": self.beta,
            "threshold": self.threshold,
        }


class F1Score(FBetaScore):
    """`FBetaScore` with β = 1: the harmonic mean of precision and recall."""

    def __init__(self, average=None, threshold=None, name="f1_score", dtype=None):
        super().__init__(average, 1.0, threshold, name, dtype)

    def get_config(self):
        config = super().get_config()
        del config["beta"]
        return config
