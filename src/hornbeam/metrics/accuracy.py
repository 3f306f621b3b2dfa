"""Shares of correct predictions."""

from hornbeam import backend, ops
from hornbeam.losses.classification import require_labels
from hornbeam.losses.loss import align
from hornbeam.metrics.reduction import MeanMetricWrapper


def accuracy(y_true, y_pred):
    """1 where y_true = y_pred, else 0.

    >>> accuracy([1, 2], [1, 3]).numpy().tolist()
    [1.0, 0.0]
    """
    y_true, y_pred = align("accuracy", y_true, y_pred)
    return ops.cast(ops.equal(y_true, y_pred), backend.floatx())


def binary_accuracy(y_true, y_pred, threshold=0.5):
    """1 where (y_pred > threshold) = y_true, else 0."""
    y_true, y_pred = align("binary_accuracy", y_true, y_pred)
    hit = ops.equal(y_true, ops.cast(y_pred > threshold, y_true.dtype))
    return ops.cast(hit, backend.floatx())


def categorical_accuracy(y_true, y_pred):
    """1 where the class of largest score is that of y_true (one-hot); (n, …, c) → (n, …)."""
    y_true, y_pred = align("categorical_accuracy", y_true, y_pred)
    hit = ops.equal(ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1))
    return ops.cast(hit, backend.floatx())


def sparse_categorical_accuracy(y_true, y_pred):
    """1 where the class of largest score is y_true (an integer); (n, …) and (n, …, c) → (n, …).

    >>> sparse_categorical_accuracy([1], [[0.1, 0.9]]).numpy().tolist()
    [1.0]
    """
    y_true, y_pred = require_labels("sparse_categorical_accuracy", y_true, y_pred)
    best = ops.argmax(y_pred, axis=-1)
    hit = ops.equal(ops.cast(y_true, best.dtype), best)
    return ops.cast(hit, backend.floatx())


def top_k_categorical_accuracy(y_true, y_pred, k=5):
    """1 where the class of y_true (one-hot) is among the k largest scores."""
    y_true, y_pred = align("top_k_categorical_accuracy", y_true, y_pred)
    return sparse_top_k_categorical_accuracy(ops.argmax(y_true, axis=-1), y_pred, k=k)


def sparse_top_k_categorical_accuracy(y_true, y_pred, k=5, from_sorted_ids=False):
    """1 where y_true (an integer) is among the k largest scores.

    Args:
        from_sorted_ids: y_pred holds class ids, best first, instead of scores.
    """
    y_true = backend.convert_to_tensor(y_true)
    y_pred = backend.convert_to_tensor(y_pred)
    shape = y_true.shape
    labels = ops.reshape(y_true, (-1,))
    scores = ops.reshape(y_pred, (-1, y_pred.shape[-1]))
    if from_sorted_ids:
        ids = ops.cast(ops.expand_dims(labels, 1), scores.dtype)
        hit = ops.any(ops.equal(ids, scores[:, :k]), axis=1)
    else:
        hit = ops.in_top_k(ops.cast(labels, "int32"), scores, k)
    hit = ops.cast(hit, backend.floatx())
    return ops.reshape(hit, shape) if len(shape) != 1 else hit


class Accuracy(MeanMetricWrapper):
    """Share of predictions that equal the targets."""

    _direction = "up"

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """Share of scores on the right side of `threshold`.

    >>> m = BinaryAccuracy()
    >>> m.update_state([[1], [0]], [[0.8], [0.6]])
    >>> float(m.result())
    0.5
    """

    _direction = "up"

    def __init__(self, name="binary_accuracy", dtype=None, threshold=0.5):
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f"BinaryAccuracy: threshold must lie in (0, 1); got {threshold}")
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """Share of samples whose best class is that of the one-hot target."""

    _direction = "up"

    def __init__(self, name="categorical_accuracy", dtype=None):
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """Share of samples whose best class is the integer target."""

    _direction = "up"

    def __init__(self, name="sparse_categorical_accuracy", dtype=None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """Share of samples whose one-hot target is among the k best classes."""

    _direction = "up"

    def __init__(self, k=5, name="top_k_categorical_accuracy", dtype=None):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """Share of samples whose integer target is among the k best classes."""

    _direction = "up"

    def __init__(
        self,
        k=5,
        name="sparse_top_k_categorical_accuracy",
        dtype=None,
        from_sorted_ids=False,
    ):
        super().__init__(
            sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids
        )

    def get_config(self):
        config = super().get_config()
        if not self.from_sorted_ids:
            del config["from_sorted_ids"]
        return config
