"""Intersection over union from a confusion matrix."""

from hornbeam import backend, ops
from hornbeam.metrics.metric import Metric


class _Confusion(Metric):
    _direction = "up"

    def __init__(
        self,
        num_classes,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_true=True,
        sparse_y_pred=True,
        axis=-1,
    ):
        super().__init__(name=name, dtype=dtype or "int32")
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.sparse_y_true = sparse_y_true
        self.sparse_y_pred = sparse_y_pred
        self.axis = axis
        self.total_cm = self.add_variable(
            (num_classes, num_classes), "zeros", self.dtype, name="total_confusion_matrix"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = backend.convert_to_tensor(y_true), backend.convert_to_tensor(y_pred)
        shapes = tuple(y_true.shape), tuple(y_pred.shape)
        if not self.sparse_y_true:
            y_true = ops.argmax(y_true, axis=self.axis)
        if not self.sparse_y_pred:
            y_pred = ops.argmax(y_pred, axis=self.axis)
        y_true = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        y_pred = ops.reshape(ops.cast(y_pred, "int32"), (-1,))
        if y_true.size != y_pred.size:
            raise ValueError(
                f"{type(self).__name__}: expected one prediction per target, got y_true of shape "
                f"{shapes[0]} and y_pred of shape {shapes[1]} (sparse_y_true={self.sparse_y_true}, "
                f"sparse_y_pred={self.sparse_y_pred})"
            )
        if sample_weight is None:
            weight = ops.ones(y_true.shape, dtype=self.dtype)
        else:
            weight = ops.reshape(ops.cast(sample_weight, self.dtype), (-1,))
            weight = ops.broadcast_to(weight, y_true.shape)
        n = self.num_classes
        inside = ops.logical_and(
            ops.logical_and(y_true >= 0, y_true < n), ops.logical_and(y_pred >= 0, y_pred < n)
        )
        if self.ignore_class is not None:
            inside = ops.logical_and(inside, ops.not_equal(y_true, self.ignore_class))
        cell = ops.where(inside, y_true * n + y_pred, ops.zeros_like(y_true))
        weight = ops.where(inside, weight, ops.zeros_like(weight))
        counts = ops.segment_sum(weight, cell, num_segments=n * n)
        self.total_cm.assign_add(ops.reshape(counts, (n, n)))

    def get_config(self):
        return super().get_config() | {
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
            "sparse_y_true": self.sparse_y_true,
            "sparse_y_pred": self.sparse_y_pred,
            "axis": self.axis,
        }


class IoU(_Confusion):
    """tp / (tp + fp + fn), mean over target classes that occur.

    Args:
        num_classes: number of classes.
        target_class_ids: classes to average over.
        ignore_class: label whose samples do not count.
        sparse_y_true, sparse_y_pred: integers; False: scores per class along `axis`.

    >>> m = IoU(num_classes=2, target_class_ids=[0])
    >>> m.update_state([0, 0, 1, 1], [0, 1, 0, 1])
    >>> round(float(m.result()), 4)
    0.3333
    """

    def __init__(
        self,
        num_classes,
        target_class_ids,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_true=True,
        sparse_y_pred=True,
        axis=-1,
    ):
        super().__init__(num_classes, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)
        if max(target_class_ids) >= num_classes:
            raise ValueError(
                f"{type(self).__name__}: target class out of range; expected ids below "
                f"{num_classes}, got {max(target_class_ids)}"
            )
        self.target_class_ids = list(target_class_ids)

    def result(self):
        matrix = ops.cast(self.total_cm.value, "float32")
        hit = ops.diagonal(matrix)
        union = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1) - hit
        ids = ops.convert_to_tensor(self.target_class_ids, dtype="int32")
        hit, union = ops.take(hit, ids, axis=0), ops.take(union, ids, axis=0)
        occurs = union > 1e-9
        iou = ops.where(occurs, hit / (union + backend.epsilon()), ops.zeros_like(hit))
        return ops.sum(iou) / (ops.sum(ops.cast(occurs, "float32")) + backend.epsilon())

    def get_config(self):
        return super().get_config() | {"target_class_ids": self.target_class_ids}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


class BinaryIoU(IoU):
    """`IoU` of two classes from scores: class 1 where the score is at least `threshold`."""

    def __init__(self, target_class_ids=(0, 1), threshold=0.5, name=None, dtype=None):
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.cast(ops.cast(y_pred, "float32") >= self.threshold, "int32")
        super().update_state(y_true, y_pred, sample_weight)

    def get_config(self):
        config = without(
            super().get_config(),
            "num_classes",
            "ignore_class",
            "sparse_y_true",
            "sparse_y_pred",
            "axis",
        )
        return config | {"threshold": self.threshold}


class MeanIoU(IoU):
    """`IoU` averaged over all classes."""

    def __init__(
        self,
        num_classes,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_true=True,
        sparse_y_pred=True,
        axis=-1,
    ):
        super().__init__(
            num_classes,
            range(num_classes),
            name,
            dtype,
            ignore_class,
            sparse_y_true,
            sparse_y_pred,
            axis,
        )

    def get_config(self):
        return without(super().get_config(), "target_class_ids")


class OneHotIoU(IoU):
    """`IoU` for one-hot targets (and scores per class, unless sparse_y_pred)."""

    def __init__(
        self,
        num_classes,
        target_class_ids,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_pred=False,
        axis=-1,
    ):
        super().__init__(
            num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis
        )

    def get_config(self):
        return without(super().get_config(), "sparse_y_true")


class OneHotMeanIoU(MeanIoU):
    """`MeanIoU` for one-hot targets (and scores per class, unless sparse_y_pred)."""

    def __init__(
        self,
        num_classes,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_pred=False,
        axis=-1,
    ):
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)

    def get_config(self):
        return without(super().get_config(), "sparse_y_true")
