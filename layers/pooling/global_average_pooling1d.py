"""GlobalAveragePooling1D."""

from hornbeam import ops
from hornbeam.layers.pooling.base_global_pooling import BaseGlobalPooling


class GlobalAveragePooling1D(BaseGlobalPooling):
    """The mean of `(batch, time, channels)` over all places; masked steps do not count.

    Args:
        data_format: where the channels are; the global setting when None.
        keepdims: keep the axes, with size 1.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.GlobalAveragePooling1D()(keras.ops.ones((2, 4, 3))).shape
    (2, 3)
    """

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(pool_dimensions=1, data_format=data_format, keepdims=keepdims, **kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        axis = self._axes[0]
        if mask is None:
            return ops.mean(inputs, axis=axis, keepdims=self.keepdims)
        mask = ops.expand_dims(ops.cast(mask, inputs.dtype), 2 if axis == 1 else 1)
        total = ops.sum(inputs * mask, axis=axis, keepdims=self.keepdims)
        return total / ops.sum(mask, axis=axis, keepdims=self.keepdims)

    def compute_mask(self, inputs, mask=None):
        return None
