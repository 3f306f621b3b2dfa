"""Dot."""

import math

from hornbeam import ops
from hornbeam.layers.merging.base_merge import Merge


class Dot(Merge):
    """The sum over one axis of each of two inputs of their products, for each sample.

    Args:
        axes: the axis of both, or a pair.
        normalize: divide by the Euclidean norms: cosines.

    Example:

    >>> import hornbeam as keras
    >>> x, y = keras.ops.ones((1, 3, 2)), keras.ops.ones((1, 2, 5))
    >>> keras.layers.Dot(axes=(2, 1))([x, y]).shape
    (1, 3, 5)
    """

    def __init__(self, axes, normalize=False, **kwargs):
        super().__init__(**kwargs)
        pair = isinstance(axes, (list, tuple))
        if pair and (len(axes) != 2 or not all(isinstance(a, int) for a in axes)):
            raise ValueError(f"Dot: `axes` must be an integer or two, got {axes!r}")
        if not pair and not isinstance(axes, int):
            raise TypeError(f"Dot: `axes` must be an integer or two, got {axes!r}")
        self.axes = axes
        self.normalize = normalize
        self.supports_masking = True

    def _axes(self, shapes):
        axes = self.axes if isinstance(self.axes, (list, tuple)) else (self.axes,) * 2
        a, b = (axis % len(shape) for axis, shape in zip(axes, shapes, strict=True))
        sizes = shapes[0][a], shapes[1][b]
        if 0 in (a, b) or (None not in sizes and sizes[0] != sizes[1]):
            raise ValueError(
                f"Dot '{self.name}': shapes {tuple(shapes[0])} and {tuple(shapes[1])} cannot be "
                f"multiplied along the axes {axes}"
            )
        return a, b

    def build(self, input_shape):
        self._check_list(input_shape, least=2)
        if len(input_shape) != 2:
            raise ValueError(f"Dot '{self.name}': expected 2 inputs, got {len(input_shape)}")
        self._axes(input_shape)

    def call(self, inputs):
        x, y = inputs
        a, b = self._axes((x.shape, y.shape))
        if self.normalize:
            x, y = ops.normalize(x, axis=a), ops.normalize(y, axis=b)
        x = ops.moveaxis(x, a, -1)
        y = ops.moveaxis(y, b, 1)
        left, right = x.shape[1:-1], y.shape[2:]
        x = ops.reshape(x, (x.shape[0], math.prod(left), x.shape[-1]))
        y = ops.reshape(y, (y.shape[0], y.shape[1], math.prod(right)))
        return ops.reshape(ops.matmul(x, y), (x.shape[0], *(left + right or (1,))))

    def compute_output_shape(self, input_shape):
        first, second = (list(shape) for shape in input_shape)
        a, b = self._axes(input_shape)
        del first[a], second[b], second[0]
        shape = (*first, *second)
        return shape if len(shape) > 1 else (*shape, 1)

    def compute_mask(self, inputs, mask=None):
        return None


def dot(inputs, axes=-1, **kwargs):
    """`Dot(axes, **kwargs)(inputs)`."""
    return Dot(axes=axes, **kwargs)(inputs)
