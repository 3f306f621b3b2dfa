"""Activation."""

from hornbeam import activations
from hornbeam.layers.layer import Layer


class Activation(Layer):
    """An activation function as a layer.

    Args:
        activation: name or callable.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Activation("relu")(keras.ops.convert_to_tensor([-1.0, 2.0])).numpy().tolist()
    [0.0, 2.0]
    """

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.activation = activations.get(activation)
        self._build_at_init()

    def call(self, inputs):
        return self.activation(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape
