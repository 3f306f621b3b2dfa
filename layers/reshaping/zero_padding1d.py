"""ZeroPadding1D."""

from hornbeam import ops
from hornbeam.layers.reshaping.base_spatial import BaseSpatial


class ZeroPadding1D(BaseSpatial):
    """Zeros around `(batch, time, channels)`.

    Args:
        padding: how many: an integer, or a pair (before, after).
        data_format: where the channels are; the global setting when None.
    """

    def __init__(self, padding=1, data_format=None, **kwargs):
        super().__init__(padding, 1, "padding", data_format, **kwargs)
        self.padding = self._pairs[0]

    def call(self, inputs):
        return ops.pad(inputs, self._all_pairs())

    def compute_output_shape(self, input_shape):
        return tuple(
            None if size is None else size + before + after
            for size, (before, after) in zip(input_shape, self._all_pairs(), strict=True)
        )
