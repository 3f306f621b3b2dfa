"""Wrapper."""

from hornbeam.layers.layer import Layer


class Wrapper(Layer):
    """Base class of layers around another layer.

    Args:
        layer: the other layer.
    """

    def __init__(self, layer, **kwargs):
        if not isinstance(layer, Layer):
            raise ValueError(
                f"{type(self).__name__}: expected a layer, got {layer!r} of type "
                f"{type(layer).__name__}"
            )
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape=None):
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
