"""LeakyReLU."""

from hornbeam import activations
from hornbeam.layers.layer import Layer


class LeakyReLU(Layer):
    """`x` where positive, else `negative_slope * x`.

    Args:
        negative_slope: slope for negative values.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.ops.convert_to_tensor([-2.0, 2.0])
    >>> keras.layers.LeakyReLU(negative_slope=0.5)(x).numpy().tolist()
    [-1.0, 2.0]
    """

    def __init__(self, negative_slope=0.3, **kwargs):
        # The name of the argument in models of Keras 2.
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        if negative_slope is None or negative_slope < 0:
            raise ValueError(
                f"LeakyReLU: `negative_slope` must not be negative, got {negative_slope}"
            )
        self.negative_slope = negative_slope
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs):
        return activations.leaky_relu(inputs, negative_slope=self.negative_slope)

    def compute_output_shape(self, input_shape):
        return input_shape
