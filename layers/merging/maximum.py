"""Maximum."""

from hornbeam import ops
from hornbeam.layers.merging.base_merge import Merge


class Maximum(Merge):
    """The largest of a list of inputs, element by element.

    Example:

    >>> import hornbeam as keras
    >>> one = keras.ops.ones((1, 1))
    >>> keras.layers.Maximum()([one, 2 * one]).numpy().tolist()
    [[2.0]]
    """

    def _merge_function(self, inputs):
        x = inputs[0]
        for y in inputs[1:]:
            x = ops.maximum(x, y)
        return x


def maximum(inputs, **kwargs):
    """`Maximum(**kwargs)(inputs)`."""
    return Maximum(**kwargs)(inputs)
