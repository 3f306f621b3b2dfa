"""AdaptiveMaxPooling3D."""

from hornbeam.layers.pooling.base_adaptive_pooling import BaseAdaptiveMaxPooling


class AdaptiveMaxPooling3D(BaseAdaptiveMaxPooling):
    """`(batch, depth, height, width, channels)` brought to a given size by largest values of windows.

    Args:
        output_size: the size, an integer or one for each axis.
        data_format: where the channels are; the global setting when None.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.AdaptiveMaxPooling3D(2)(keras.ops.ones((1, 4, 4, 4, 3))).shape
    (1, 2, 2, 2, 3)
    """

    def __init__(self, output_size, data_format=None, **kwargs):
        super().__init__(output_size, 3, data_format, **kwargs)
