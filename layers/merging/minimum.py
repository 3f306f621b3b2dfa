"""Minimum."""

from hornbeam import ops
from hornbeam.layers.merging.base_merge import Merge


class Minimum(Merge):
    """The smallest of a list of inputs, element by element.

    Example:

    >>> import hornbeam as keras
    >>> one = keras.ops.ones((1, 1))
    >>> keras.layers.Minimum()([one, 2 * one]).numpy().tolist()
    [[1.0]]
    """

    def _merge_function(self, inputs):
        x = inputs[0]
        for y in inputs[1:]:
            x = ops.minimum(x, y)
        return x


def minimum(inputs, **kwargs):
    """`Minimum(**kwargs)(inputs)`."""
    return Minimum(**kwargs)(inputs)
