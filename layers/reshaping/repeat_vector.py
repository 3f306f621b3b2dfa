"""RepeatVector."""

from hornbeam import ops
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class RepeatVector(Layer):
    """`(batch, features)` → `(batch, n, features)`: the input n times.

    Args:
        n: how often.
    """

    def __init__(self, n, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(n, int):
            raise TypeError(f"RepeatVector: `n` must be an integer, got {n!r}")
        self.n = n
        self.input_spec = InputSpec(ndim=2)
        self._build_at_init()

    def call(self, inputs):
        batch, features = inputs.shape
        return ops.broadcast_to(ops.expand_dims(inputs, 1), (batch, self.n, features))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.n, input_shape[1])
