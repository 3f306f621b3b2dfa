"""Losses for class labels: crossentropies, focal losses, hinge family, divergences."""

from hornbeam import backend, ops
from hornbeam.losses.loss import LossFunctionWrapper, align


def check_axis(name, axis):
    if isinstance(axis, bool):
        raise ValueError(f"{name}: axis must be an integer; expected int, got {axis!r}")


def require_distribution(name, y_true, y_pred):
    """Targets as probabilities over the classes of `y_pred`; says what to use for integers."""
    y_pred = backend.convert_to_tensor(y_pred)
    y_true = backend.convert_to_tensor(y_true)
    true_shape, pred_shape = tuple(y_true.shape), tuple(y_pred.shape)
    integer_like = true_shape == pred_shape[:-1] or (
        true_shape[:-1] == pred_shape[:-1] and true_shape[-1:] == (1,) != pred_shape[-1:]
    )
    if integer_like and pred_shape:
        raise ValueError(
            f"{name}: targets must be one-hot (or probabilities); expected y_true of shape "
            f"{pred_shape}, got {true_shape}. Likely cause: integer labels. Use "
            f"sparse_{name} or to_categorical(labels, {pred_shape[-1]})"
        )
    if true_shape != pred_shape:
        raise ValueError(
            f"{name}: targets do not match the predictions; expected y_true of shape "
            f"{pred_shape}, got {true_shape}. Likely cause: the last layer's units differ from "
            "the number of classes"
        )
    if pred_shape[-1:] == (1,) and name == "categorical_crossentropy":
        raise ValueError(
            f"{name}: a single class always has the loss 0; expected y_pred with two or more "
            f"classes, got shape {pred_shape}. For two classes from one output use "
            "binary_crossentropy"
        )
    return ops.cast(y_true, y_pred.dtype), y_pred


def require_labels(name, y_true, y_pred, axis=-1):
    """Integer labels of the shape of `y_pred` without its class axis."""
    y_pred = backend.convert_to_tensor(y_pred)
    y_true = backend.convert_to_tensor(y_true)
    axis = axis % y_pred.ndim if y_pred.ndim else 0
    labels_shape = tuple(d for i, d in enumerate(y_pred.shape) if i != axis)
    if y_true.ndim == y_pred.ndim and y_true.shape[axis] == 1:
        y_true = ops.squeeze(y_true, axis)
    if tuple(y_true.shape) != labels_shape:
        if tuple(y_true.shape) == tuple(y_pred.shape):
            cause = f"one-hot labels. Use {name.removeprefix('sparse_')} for them"
        else:
            cause = "the outputs are not one vector of class scores per label"
        raise ValueError(
            f"{name}: targets must be integer class labels; expected y_true of shape "
            f"{labels_shape} for y_pred of shape {tuple(y_pred.shape)}, got "
            f"{tuple(y_true.shape)}. Likely cause: {cause}"
        )
    return y_true, y_pred


def smooth_binary(y_true, label_smoothing):
    if not label_smoothing:
        return y_true
    return y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing


def smooth_categorical(y_true, label_smoothing):
    if not label_smoothing:
        return y_true
    return y_true * (1.0 - label_smoothing) + label_smoothing / y_true.shape[-1]


def binary_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """-y log p - (1 - y) log(1 - p), mean over `axis`; p = y_pred or sigmoid(y_pred).

    >>> binary_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).numpy().round(4).tolist()
    [0.6930999755859375]
    """
    y_true, y_pred = align("binary_crossentropy", y_true, y_pred)
    y_true = smooth_binary(y_true, label_smoothing)
    values = ops.binary_crossentropy(y_true, y_pred, from_logits=from_logits)
    return ops.mean(values, axis=axis)


def binary_focal_crossentropy(
    y_true,
    y_pred,
    apply_class_balancing=False,
    alpha=0.25,
    gamma=2.0,
    from_logits=False,
    label_smoothing=0.0,
    axis=-1,
):
    """(1 - p_t)^gamma · binary crossentropy (Lin et al. 2017, eq. 4 and 5), mean over `axis`."""
    y_true, y_pred = align("binary_focal_crossentropy", y_true, y_pred)
    y_true = smooth_binary(y_true, label_smoothing)
    p = ops.sigmoid(y_pred) if from_logits else y_pred
    p_t = y_true * p + (1.0 - y_true) * (1.0 - p)
    values = ops.power(1.0 - p_t, gamma) * ops.binary_crossentropy(y_true, p)
    if apply_class_balancing:
        values = (y_true * alpha + (1.0 - y_true) * (1.0 - alpha)) * values
    return ops.mean(values, axis=axis)


def categorical_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """-Σ_c y_c log p_c over `axis`; p = y_pred (normalised) or softmax(y_pred).

    Raises:
        ValueError: integer labels, or shapes that differ.
    """
    check_axis("categorical_crossentropy", axis)
    y_true, y_pred = require_distribution("categorical_crossentropy", y_true, y_pred)
    y_true = smooth_categorical(y_true, label_smoothing)
    return ops.categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)


def categorical_focal_crossentropy(
    y_true, y_pred, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1
):
    """-Σ_c alpha (1 - p_c)^gamma y_c log p_c over `axis` (Lin et al. 2017)."""
    check_axis("categorical_focal_crossentropy", axis)
    y_true, y_pred = require_distribution("categorical_focal_crossentropy", y_true, y_pred)
    y_true = smooth_categorical(y_true, label_smoothing)
    p = ops.softmax(y_pred, axis=axis) if from_logits else y_pred
    p = p / ops.sum(p, axis=axis, keepdims=True)
    p = ops.clip(p, backend.epsilon(), 1.0 - backend.epsilon())
    values = alpha * ops.power(1.0 - p, gamma) * (-y_true * ops.log(p))
    return ops.sum(values, axis=axis)


def sparse_categorical_crossentropy(y_true, y_pred, from_logits=False, ignore_class=None, axis=-1):
    """-log p[y_true] along `axis`, labels as integers; (n, …) and (n, …, classes) → (n, …).

    Args:
        ignore_class: label whose entries count nothing (loss 0, left out of means).

    Raises:
        ValueError: labels are one-hot or of another shape.

    >>> sparse_categorical_crossentropy([1], [[0.25, 0.75]]).numpy().round(4).tolist()
    [0.28769999742507935]
    """
    y_true, y_pred = require_labels("sparse_categorical_crossentropy", y_true, y_pred, axis)
    if ignore_class is None:
        return ops.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=from_logits, axis=axis
        )
    valid = ops.not_equal(y_true, ops.cast(ignore_class, y_true.dtype))
    y_true = ops.where(valid, y_true, ops.zeros_like(y_true))
    # ignored rows get equal scores, so that no infinity or NaN in them reaches the gradient
    y_pred = ops.where(ops.expand_dims(valid, axis), y_pred, ops.ones_like(y_pred))
    values = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)
    values = ops.where(valid, values, ops.zeros_like(values))
    values._keras_mask = valid
    return values


def categorical_generalized_cross_entropy(y_true, y_pred, q):
    """(1 - p[y_true]^q) / q for integer labels (Zhang and Sabuncu 2018)."""
    y_true, y_pred = require_labels("categorical_generalized_cross_entropy", y_true, y_pred)
    one_hot = ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
    p = ops.sum(y_pred * one_hot, axis=-1)
    return (1.0 - ops.power(p, q)) / q


def signed_labels(y_true):
    """Labels {0, 1} as {-1, 1}; labels that hold anything else stay."""
    binary = ops.all(ops.logical_or(ops.equal(y_true, 0.0), ops.equal(y_true, 1.0)))
    return ops.where(binary, 2.0 * y_true - 1.0, y_true)


def hinge(y_true, y_pred):
    """mean over the last axis of max(1 - y_true · y_pred, 0), labels -1 or 1 (0 means -1)."""
    y_true, y_pred = align("hinge", y_true, y_pred)
    return ops.mean(ops.maximum(1.0 - signed_labels(y_true) * y_pred, 0.0), axis=-1)


def squared_hinge(y_true, y_pred):
    """mean over the last axis of max(1 - y_true · y_pred, 0)²."""
    y_true, y_pred = align("squared_hinge", y_true, y_pred)
    margin = ops.maximum(1.0 - signed_labels(y_true) * y_pred, 0.0)
    return ops.mean(ops.square(margin), axis=-1)


def categorical_hinge(y_true, y_pred):
    """max(neg - pos + 1, 0): pos the score of the true class, neg the best of the others."""
    y_true, y_pred = align("categorical_hinge", y_true, y_pred)
    pos = ops.sum(y_true * y_pred, axis=-1)
    neg = ops.max((1.0 - y_true) * y_pred, axis=-1)
    return ops.maximum(neg - pos + 1.0, 0.0)


def kl_divergence(y_true, y_pred):
    """Σ y_true · log(y_true / y_pred) over the last axis, both clipped to [ε, 1]."""
    y_true, y_pred = align("kl_divergence", y_true, y_pred)
    y_true = ops.clip(y_true, backend.epsilon(), 1.0)
    y_pred = ops.clip(y_pred, backend.epsilon(), 1.0)
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


class BinaryCrossentropy(LossFunctionWrapper):
    """Crossentropy for two classes from one score; see `binary_crossentropy`."""

    def __init__(
        self,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="binary_crossentropy",
        dtype=None,
    ):
        super().__init__(
            binary_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class BinaryFocalCrossentropy(LossFunctionWrapper):
    """Focal loss for two classes; see `binary_focal_crossentropy`."""

    def __init__(
        self,
        apply_class_balancing=False,
        alpha=0.25,
        gamma=2.0,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="binary_focal_crossentropy",
        dtype=None,
    ):
        super().__init__(
            binary_focal_crossentropy,
            reduction,
            name,
            dtype,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalCrossentropy(LossFunctionWrapper):
    """Crossentropy for one-hot labels; see `categorical_crossentropy`."""

    def __init__(
        self,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="categorical_crossentropy",
        dtype=None,
    ):
        super().__init__(
            categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalFocalCrossentropy(LossFunctionWrapper):
    """Focal loss for one-hot labels; see `categorical_focal_crossentropy`."""

    def __init__(
        self,
        alpha=0.25,
        gamma=2.0,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="categorical_focal_crossentropy",
        dtype=None,
    ):
        super().__init__(
            categorical_focal_crossentropy,
            reduction,
            name,
            dtype,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """Crossentropy for integer labels; see `sparse_categorical_crossentropy`."""

    _integer_labels = True

    def __init__(
        self,
        from_logits=False,
        ignore_class=None,
        reduction="sum_over_batch_size",
        axis=-1,
        name="sparse_categorical_crossentropy",
        dtype=None,
    ):
        super().__init__(
            sparse_categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )

    def get_config(self):
        config = super().get_config()
        del config["axis"]  # as Keras writes it
        return config


class CategoricalGeneralizedCrossEntropy(LossFunctionWrapper):
    """Noise-robust crossentropy; see `categorical_generalized_cross_entropy`."""

    _integer_labels = True

    def __init__(
        self,
        q=0.5,
        reduction="sum_over_batch_size",
        name="categorical_generalized_cross_entropy",
        dtype=None,
    ):
        if not 0 < q < 1:
            raise ValueError(
                f"CategoricalGeneralizedCrossEntropy: q out of range; expected 0 < q < 1, got {q}"
            )
        super().__init__(categorical_generalized_cross_entropy, reduction, name, dtype, q=q)


class Hinge(LossFunctionWrapper):
    """Hinge loss; see `hinge`."""

    def __init__(self, reduction="sum_over_batch_size", name="hinge", dtype=None):
        super().__init__(hinge, reduction, name, dtype)


class SquaredHinge(LossFunctionWrapper):
    """Squared hinge loss; see `squared_hinge`."""

    def __init__(self, reduction="sum_over_batch_size", name="squared_hinge", dtype=None):
        super().__init__(squared_hinge, reduction, name, dtype)


class CategoricalHinge(LossFunctionWrapper):
    """Hinge loss between the true class and the best other one; see `categorical_hinge`."""

    def __init__(self, reduction="sum_over_batch_size", name="categorical_hinge", dtype=None):
        super().__init__(categorical_hinge, reduction, name, dtype)


class KLDivergence(LossFunctionWrapper):
    """Kullback-Leibler divergence; see `kl_divergence`."""

    def __init__(self, reduction="sum_over_batch_size", name="kl_divergence", dtype=None):
        super().__init__(kl_divergence, reduction, name, dtype)
