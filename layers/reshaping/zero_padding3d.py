"""ZeroPadding3D."""

from hornbeam import ops
from hornbeam.layers.reshaping.base_spatial import BaseSpatial


class ZeroPadding3D(BaseSpatial):
    """Zeros around `(batch, depth, height, width, channels)`.

    Args:
        padding: how many: an integer, or 3 integers, or 3 pairs (before, after).
        data_format: where the channels are; the global setting when None.
    """

    def __init__(self, padding=((1, 1), (1, 1), (1, 1)), data_format=None, **kwargs):
        super().__init__(padding, 3, "padding", data_format, **kwargs)
        self.padding = self._pairs

    def call(self, inputs):
        return ops.pad(inputs, self._all_pairs())

    def compute_output_shape(self, input_shape):
        return tuple(
            None if size is None else size + before + after
            for size, (before, after) in zip(input_shape, self._all_pairs(), strict=True)
        )
