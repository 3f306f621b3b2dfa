"""GlobalMaxPooling2D."""

from hornbeam import ops
from hornbeam.layers.pooling.base_global_pooling import BaseGlobalPooling


class GlobalMaxPooling2D(BaseGlobalPooling):
    """The largest value of `(batch, height, width, channels)` over all places.

    Args:
        data_format: where the channels are; the global setting when None.
        keepdims: keep the axes, with size 1.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.GlobalMaxPooling2D()(keras.ops.ones((2, 4, 4, 3))).shape
    (2, 3)
    """

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(pool_dimensions=2, data_format=data_format, keepdims=keepdims, **kwargs)

    def call(self, inputs):
        return ops.max(inputs, axis=self._axes, keepdims=self.keepdims)
