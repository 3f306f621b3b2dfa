"""Permute."""

from hornbeam import ops
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class Permute(Layer):
    """The axes in another order.

    Args:
        dims: the order of the axes, counted from 1, without the batch axis.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Permute((2, 1))(keras.ops.ones((1, 2, 3))).shape
    (1, 3, 2)
    """

    def __init__(self, dims, **kwargs):
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(dims) != list(range(1, len(dims) + 1)):
            raise ValueError(
                f"Permute: `dims` must be an order of 1 … {len(self.dims)}, got {self.dims}"
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)
        self._build_at_init()

    def call(self, inputs):
        return ops.transpose(inputs, (0, *self.dims))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(input_shape[d] for d in self.dims))
