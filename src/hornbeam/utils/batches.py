"""The three parts of a batch: inputs, targets, weights of the samples."""

from hornbeam.backend import tree


def unpack_x_y_sample_weight(data):
    """(x, y, sample_weight) of a batch given as x, (x,), (x, y) or (x, y, sample_weight).

    >>> unpack_x_y_sample_weight((1, 2))
    (1, 2, None)
    """
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            "data: a batch must be x, (x, y) or (x, y, sample_weight); got a tuple of "
            f"{len(data)} elements"
        )
    return data + (None,) * (3 - len(data))


def pack_x_y_sample_weight(x, y=None, sample_weight=None):
    """The shortest form of a batch: x (or (x,) if x is nested), (x, y), (x, y, sample_weight).

    >>> pack_x_y_sample_weight(1, 2)
    (1, 2)
    """
    if y is None:
        return (x,) if tree.is_nested(x) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)
