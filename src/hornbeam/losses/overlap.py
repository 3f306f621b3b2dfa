"""Losses on the overlap of sets (Dice, Tversky) and on embeddings (circle loss)."""

from hornbeam import backend, ops
from hornbeam.losses.loss import LossFunctionWrapper, align


def dice(y_true, y_pred, axis=None):
    """1 - 2 Σ y_true·y_pred / (Σ y_true + Σ y_pred + ε), sums over `axis` (None: over all)."""
    y_true, y_pred = align("dice", y_true, y_pred)
    overlap = ops.sum(y_true * y_pred, axis=axis)
    total = ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis)
    return 1.0 - 2.0 * overlap / (total + backend.epsilon())


def tversky(y_true, y_pred, alpha=0.5, beta=0.5, axis=None):
    """1 - overlap / (overlap + alpha · missed + beta · invented + ε) (Salehi et al. 2017).

    As in Keras, alpha weighs y_true where y_pred is not, beta the reverse.
    """
    y_true, y_pred = align("tversky", y_true, y_pred)
    overlap = ops.sum(y_true * y_pred, axis=axis)
    missed = ops.sum((1.0 - y_pred) * y_true, axis=axis)
    invented = ops.sum(y_pred * (1.0 - y_true), axis=axis)
    return 1.0 - overlap / (overlap + alpha * missed + beta * invented + backend.epsilon())


def circle(
    y_true,
    y_pred,
    ref_labels=None,
    ref_embeddings=None,
    remove_diagonal=True,
    gamma=80,
    margin=0.4,
):
    """Circle loss on normalised embeddings (Sun et al. 2020, eq. 6); (n,) and (n, d) → (n,).

    Args:
        ref_labels, ref_embeddings: what to compare with; default: the batch itself.
        remove_diagonal: leave out the pair of a sample with itself.
        gamma, margin: scale and relaxation of the decision boundary.
    """
    y_pred = backend.convert_to_tensor(y_pred)
    labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
    refs = y_pred if ref_embeddings is None else ops.cast(ref_embeddings, y_pred.dtype)
    other = labels if ref_labels is None else ops.reshape(ops.cast(ref_labels, "int32"), (-1,))
    distance = ops.maximum(1.0 - ops.matmul(y_pred, ops.transpose(refs)), 0.0)
    same = ops.equal(ops.expand_dims(labels, 1), ops.expand_dims(other, 0))
    positive, negative = same, ops.logical_not(same)
    if remove_diagonal:
        off_diagonal = ops.logical_not(
            ops.equal(
                ops.expand_dims(ops.arange(labels.shape[0], dtype="int32"), 1),
                ops.expand_dims(ops.arange(other.shape[0], dtype="int32"), 0),
            )
        )
        positive = ops.logical_and(positive, off_diagonal)
    # weights are constants of the gradient in the paper, but not in Keras: as Keras
    pull = -gamma * ops.maximum(margin + distance, 0.0) * (margin - distance)
    push = gamma * ops.maximum(1.0 + margin - distance, 0.0) * (1.0 - margin - distance)
    out = ops.full_like(distance, float("-inf"))
    pull = ops.logsumexp(ops.where(positive, pull, out), axis=1)
    push = ops.logsumexp(ops.where(negative, push, out), axis=1)
    values = ops.softplus(pull + push)
    values._keras_mask = values > 0.0
    return values


class Dice(LossFunctionWrapper):
    """Dice overlap loss; see `dice`."""

    def __init__(self, reduction="sum_over_batch_size", name="dice", axis=None, dtype=None):
        super().__init__(dice, reduction, name, dtype, axis=axis)


class Tversky(LossFunctionWrapper):
    """Tversky overlap loss; see `tversky`."""

    def __init__(
        self,
        alpha=0.5,
        beta=0.5,
        reduction="sum_over_batch_size",
        name="tversky",
        axis=None,
        dtype=None,
    ):
        super().__init__(tversky, reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)


class Circle(LossFunctionWrapper):
    """Circle loss; see `circle`."""

    _integer_labels = True

    def __init__(
        self,
        gamma=80.0,
        margin=0.4,
        remove_diagonal=True,
        reduction="sum_over_batch_size",
        name="circle",
        dtype=None,
    ):
        super().__init__(
            circle,
            reduction,
            name,
            dtype,
            gamma=gamma,
            margin=margin,
            remove_diagonal=remove_diagonal,
        )
