"""RMSNormalization."""

from hornbeam import ops
from hornbeam.layers.layer import Layer
from hornbeam.layers.normalization.batch_normalization import check_axis


class RMSNormalization(Layer):
    """`scale x / sqrt(mean(x²) + epsilon)` (Zhang and Sennrich, 2019).

    Args:
        axis: axis, or axes, over which the mean is taken.
        epsilon: added to the mean.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.ops.convert_to_tensor([[3.0, -3.0]])
    >>> keras.layers.RMSNormalization(epsilon=0.0)(x).numpy().tolist()
    [[1.0, -1.0]]
    """

    def __init__(self, axis=-1, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape):
        check_axis(self, self.axis, input_shape)
        axes = self.axis if isinstance(self.axis, (list, tuple)) else [self.axis]
        self.axis = sorted(axes)
        shape = tuple(input_shape[axis] for axis in self.axis)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones")

    def call(self, x):
        return ops.rms_normalization(x, scale=self.scale, axis=self.axis, epsilon=self.epsilon)

    def compute_output_shape(self, input_shape):
        check_axis(self, self.axis, input_shape)
        return input_shape
