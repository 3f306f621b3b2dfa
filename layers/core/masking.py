"""Masking."""

from hornbeam import ops
from hornbeam.layers.calling import set_keras_mask
from hornbeam.layers.layer import Layer


class Masking(Layer):
    """Masks the time steps at which all features have a given value.

    Args:
        mask_value: the value.

    Input shape: `(batch, time, features)`; the output has the masked steps at zero.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.ops.convert_to_tensor([[[1.0, 0.0], [0.0, 0.0]]])
    >>> keras.layers.Masking()(x)._keras_mask.numpy().tolist()
    [[True, False]]
    """

    def __init__(self, mask_value=0.0, **kwargs):
        super().__init__(**kwargs)
        if isinstance(mask_value, dict) and mask_value.get("class_name") == "__numpy__":
            mask_value = mask_value["config"]["value"]
        self.mask_value = mask_value
        self.supports_masking = True
        self._build_at_init()

    def compute_mask(self, inputs, mask=None):
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs):
        mask = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        outputs = inputs * ops.cast(mask, inputs.dtype)
        set_keras_mask(outputs, ops.squeeze(mask, axis=-1))
        return outputs

    def compute_output_shape(self, input_shape):
        return input_shape
