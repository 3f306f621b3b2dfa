"""Subtract."""

from hornbeam import ops
from hornbeam.layers.merging.base_merge import Merge


class Subtract(Merge):
    """The first of two inputs minus the second."""

    def build(self, input_shape):
        super().build(input_shape)
        if len(input_shape) != 2:
            raise ValueError(f"Subtract '{self.name}': expected 2 inputs, got {len(input_shape)}")

    def _merge_function(self, inputs):
        if len(inputs) != 2:
            raise ValueError(f"Subtract '{self.name}': expected 2 inputs, got {len(inputs)}")
        return ops.subtract(inputs[0], inputs[1])


def subtract(inputs, **kwargs):
    """`Subtract(**kwargs)(inputs)`."""
    return Subtract(**kwargs)(inputs)
