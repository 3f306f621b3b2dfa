"""Weighted sums and means over everything seen."""

from hornbeam import backend, ops
from hornbeam.losses import FUNCTIONS
from hornbeam.losses.loss import align_ranks, apply_mask, get_mask
from hornbeam.metrics.metric import Metric
from hornbeam.saving import serialization_lib


def samplewise(values, sample_weight, reduce, dtype):
    """(values, weights), one per sample: inner axes reduced, values multiplied by weights."""
    mask = get_mask(values)
    values = ops.cast(values, dtype)
    if sample_weight is not None:
        weight = apply_mask(ops.cast(sample_weight, dtype), mask, dtype, "sum")
        values, weight = align_ranks(values, weight)
        if values.ndim > weight.ndim:
            values = reduce(values, axis=tuple(range(weight.ndim, values.ndim)))
        weight = ops.broadcast_to(weight, values.shape)
        values = values * weight
        if weight.ndim > 1:
            weight = reduce(weight, axis=tuple(range(1, weight.ndim)))
        sample_weight = weight
    if values.ndim > 1:
        values = reduce(values, axis=tuple(range(1, values.ndim)))
    return values, sample_weight


class Sum(Metric):
    """Weighted sum of all values.

    >>> m = Sum()
    >>> m.update_state([1.0, 3.0])
    >>> float(m.result())
    4.0
    """

    def __init__(self, name="sum", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", self.dtype, name="total")

    def update_state(self, values, sample_weight=None):
        values = backend.convert_to_tensor(values)
        values, _ = samplewise(values, sample_weight, ops.sum, self.dtype)
        self.total.assign_add(ops.sum(values))

    def result(self):
        return ops.cast(self.total.value, self.dtype)


class Mean(Metric):
    """Weighted mean of all values: total / count, 0 before the first.

    >>> m = Mean()
    >>> m.update_state([1.0, 3.0], sample_weight=[1.0, 0.0])
    >>> float(m.result())
    1.0
    """

    def __init__(self, name="mean", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", self.dtype, name="total")
        self.count = self.add_variable((), "zeros", self.dtype, name="count")

    def update_state(self, values, sample_weight=None):
        values = backend.convert_to_tensor(values)
        values, weight = samplewise(values, sample_weight, ops.mean, self.dtype)
        self.total.assign_add(ops.sum(values))
        if weight is not None:
            self.count.assign_add(ops.sum(weight))
        else:
            self.count.assign_add(float(values.shape[0]) if values.ndim else 1.0)

    def result(self):
        return ops.divide_no_nan(self.total.value, self.count.value)


class MeanMetricWrapper(Mean):
    """Mean of a function's values: `fn(y_true, y_pred, **kwargs)`, one value per sample.

    >>> m = MeanMetricWrapper(lambda y_true, y_pred: ops.abs(y_true - y_pred), name="gap")
    >>> float(m(ops.array([1.0]), ops.array([3.0])))
    2.0
    """

    def __init__(self, fn, name=None, dtype=None, **kwargs):
        super().__init__(name=name or getattr(fn, "__name__", None), dtype=dtype)
        self._fn = fn
        self._fn_kwargs = kwargs
        for key, value in kwargs.items():
            setattr(self, key, value)
        if self._direction is None and getattr(fn, "__name__", None) in FUNCTIONS:
            self._direction = "down"

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = get_mask(y_pred)
        values = backend.convert_to_tensor(self._fn(y_true, y_pred, **self._fn_kwargs))
        if mask is not None:
            sample_weight = apply_mask(sample_weight, mask, self.dtype, "sum")
        super().update_state(values, sample_weight=sample_weight)

    def get_config(self):
        config = super().get_config()
        if type(self) is MeanMetricWrapper:
            config["fn"] = serialization_lib.serialize_keras_object(self._fn)
            return config | serialization_lib.serialize_keras_object(self._fn_kwargs)
        return config | self._fn_kwargs

    @classmethod
    def from_config(cls, config):
        if cls is MeanMetricWrapper:
            config = serialization_lib.deserialize_keras_object(config)
        return cls(**config)
