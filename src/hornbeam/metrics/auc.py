"""Area under the ROC, precision-recall and precision-recall-gain curves."""

import numpy as np

from hornbeam import backend, ops
from hornbeam.metrics.confusion import confusion_counts, evenly_spaced
from hornbeam.metrics.metric import Metric

_COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
CURVES = ("ROC", "PR", "PRGAIN")
SUMMATIONS = ("interpolation", "majoring", "minoring")


class AUC(Metric):
    """Area under a curve, as a Riemann sum over thresholds.

    Args:
        num_thresholds: how many thresholds, evenly spaced in [0, 1] and just beyond.
        curve: "ROC", "PR" (interpolated after Davis and Goadrich 2006) or "PRGAIN".
        summation_method: "interpolation" (trapezia), "majoring" or "minoring".
        thresholds: own thresholds in [0, 1] instead.
        multi_label: average the areas of the columns of (n, labels) instead of flattening.
        num_labels: number of labels, to build at once.
        label_weights: weights of the labels.
        from_logits: apply a sigmoid to predictions.

    >>> m = AUC(num_thresholds=3)
    >>> m.update_state([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])
    >>> float(m.result())
    0.75
    """

    _direction = "up"

    def __init__(
        self,
        num_thresholds=200,
        curve="ROC",
        summation_method="interpolation",
        name=None,
        dtype=None,
        thresholds=None,
        multi_label=False,
        num_labels=None,
        label_weights=None,
        from_logits=False,
    ):
        super().__init__(name=name, dtype=dtype)
        self.curve = str(getattr(curve, "value", curve)).upper()
        self.summation_method = str(getattr(summation_method, "value", summation_method)).lower()
        if self.curve not in CURVES:
            raise ValueError(f"AUC: unknown curve; expected one of {CURVES}, got {curve!r}")
        if self.summation_method not in SUMMATIONS:
            raise ValueError(
                f"AUC: unknown summation_method; expected one of {SUMMATIONS}, got "
                f"{summation_method!r}"
            )
        self._init_from_thresholds = thresholds is not None
        if thresholds is not None:
            inner = sorted(thresholds)
            self._even = evenly_spaced([0.0, *inner, 1.0])
        else:
            if num_thresholds <= 1:
                raise ValueError(f"AUC: num_thresholds must be at least 2; got {num_thresholds}")
            inner = [i / (num_thresholds - 1) for i in range(1, num_thresholds - 1)]
            self._even = True
        self.num_thresholds = len(inner) + 2
        self._thresholds = np.array([-backend.epsilon(), *inner, 1.0 + backend.epsilon()])
        if num_labels and not multi_label:
            raise ValueError("AUC: num_labels is used only with multi_label=True")
        self.multi_label = multi_label
        self.num_labels = num_labels
        self.label_weights = label_weights
        self._from_logits = from_logits
        self._built = False
        if not multi_label:
            self._build((self.num_thresholds,))
        elif num_labels:
            self._build((self.num_thresholds, num_labels))

    @property
    def thresholds(self):
        return list(self._thresholds)

    def _build(self, shape):
        for count in _COUNTS:
            setattr(self, count, self.add_variable(shape, "zeros", name=count))
        self._built = True

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = backend.convert_to_tensor(y_pred)
        if not self._built:
            if y_pred.ndim != 2:
                raise ValueError(
                    "AUC: multi_label needs predictions of shape (n, labels), got "
                    f"{tuple(y_pred.shape)}"
                )
            self._build((self.num_thresholds, y_pred.shape[1]))
        if self._from_logits:
            y_pred = ops.sigmoid(y_pred)
        counts = confusion_counts(
            self.name,
            y_true,
            y_pred,
            self._thresholds,
            even=self._even,
            sample_weight=sample_weight,
            label_weights=None if self.multi_label else self.label_weights,
            multi_label=self.multi_label,
        )
        for name, value in zip(_COUNTS, counts, strict=True):
            getattr(self, name).assign_add(value)

    def _curve_points(self, tp, fp, tn, fn):
        recall = ops.divide_no_nan(tp, tp + fn)
        if self.curve == "ROC":
            return ops.divide_no_nan(fp, fp + tn), recall
        if self.curve == "PR":
            return recall, ops.divide_no_nan(tp, tp + fp)
        ratio = ops.divide_no_nan(tp + fn, tn + fp)
        none = ops.equal(tp, 0.0)
        zero, one = ops.zeros_like(tp), ops.ones_like(tp)
        recall_gain = ops.where(none, zero, 1.0 - ratio * ops.divide_no_nan(fn, tp))
        precision_gain = ops.where(none, one, 1.0 - ratio * ops.divide_no_nan(fp, tp))
        return ops.maximum(recall_gain, 0.0), precision_gain

    @staticmethod
    def _interpolated_pr(tp, fp, fn):
        """Areas between thresholds: precision is a hyperbola in tp (Davis and Goadrich 2006)."""
        p = tp + fp
        slope = ops.divide_no_nan(tp[:-1] - tp[1:], ops.maximum(p[:-1] - p[1:], 0.0))
        intercept = tp[1:] - slope * p[1:]
        both = ops.logical_and(p[:-1] > 0, p[1:] > 0)
        ratio = ops.where(both, ops.divide_no_nan(p[:-1], p[1:]), ops.ones_like(p[1:]))
        area = slope * (tp[:-1] - tp[1:] + intercept * ops.log(ratio))
        return ops.divide_no_nan(area, tp[1:] + fn[1:])

    def result(self):
        tp, fp, tn, fn = (getattr(self, name).value for name in _COUNTS)
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = self._interpolated_pr(tp, fp, fn)
        else:
            x, y = self._curve_points(tp, fp, tn, fn)
            if self.summation_method == "interpolation":
                heights = (y[:-1] + y[1:]) / 2.0
            elif self.summation_method == "minoring":
                heights = ops.minimum(y[:-1], y[1:])
            else:
                heights = ops.maximum(y[:-1], y[1:])
            areas = (x[:-1] - x[1:]) * heights
        if not self.multi_label:
            return ops.sum(areas)
        by_label = ops.sum(areas, axis=0)
        if self.label_weights is None:
            return ops.mean(by_label)
        weights = ops.cast(self.label_weights, by_label.dtype)
        return ops.divide_no_nan(ops.sum(by_label * weights), ops.sum(weights))

    def get_config(self):
        weights = self.label_weights
        config = super().get_config() | {
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": None if weights is None else [float(w) for w in weights],
            "from_logits": self._from_logits,
        }
        if self._init_from_thresholds:
            config["thresholds"] = [float(t) for t in self._thresholds[1:-1]]
        return config
