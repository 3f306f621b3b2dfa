"""Cropping2D."""

from hornbeam.layers.reshaping.base_spatial import BaseSpatial


class Cropping2D(BaseSpatial):
    """`(batch, height, width, channels)` without its edges.

    Args:
        cropping: how much: an integer, or 2 integers, or 2 pairs (before, after).
        data_format: where the channels are; the global setting when None.

    Raises:
        ValueError: an input that is not larger than what is cut off.
    """

    def __init__(self, cropping=((0, 0), (0, 0)), data_format=None, **kwargs):
        super().__init__(cropping, 2, "cropping", data_format, **kwargs)
        self.cropping = self._pairs

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)
        return inputs[
            tuple(
                slice(before, size - after)
                for size, (before, after) in zip(inputs.shape, self._all_pairs(), strict=True)
            )
        ]

    def compute_output_shape(self, input_shape):
        pairs = self._all_pairs()
        if any(
            size is not None and size <= sum(pair)
            for size, pair in zip(input_shape, pairs, strict=True)
        ):
            raise ValueError(
                f"Cropping2D '{self.name}': cropping {self.cropping} leaves nothing of the shape "
                f"{tuple(input_shape)}"
            )
        return tuple(
            None if size is None else size - sum(pair)
            for size, pair in zip(input_shape, pairs, strict=True)
        )
