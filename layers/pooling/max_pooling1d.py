"""MaxPooling1D."""

from hornbeam.layers.pooling.base_pooling import MaxPooling


class MaxPooling1D(MaxPooling):
    """The largest value of each window of `(batch, time, channels)`.

    Args:
        pool_size: size of the window.
        strides: distance of the windows; the pool size when None.
        padding: `"valid"`, or `"same"` for an output of size `ceil(size / stride)`.
        data_format: where the channels are; the global setting when None.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.MaxPooling1D(2)(keras.ops.ones((1, 4, 3))).shape
    (1, 2, 3)
    """

    def __init__(
        self,
        pool_size=2,
        strides=None,
        padding="valid",
        data_format=None,
        name=None,
        **kwargs,
    ):
        super().__init__(
            pool_size,
            strides,
            pool_dimensions=1,
            padding=padding,
            data_format=data_format,
            name=name,
            **kwargs,
        )
