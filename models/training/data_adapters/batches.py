"""What all adapters do to their data: plain arrays, class weights."""

import numpy as np

from hornbeam import backend
from hornbeam.backend import tree
from hornbeam.utils.batches import pack_x_y_sample_weight, unpack_x_y_sample_weight

#: dtypes of arrays that need no further look.
_AS_THEY_ARE = frozenset(map(np.dtype, ("float32", "int32", "int64", "uint8", "bool")))


def as_array(x):
    """`x` as a C-contiguous NumPy array; float64 becomes `floatx()`, other dtypes stay.

    Takes NumPy arrays, tensors of any library (by `__array__` or DLPack) and data frames.

    Raises:
        ValueError: strings, objects, complex numbers.
    """
    if type(x) is np.ndarray and x.flags.c_contiguous:
        if x.dtype in _AS_THEY_ARE:
            return x
    if hasattr(x, "detach"):  # torch: drop the gradient history
        x = x.detach()
    if hasattr(x, "to_numpy"):
        x = x.to_numpy()
        if x.ndim == 1:  # a column of a table
            x = x[:, None]
    elif hasattr(x, "toarray"):  # scipy.sparse
        x = x.toarray()
    array = np.asarray(x)
    if array.dtype == np.float64 and backend.floatx() != "float64":
        array = array.astype(backend.floatx() if backend.floatx() != "bfloat16" else "float32")
    elif array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise ValueError(
            f"data: cannot train on values of dtype {array.dtype}; expected numbers or booleans. "
            "Likely causes: text or missing values in a table, or rows of different lengths"
        )
    return np.ascontiguousarray(array).reshape(array.shape)


def as_batch(batch, class_weight=None):
    """A batch from a data set with all its leaves as arrays (hornbeam tensors stay)."""
    x, y, sample_weight = unpack_x_y_sample_weight(batch)
    x, y, sample_weight = tree.map_structure(_leaf, (x, y, sample_weight))
    if class_weight is not None:
        sample_weight = class_weights(y, sample_weight, class_weight)
    if y is None and sample_weight is None:
        return pack_x_y_sample_weight(x)
    return pack_x_y_sample_weight(x, y, sample_weight)


def _leaf(x):
    return x if x is None or isinstance(x, backend.Tensor) else as_array(x)


def class_weights(y, sample_weight, class_weight):
    """Weights of samples from weights of their classes.

    Args:
        y: integer labels (n,) or (n, 1), or one-hot (n, classes).
        class_weight: dict from class to weight; classes that are not in it weigh 1.
    """
    if not isinstance(class_weight, dict):
        raise ValueError(
            "fit: class_weight expected a dict {class: weight}, got "
            f"{class_weight!r} of type {type(class_weight).__name__}"
        )
    if sample_weight is not None:
        raise ValueError("fit: give either class_weight or sample_weight, not both")
    if y is None or tree.is_nested(y):
        raise ValueError(
            "fit: class_weight is only for models with one output and targets; got "
            f"{'no targets' if y is None else 'several targets'}. Use sample_weight"
        )
    y = np.asarray(y)
    if y.ndim > 2:
        raise ValueError(
            f"fit: class_weight needs targets of rank 1 or 2; got y of shape {y.shape}"
        )
    labels = y.argmax(axis=-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
    labels = np.rint(labels).astype(np.int64)
    found, place = np.unique(labels, return_inverse=True)
    weights = np.array([class_weight.get(int(c), 1.0) for c in found], dtype=_weight_dtype())
    return weights[place.reshape(-1)]


def _weight_dtype():
    return "float64" if backend.floatx() == "float64" else "float32"
