"""TimeDistributed."""

from hornbeam import ops
from hornbeam.layers.calling import signature
from hornbeam.layers.core.wrapper import Wrapper


class TimeDistributed(Wrapper):
    """Applies a layer to every step of a sequence.

    The steps count as samples of one large batch, so the layer runs once. (A layer that computes
    over the batch, such as batch normalisation, sees all steps together.)

    Args:
        layer: the layer.

    Input shape: `(batch, time, …)`.

    Example:

    >>> import hornbeam as keras
    >>> layer = keras.layers.TimeDistributed(keras.layers.Dense(4))
    >>> layer(keras.ops.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def _step_shape(self, input_shape):
        if len(input_shape) < 3:
            raise ValueError(
                f"TimeDistributed '{self.name}': expected an input of rank 3 or more (batch, time, "
                f"…), got shape {tuple(input_shape)}"
            )
        return (input_shape[0], *input_shape[2:])

    def build(self, input_shape):
        super().build(self._step_shape(input_shape))

    def call(self, inputs, training=None, mask=None):
        self._step_shape(inputs.shape)
        batch, time = inputs.shape[:2]
        extra = {}
        parameters = signature(type(self.layer).call).parameters
        if "training" in parameters:
            extra["training"] = training
        if mask is not None:
            if tuple(mask.shape[:2]) != (batch, time):
                raise ValueError(
                    f"TimeDistributed '{self.name}': expected a mask of shape ({batch}, {time}), "
                    f"got {tuple(mask.shape)}"
                )
            if "mask" in parameters and len(mask.shape) > 2:
                extra["mask"] = ops.reshape(mask, (batch * time, *mask.shape[2:]))
        merged = ops.reshape(inputs, (batch * time, *inputs.shape[2:]))
        outputs = self.layer(merged, **extra)
        return ops.reshape(outputs, (batch, time, *outputs.shape[1:]))

    def compute_output_shape(self, input_shape):
        shape = self.layer.compute_output_shape(self._step_shape(input_shape))
        return (shape[0], input_shape[1], *shape[1:])
