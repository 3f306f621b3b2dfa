"""Add."""

from hornbeam import ops
from hornbeam.layers.merging.base_merge import Merge


class Add(Merge):
    """The sum of a list of inputs.

    Example:

    >>> import hornbeam as keras
    >>> one = keras.ops.ones((1, 1))
    >>> keras.layers.Add()([one, 2 * one]).numpy().tolist()
    [[3.0]]
    """

    def _merge_function(self, inputs):
        x = inputs[0]
        for y in inputs[1:]:
            x = ops.add(x, y)
        return x


def add(inputs, **kwargs):
    """`Add(**kwargs)(inputs)`."""
    return Add(**kwargs)(inputs)
