"""Small numerical helpers on NumPy arrays."""

from __future__ import annotations

import numpy as np


def to_categorical(x, num_classes=None):
    """One-hot rows for integer classes: entry `[..., x[...]]` is 1, all others are 0.

    A last axis of length one is dropped first, as in labels of shape `(n, 1)`.

    Args:
        x: array of whole numbers 0 … `num_classes - 1`, of any shape.
        num_classes: number of classes. Default: the largest class plus one.

    Returns:
        `float64` array, as in Keras, of shape `x.shape + (num_classes,)`.

    Raises:
        ValueError: for a class that is negative, not whole, or not below `num_classes`.

    Example:

    >>> to_categorical([0, 2, 1])
    array([[1., 0., 0.],
           [0., 0., 1.],
           [0., 1., 0.]])
    """
    labels = np.asarray(x)
    whole = labels.dtype.kind in "biu" or (
        labels.dtype.kind == "f" and bool(np.all(labels == np.trunc(labels)))
    )
    if not whole or not np.all(np.isfinite(labels)):
        raise ValueError(
            "to_categorical: classes must be whole numbers; expected an integer array, got "
            f"dtype {labels.dtype}"
        )
    labels = labels.astype("int64")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if num_classes is None:
        if labels.size == 0:
            raise ValueError("to_categorical: no classes in an empty array; give num_classes")
        num_classes = int(labels.max()) + 1
    num_classes = int(num_classes)
    if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(
            f"to_categorical: class out of range; expected 0 to {num_classes - 1}, got "
            f"{labels.min()} to {labels.max()}. Are the classes counted from 1?"
        )
    result = np.zeros((*labels.shape, num_classes))
    np.put_along_axis(result, labels[..., None], 1.0, axis=-1)
    return result


def normalize(x, axis=-1, order=2):
    """Divides by the norm along an axis: `x / (Σ |x|^order)^(1/order)`; a zero vector stays zero.

    Args:
        x: array.
        axis: axis of the vectors.
        order: order of the norm, as in `numpy.linalg.norm` (2: Euclidean, 1: sum, inf: largest).

    Returns:
        Array of the shape of `x`, of at least one dimension.

    Example:

    >>> normalize([[3.0, 4.0], [0.0, 0.0]])
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    x = np.atleast_1d(np.asarray(x))
    norm = np.linalg.norm(x, ord=order, axis=axis, keepdims=True)
    return x / np.where(norm == 0, np.ones_like(norm), norm)
