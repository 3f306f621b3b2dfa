"""ActivityRegularization."""

from hornbeam import regularizers
from hornbeam.layers.layer import Layer


class ActivityRegularization(Layer):
    """The inputs, with a penalty on them in the loss.

    Args:
        l1: weight of the absolute values.
        l2: weight of the squares.
    """

    def __init__(self, l1=0.0, l2=0.0, **kwargs):
        super().__init__(activity_regularizer=regularizers.L1L2(l1=l1, l2=l2), **kwargs)
        self.l1 = l1
        self.l2 = l2
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs):
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = super().get_config()
        config.pop("activity_regularizer", None)
        return config
