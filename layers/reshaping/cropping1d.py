"""Cropping1D."""

from hornbeam.layers.reshaping.base_spatial import BaseSpatial


class Cropping1D(BaseSpatial):
    """`(batch, time, channels)` without its edges.

    Args:
        cropping: how much: an integer, or a pair (before, after).

    Raises:
        ValueError: an input that is not larger than what is cut off.
    """

    def __init__(self, cropping=(1, 1), **kwargs):
        super().__init__(cropping, 1, "cropping", "channels_last", **kwargs)
        self.cropping = self._pairs[0]

    _config_omit = (*BaseSpatial._config_omit, "data_format")

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
                f"Cropping1D '{self.name}': cropping {self.cropping} leaves nothing of the shape "
                f"{tuple(input_shape)}"
            )
        return tuple(
            None if size is None else size - sum(pair)
            for size, pair in zip(input_shape, pairs, strict=True)
        )
