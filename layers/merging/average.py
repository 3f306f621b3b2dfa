"""Average."""

from hornbeam import ops
from hornbeam.layers.merging.base_merge import Merge


class Average(Merge):
    """The mean of a list of inputs.

    Example:

    >>> import hornbeam as keras
    >>> one = keras.ops.ones((1, 1))
    >>> keras.layers.Average()([one, 2 * one]).numpy().tolist()
    [[1.5]]
    """

    def _merge_function(self, inputs):
        x = inputs[0]
        for y in inputs[1:]:
            x = ops.add(x, y)
        return x / len(inputs)


def average(inputs, **kwargs):
    """`Average(**kwargs)(inputs)`."""
    return Average(**kwargs)(inputs)
