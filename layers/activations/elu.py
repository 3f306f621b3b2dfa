"""ELU."""

from hornbeam import activations
from hornbeam.layers.layer import Layer


class ELU(Layer):
    """`x` where positive, else `alpha * (exp(x) - 1)`.

    Args:
        alpha: minus the value for very negative inputs.
    """

    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs):
        return activations.elu(inputs, alpha=self.alpha)

    def compute_output_shape(self, input_shape):
        return input_shape
