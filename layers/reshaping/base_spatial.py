"""What cropping and zero padding share."""

from hornbeam.layers.arguments import standardize_data_format
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class BaseSpatial(Layer):
    """Changes the size of the spatial axes by a pair of numbers for each.

    Args:
        amounts: an integer, n integers, or n pairs.
        rank: number n of spatial axes.
        argument: name of the argument, for messages.
        data_format: where the channels are.
    """

    def __init__(self, amounts, rank, argument, data_format, **kwargs):
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self._pairs = _pairs(self, amounts, rank, argument)
        self.input_spec = InputSpec(ndim=rank + 2)
        self._build_at_init()

    _config_omit = (*Layer._config_omit, "amounts", "rank", "argument")

    def _all_pairs(self):
        """(before, after) for every axis."""
        if self.data_format == "channels_first":
            return ((0, 0), (0, 0), *self._pairs)
        return ((0, 0), *self._pairs, (0, 0))


def _pairs(layer, amounts, rank, argument):
    given = amounts
    if isinstance(amounts, int):
        amounts = ((amounts, amounts),) * rank
    elif rank == 1:
        amounts = (tuple(amounts),)
    else:
        amounts = tuple((a, a) if isinstance(a, int) else tuple(a) for a in amounts)
    good = len(amounts) == rank and all(
        len(pair) == 2 and all(isinstance(a, int) and a >= 0 for a in pair) for pair in amounts
    )
    if not good:
        raise ValueError(
            f"{type(layer).__name__}: `{argument}` must be an integer, {rank} integers or {rank} "
            f"pairs of integers, none negative, got {given!r}"
        )
    return amounts
