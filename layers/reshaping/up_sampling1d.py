"""UpSampling1D."""

from hornbeam import ops
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class UpSampling1D(Layer):
    """Every time step several times.

    Args:
        size: how often.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.UpSampling1D(2)(keras.ops.ones((1, 3, 4))).shape
    (1, 6, 4)
    """

    def __init__(self, size=2, **kwargs):
        super().__init__(**kwargs)
        self.size = int(size)
        self.input_spec = InputSpec(ndim=3)
        self._build_at_init()

    def call(self, inputs):
        return ops.repeat(inputs, self.size, axis=1)

    def compute_output_shape(self, input_shape):
        batch, time, features = input_shape
        return (batch, None if time is None else time * self.size, features)
