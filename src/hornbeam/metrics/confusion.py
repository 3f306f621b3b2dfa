"""Counts of the confusion matrix at thresholds, and what is made of them."""

import numpy as np

from hornbeam import backend, ops
from hornbeam.losses.loss import align
from hornbeam.metrics.metric import Metric

NEG_INF = -1e10  # a score below every threshold


def parse_thresholds(name, thresholds, default):
    """List of thresholds in [0, 1]; `default` where None is given."""
    if thresholds is None:
        return [default]
    values = list(thresholds) if isinstance(thresholds, (list, tuple, np.ndarray)) else [thresholds]
    bad = [t for t in values if t is None or not 0 <= t <= 1]
    if bad:
        raise ValueError(f"{name}: thresholds must lie in [0, 1]; got {bad}")
    return values


def evenly_spaced(thresholds):
    """Whether thresholds are k / (T - 1), so that a score's bucket can be computed."""
    count = len(thresholds)
    if count < 3:
        return False
    return np.allclose(thresholds, np.arange(count) / (count - 1), atol=backend.epsilon())


def keep_top_k(scores, k):
    """Scores, those not among the k largest of their row replaced by `NEG_INF`."""
    _, ids = ops.top_k(scores, k)
    kept = ops.sum(ops.one_hot(ids, scores.shape[-1], dtype=scores.dtype), axis=-2)
    return scores * kept + NEG_INF * (1.0 - kept)


def confusion_counts(
    name,
    y_true,
    y_pred,
    thresholds,
    even=False,
    sample_weight=None,
    label_weights=None,
    top_k=None,
    class_id=None,
    multi_label=False,
):
    """(tp, fp, tn, fn) of `y_pred > threshold`, each (T,), or (T, labels) for multi_label.

    With evenly spaced thresholds every score is dropped into its bucket and the buckets are
    summed from the top: O(n + T); otherwise scores are compared with each threshold: O(n · T).
    """
    dtype = backend.floatx()
    y_true, y_pred = align(name, y_true, ops.cast(y_pred, dtype))
    if top_k is not None:
        y_pred = keep_top_k(y_pred, top_k)
    if class_id is not None:
        if y_pred.ndim == 1:
            raise ValueError(
                f"{name}: class_id needs scores per class; expected shape (n, classes), got "
                f"{tuple(y_pred.shape)}"
            )
        y_true, y_pred = y_true[..., class_id], y_pred[..., class_id]
    weight = None
    if sample_weight is not None:
        weight = ops.cast(sample_weight, dtype)
        if weight.ndim == y_pred.ndim + 1 and weight.shape[-1] == 1:
            weight = ops.squeeze(weight, -1)
        while weight.ndim < y_pred.ndim:
            weight = ops.expand_dims(weight, -1)
        weight = ops.broadcast_to(weight, y_pred.shape)
    if label_weights is not None:
        per_label = ops.broadcast_to(ops.cast(label_weights, dtype), y_pred.shape)
        weight = per_label if weight is None else weight * per_label
    labels = y_pred.shape[-1] if multi_label else 1
    # columns: one per label
    positive = ops.reshape(ops.cast(ops.cast(y_true, "bool"), dtype), (-1, labels))
    scores = ops.reshape(y_pred, (-1, labels))
    negative = 1.0 - positive
    if weight is not None:
        weight = ops.reshape(weight, (-1, labels))
        positive, negative = positive * weight, negative * weight
    if even:
        tp = counts_above(scores, positive, len(thresholds), thresholds[0] < 0)
        fp = counts_above(scores, negative, len(thresholds), thresholds[0] < 0)
    else:
        bounds = ops.convert_to_tensor(np.asarray(thresholds, dtype), dtype=dtype)
        bounds = ops.reshape(bounds, (-1, 1, 1))
        above = ops.cast(ops.expand_dims(scores, 0) > bounds, dtype)
        tp = ops.sum(above * ops.expand_dims(positive, 0), axis=1)
        fp = ops.sum(above * ops.expand_dims(negative, 0), axis=1)
    if not multi_label:
        tp, fp = ops.reshape(tp, (-1,)), ops.reshape(fp, (-1,))
        return tp, fp, ops.sum(negative) - fp, ops.sum(positive) - tp
    return tp, fp, ops.sum(negative, axis=0) - fp, ops.sum(positive, axis=0) - tp


def counts_above(scores, weights, count, below_zero):
    """(count, labels): weight of the scores above each of `count` even thresholds in [0, 1].

    A score s is above threshold k / (count - 1) for all k < s · (count - 1): its bucket is
    ceil(s · (count - 1)) - 1, and -1 (above none) for s = 0, unless the first threshold is
    just below zero.
    """
    labels = scores.shape[1]
    scores = ops.clip(scores, 0.0, 1.0)
    bucket = ops.ceil(scores * (count - 1)) - 1.0
    if below_zero:
        bucket = ops.maximum(bucket, 0.0)
    # bucket -1 goes to row 0 of count + 1 rows, which is dropped
    ids = (ops.cast(bucket, "int32") + 1) * labels + ops.arange(labels, dtype="int32")
    sums = ops.segment_sum(
        ops.reshape(weights, (-1,)), ops.reshape(ids, (-1,)), num_segments=(count + 1) * labels
    )
    rows = ops.reshape(sums, (count + 1, labels))[1:]
    return ops.flip(ops.cumsum(ops.flip(rows, axis=0), axis=0), axis=0)


class _ConfusionMetric(Metric):
    """State: some of the four counts at thresholds."""

    _counts: tuple = ()  # of "true_positives", "false_positives", "true_negatives", "false_negatives"
    _names = ("true_positives", "false_positives", "true_negatives", "false_negatives")

    def __init__(self, thresholds, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.thresholds = thresholds
        self._even = evenly_spaced(thresholds)
        self._options = {}
        for count in self._counts:
            variable = self.add_variable((len(thresholds),), "zeros", name=self._variable(count))
            setattr(self, self._variable(count), variable)

    @staticmethod
    def _variable(count):
        return count

    def update_state(self, y_true, y_pred, sample_weight=None):
        counts = confusion_counts(
            self.name,
            y_true,
            y_pred,
            self.thresholds,
            even=self._even,
            sample_weight=sample_weight,
            **self._options,
        )
        for count, value in zip(self._names, counts, strict=True):
            if count in self._counts:
                getattr(self, self._variable(count)).assign_add(value)

    def _squeeze(self, result):
        return result[0] if len(self.thresholds) == 1 else result


class _Count(_ConfusionMetric):
    def __init__(self, thresholds=None, name=None, dtype=None):
        self.init_thresholds = thresholds
        thresholds = parse_thresholds(type(self).__name__, thresholds, 0.5)
        super().__init__(thresholds, name, dtype)

    @staticmethod
    def _variable(count):
        return "accumulator"

    def result(self):
        return self._squeeze(self.accumulator.value)

    def get_config(self):
        return super().get_config() | {"thresholds": self.init_thresholds}


class TruePositives(_Count):
    """Number (weight) of positive samples with a score above the threshold(s).

    >>> m = TruePositives()
    >>> m.update_state([0, 1, 1], [0.9, 0.8, 0.1])
    >>> float(m.result())
    1.0
    """

    _counts = ("true_positives",)


class FalsePositives(_Count):
    """Number (weight) of negative samples with a score above the threshold(s)."""

    _counts = ("false_positives",)


class TrueNegatives(_Count):
    """Number (weight) of negative samples with a score not above the threshold(s)."""

    _counts = ("true_negatives",)


class FalseNegatives(_Count):
    """Number (weight) of positive samples with a score not above the threshold(s)."""

    _counts = ("false_negatives",)


class _Rate(_ConfusionMetric):
    """true positives / (true positives + the other count)."""

    _direction = "up"

    def __init__(self, thresholds=None, top_k=None, class_id=None, name=None, dtype=None):
        self.init_thresholds = thresholds
        default = 0.5 if top_k is None else NEG_INF
        thresholds = parse_thresholds(type(self).__name__, thresholds, default)
        super().__init__(thresholds, name, dtype)
        self.top_k = top_k
        self.class_id = class_id
        self._options = {"top_k": top_k, "class_id": class_id}

    def result(self):
        hit, other = (getattr(self, count).value for count in self._counts)
        return self._squeeze(ops.divide_no_nan(hit, hit + other))

    def get_config(self):
        return super().get_config() | {
            "thresholds": self.init_thresholds,
            "top_k": self.top_k,
            "class_id": self.class_id,
        }


class Precision(_Rate):
    """Share of true positives among all predicted positives.

    Args:
        thresholds: number or list in [0, 1]; default 0.5.
        top_k: count only the k best classes of each row as predicted.
        class_id: look at this class only.

    >>> m = Precision()
    >>> m.update_state([0, 1, 1], [0.9, 0.8, 0.1])
    >>> float(m.result())
    0.5
    """

    _counts = ("true_positives", "false_positives")


class Recall(_Rate):
    """Share of true positives among all positive samples; arguments of `Precision`."""

    _counts = ("true_positives", "false_negatives")


class _BestAt(_ConfusionMetric):
    """The largest value of one rate where another is at least `value`."""

    _direction = "up"
    _counts = _ConfusionMetric._names

    def __init__(self, value, num_thresholds=200, class_id=None, name=None, dtype=None):
        kind = type(self).__name__
        if not 0 <= value <= 1:
            raise ValueError(f"{kind}: {self._bound} must lie in [0, 1]; got {value}")
        if num_thresholds <= 0:
            raise ValueError(f"{kind}: num_thresholds must be positive; got {num_thresholds}")
        if num_thresholds == 1:
            thresholds = [0.5]
        else:
            thresholds = [i / (num_thresholds - 1) for i in range(num_thresholds)]
        super().__init__(thresholds, name, dtype)
        self.value = value
        setattr(self, self._bound, value)
        self.num_thresholds = num_thresholds
        self.class_id = class_id
        self._options = {"class_id": class_id}

    def _rates(self):
        tp, fp, tn, fn = (getattr(self, count).value for count in self._names)
        return {
            "sensitivity": ops.divide_no_nan(tp, tp + fn),
            "recall": ops.divide_no_nan(tp, tp + fn),
            "specificity": ops.divide_no_nan(tn, tn + fp),
            "precision": ops.divide_no_nan(tp, tp + fp),
        }

    def result(self):
        rates = self._rates()
        feasible = rates[self._bound] >= self.value
        best = rates[self._wanted]
        return ops.max(ops.where(feasible, best, ops.zeros_like(best)))

    def get_config(self):
        return super().get_config() | {
            "num_thresholds": self.num_thresholds,
            self._bound: self.value,
            "class_id": self.class_id,
        }


class SensitivityAtSpecificity(_BestAt):
    """Best sensitivity (recall) where specificity is at least the given one."""

    _bound, _wanted = "specificity", "sensitivity"

    def __init__(self, specificity, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(specificity, num_thresholds, class_id, name, dtype)


class SpecificityAtSensitivity(_BestAt):
    """Best specificity where sensitivity (recall) is at least the given one."""

    _bound, _wanted = "sensitivity", "specificity"

    def __init__(self, sensitivity, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)


class PrecisionAtRecall(_BestAt):
    """Best precision where recall is at least the given one."""

    _bound, _wanted = "recall", "precision"

    def __init__(self, recall, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(recall, num_thresholds, class_id, name, dtype)


class RecallAtPrecision(_BestAt):
    """Best recall where precision is at least the given one."""

    _bound, _wanted = "precision", "recall"

    def __init__(self, precision, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(precision, num_thresholds, class_id, name, dtype)
