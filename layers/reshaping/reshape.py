"""Reshape."""

import math

from hornbeam import ops
from hornbeam.layers.layer import Layer


class Reshape(Layer):
    """The same values in another shape.

    Args:
        target_shape: shape without the batch axis; one size may be -1.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Reshape((2, -1))(keras.ops.ones((3, 8))).shape
    (3, 2, 4)
    """

    def __init__(self, target_shape, **kwargs):
        super().__init__(**kwargs)
        target_shape = (target_shape,) if isinstance(target_shape, int) else tuple(target_shape)
        if sum(d == -1 for d in target_shape) > 1 or any(d < -1 for d in target_shape):
            raise ValueError(f"Reshape: at most one size may be -1, got {target_shape}")
        self.target_shape = target_shape
        self._build_at_init()

    def _resolve(self, shape):
        known = math.prod(d for d in self.target_shape if d != -1)
        if None in shape:
            if -1 in self.target_shape:
                return tuple(None if d == -1 else d for d in self.target_shape)
            return self.target_shape
        size = math.prod(shape)
        fits = size % known == 0 if -1 in self.target_shape and known else size == known
        if not fits:
            raise ValueError(
                f"Reshape '{self.name}': {size} values per sample (shape {tuple(shape)}) do not "
                f"fit into the shape {self.target_shape}"
            )
        return tuple(size // known if d == -1 else d for d in self.target_shape)

    def call(self, inputs):
        return ops.reshape(inputs, (inputs.shape[0], *self._resolve(inputs.shape[1:])))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self._resolve(input_shape[1:]))
