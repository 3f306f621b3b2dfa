"""AdaptiveAveragePooling1D."""

from hornbeam.layers.pooling.base_adaptive_pooling import BaseAdaptiveAveragePooling


class AdaptiveAveragePooling1D(BaseAdaptiveAveragePooling):
    """`(batch, time, channels)` brought to a given size by means of windows.

    Args:
        output_size: the size.
        data_format: where the channels are; the global setting when None.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.AdaptiveAveragePooling1D(2)(keras.ops.ones((1, 6, 3))).shape
    (1, 2, 3)
    """

    def __init__(self, output_size, data_format=None, **kwargs):
        super().__init__(output_size, 1, data_format, **kwargs)
