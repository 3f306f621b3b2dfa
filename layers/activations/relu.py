"""ReLU."""

from hornbeam import activations
from hornbeam.layers.layer import Layer


class ReLU(Layer):
    """`max(x, 0)` and its variants.

    Args:
        max_value: upper bound, or None.
        negative_slope: slope below the threshold.
        threshold: values below it are dampened.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.ReLU()(keras.ops.convert_to_tensor([-1.0, 2.0])).numpy().tolist()
    [0.0, 2.0]
    """

    def __init__(self, max_value=None, negative_slope=0.0, threshold=0.0, **kwargs):
        super().__init__(**kwargs)
        for name, value in (
            ("max_value", 0.0 if max_value is None else max_value),
            ("negative_slope", negative_slope),
            ("threshold", threshold),
        ):
            if value is None or value < 0.0:
                raise ValueError(f"ReLU: `{name}` must not be negative, got {value}")
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs):
        return activations.relu(
            inputs,
            negative_slope=self.negative_slope,
            max_value=self.max_value,
            threshold=self.threshold,
        )

    def compute_output_shape(self, input_shape):
        return input_shape
