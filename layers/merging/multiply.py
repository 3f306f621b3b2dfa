"""Multiply."""

from hornbeam import ops
from hornbeam.layers.merging.base_merge import Merge


class Multiply(Merge):
    """The product of a list of inputs, element by element.

    Example:

    >>> import hornbeam as keras
    >>> one = keras.ops.ones((1, 1))
    >>> keras.layers.Multiply()([one, 2 * one]).numpy().tolist()
    [[2.0]]
    """

    def _merge_function(self, inputs):
        x = inputs[0]
        for y in inputs[1:]:
            x = ops.multiply(x, y)
        return x


def multiply(inputs, **kwargs):
    """`Multiply(**kwargs)(inputs)`."""
    return Multiply(**kwargs)(inputs)
