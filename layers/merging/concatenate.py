"""Concatenate."""

from hornbeam import ops
from hornbeam.layers.merging.base_merge import Merge


class Concatenate(Merge):
    """A list of inputs one after the other along an axis.

    Args:
        axis: the axis, not 0.

    Example:

    >>> import hornbeam as keras
    >>> one = keras.ops.ones((1, 2))
    >>> keras.layers.Concatenate()([one, one]).shape
    (1, 4)
    """

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs):
        self._check_list(inputs)
        return ops.concatenate(inputs, axis=self.axis)

    def compute_output_shape(self, input_shape):
        shapes = [tuple(shape) for shape in input_shape]
        rank = len(shapes[0])
        if any(len(shape) != rank for shape in shapes) or not -rank <= self.axis < rank:
            raise ValueError(
                f"Concatenate '{self.name}': shapes that cannot be joined on axis {self.axis}: "
                f"{shapes}"
            )
        axis = self.axis % rank
        merged = []
        for i, sizes in enumerate(zip(*shapes, strict=True)):
            if i == axis:
                merged.append(None if None in sizes else sum(sizes))
                continue
            known = set(sizes) - {None}
            if len(known) > 1:
                raise ValueError(
                    f"Concatenate '{self.name}': the inputs must agree on all axes but {axis}, "
                    f"got shapes {shapes}"
                )
            merged.append(known.pop() if known else None)
        return tuple(merged)

    def compute_mask(self, inputs, mask=None):
        if mask is None or all(m is None for m in mask):
            return None
        parts = []
        for x, m in zip(inputs, mask, strict=True):
            if m is None:
                m = ops.ones_like(x, dtype="bool")
            else:
                while len(m.shape) < len(x.shape):
                    m = ops.expand_dims(m, -1)
                m = ops.logical_and(m, ops.ones_like(x, dtype="bool"))
            parts.append(m)
        return ops.all(ops.concatenate(parts, axis=self.axis), axis=-1)


def concatenate(inputs, axis=-1, **kwargs):
    """`Concatenate(axis, **kwargs)(inputs)`."""
    return Concatenate(axis=axis, **kwargs)(inputs)
