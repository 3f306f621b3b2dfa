"""UnitNormalization."""

from hornbeam import ops
from hornbeam.layers.layer import Layer


class UnitNormalization(Layer):
    """The input divided by its Euclidean norm.

    Args:
        axis: axis, or axes, over which the norm is taken.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.ops.convert_to_tensor([[0.0, 2.0]])
    >>> keras.layers.UnitNormalization()(x).numpy().tolist()
    [[0.0, 1.0]]
    """

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(axis, (int, list, tuple)):
            raise TypeError(
                f"UnitNormalization: `axis` must be an integer or a list of them, got {axis!r}"
            )
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs):
        axis = tuple(self.axis) if isinstance(self.axis, list) else self.axis
        squares = ops.sum(ops.square(inputs), axis=axis, keepdims=True)
        return inputs * ops.rsqrt(ops.maximum(squares, 1e-12))

    def compute_output_shape(self, input_shape):
        return input_shape
