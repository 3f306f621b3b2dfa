"""The `Loss` base class: rank alignment, sample weights, masks and reduction."""

from hornbeam import backend, ops
from hornbeam.backend import tree
from hornbeam.saving import serialization_lib
from hornbeam.utils import naming

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


def resolve_dtype(dtype):
    """Name of the compute dtype that `dtype` (a name, a dtype policy or None) stands for."""
    dtype = getattr(dtype, "compute_dtype", dtype)
    return backend.standardize_dtype(dtype or backend.floatx())


def get_mask(x):
    """Mask that a layer attached to `x`, or None."""
    return getattr(x, "_keras_mask", None)


def to_tensors(x, dtype):
    """Nest of tensors; a nested list of plain numbers is one array."""
    if all(isinstance(leaf, (int, float)) for leaf in tree.flatten(x)):
        return backend.convert_to_tensor(x, dtype=dtype)
    return tree.map_structure(lambda leaf: backend.convert_to_tensor(leaf, dtype=dtype), x)


def align_ranks(x1, x2, expand_rank_1=True):
    """Bring `(n, …)` and `(n, …, 1)` to one rank, as Keras does in `fit`.

    A trailing axis of length one is added to the rank-1 side, or dropped from the longer side
    if the shorter one has more than one axis. Other ranks stay as they are.
    """
    if x1.ndim == x2.ndim + 1 and x1.shape[-1] == 1:
        if x2.ndim == 1 and expand_rank_1:
            return x1, ops.expand_dims(x2, -1)
        return ops.squeeze(x1, -1), x2
    if x2.ndim == x1.ndim + 1 and x2.shape[-1] == 1:
        if x1.ndim == 1 and expand_rank_1:
            return ops.expand_dims(x1, -1), x2
        return x1, ops.squeeze(x2, -1)
    return x1, x2


def align(name, y_true, y_pred):
    """Both as tensors of `y_pred`'s dtype and one rank; no silent broadcast between ranks.

    Raises:
        ValueError: ranks still differ after `align_ranks`, or the shapes do not broadcast.
    """
    y_pred = backend.convert_to_tensor(y_pred)
    y_true = backend.convert_to_tensor(y_true, dtype=y_pred.dtype)
    true_shape, pred_shape = tuple(y_true.shape), tuple(y_pred.shape)
    y_true, y_pred = align_ranks(y_true, y_pred)
    fits = y_true.ndim == y_pred.ndim and all(
        a == b or a == 1 or b == 1 for a, b in zip(y_true.shape, y_pred.shape, strict=True)
    )
    if not fits and y_true.ndim and y_pred.ndim:
        raise ValueError(
            f"{name}: targets do not match the predictions; expected y_true of shape "
            f"{pred_shape}, got {true_shape}. Likely cause: the last layer's units differ from "
            "the number of targets, or integer labels are used with a loss for one value per "
            "output"
        )
    return y_true, y_pred


def apply_mask(sample_weight, mask, dtype, reduction):
    """Fold `mask` into `sample_weight`, scaled so that masked-out steps do not count in a mean."""
    if mask is None:
        return sample_weight
    weight = ops.cast(mask, dtype)
    if reduction in ("sum_over_batch_size", "mean"):
        # the mean divides by all entries: scale the valid ones up by entries / valid entries
        weight = weight * ops.divide_no_nan(ops.cast(float(weight.size), dtype), ops.sum(weight))
    if sample_weight is None:
        return weight
    weight, sample_weight = align_ranks(weight, ops.cast(sample_weight, dtype))
    return weight * sample_weight


def reduce_weighted(values, sample_weight=None, mask=None, reduction="sum_over_batch_size"):
    """Reduce per-sample `values`, weighted, to one number (or none: reduction None)."""
    sample_weight = apply_mask(sample_weight, mask, values.dtype, reduction)
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, values.dtype)
        if not is_broadcastable(values, sample_weight):
            raise ValueError(
                "Loss: sample weights do not match the samples; expected a shape that broadcasts "
                f"to {tuple(values.shape)}, got {tuple(sample_weight.shape)}"
            )
        values, sample_weight = align_ranks(values, sample_weight)
        values = values * sample_weight
    if reduction in (None, "none") or values.ndim == 0 or values.size == 0:
        return values
    total = ops.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        return ops.divide_no_nan(total, ops.sum(sample_weight))
    return total / float(values.size)


def is_broadcastable(values, weight):
    """Whether `weight` broadcasts to `values` after rank alignment."""
    shape, other = list(values.shape), list(weight.shape)
    if not shape:  # one value for the whole batch is weighted by the mean weight
        return True
    if len(shape) != len(other):
        if len(shape) == len(other) + 1 and shape[-1] == 1:
            shape = shape[:-1]
        elif len(other) == len(shape) + 1 and other[-1] == 1:
            other = other[:-1]
    if len(other) > len(shape):
        return False
    return all(
        b in (1, a) or a == 1 for a, b in zip(reversed(shape), reversed(other), strict=False)
    )


class Loss:
    """Base class of losses: `call(y_true, y_pred)` gives one value per sample, `__call__` reduces.

    Args:
        name: name of the instance.
        reduction: "sum_over_batch_size" (sum of values / their number), "sum", "mean",
            "mean_with_sample_weight" (divided by the sum of the weights) or None.
        dtype: dtype of the computation (a name or a dtype policy); default `floatx()`.

    Example:

    >>> class Doubled(Loss):
    ...     def call(self, y_true, y_pred):
    ...         return 2.0 * (y_true - y_pred) ** 2
    >>> float(Doubled()([1.0, 2.0], [1.0, 4.0]))
    4.0
    """

    # labels given as integers are looked up, not compared: they keep their dtype
    _integer_labels = False

    def __init__(self, name=None, reduction="sum_over_batch_size", dtype=None):
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__}: unknown reduction; expected one of {REDUCTIONS}, "
                f"got {reduction!r}"
            )
        self.name = name or naming.auto_name(type(self).__name__)
        self.reduction = reduction
        self._dtype = resolve_dtype(dtype)

    @property
    def dtype(self):
        return self._dtype

    def __call__(self, y_true, y_pred, sample_weight=None):
        mask = get_mask(y_pred)
        with backend.name_scope(self.name):
            y_pred = to_tensors(y_pred, self._dtype)
            y_true = to_tensors(y_true, None if self._integer_labels else self._dtype)
            values = backend.convert_to_tensor(self.call(y_true, y_pred), dtype=self._dtype)
            own_mask = get_mask(values)
            if own_mask is not None:
                mask = own_mask if mask is None else ops.logical_and(mask, own_mask)
            if sample_weight is not None:
                sample_weight = backend.convert_to_tensor(sample_weight, dtype=self._dtype)
            return reduce_weighted(values, sample_weight, mask, self.reduction)

    def call(self, y_true, y_pred):
        raise NotImplementedError(f"{type(self).__name__}: a Loss must define call(y_true, y_pred)")

    def get_config(self):
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class LossFunctionWrapper(Loss):
    """A `Loss` around a function `fn(y_true, y_pred, **kwargs)` of per-sample values."""

    def __init__(self, fn, reduction="sum_over_batch_size", name=None, dtype=None, **kwargs):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.fn = fn
        self._fn_kwargs = kwargs
        for key, value in kwargs.items():
            setattr(self, key, value)

    def call(self, y_true, y_pred):
        if not tree.is_nested(y_true) and not tree.is_nested(y_pred):
            if not self._integer_labels:
                y_true, y_pred = align_ranks(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self):
        config = super().get_config()
        if type(self) is LossFunctionWrapper:
            config["fn"] = serialization_lib.serialize_keras_object(self.fn)
            return config | serialization_lib.serialize_keras_object(self._fn_kwargs)
        return config | self._fn_kwargs

    @classmethod
    def from_config(cls, config):
        if cls is LossFunctionWrapper:
            config = serialization_lib.deserialize_keras_object(config)
        return cls(**config)

    def __repr__(self):
        return f"<{type(self).__name__}({getattr(self.fn, '__name__', self.fn)})>"
