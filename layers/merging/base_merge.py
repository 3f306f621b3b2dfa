"""Merge: what the layers that combine a list of inputs share."""

from hornbeam import ops
from hornbeam.layers.layer import Layer


class Merge(Layer):
    """Combines a list of inputs element by element, with broadcasting.

    Inputs of lower rank get axes of size 1 after the batch axis.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def _merge_function(self, inputs):
        raise NotImplementedError

    def _check_list(self, inputs, least=1):
        if not isinstance(inputs, (list, tuple)) or len(inputs) < least:
            what = f"{len(inputs)} inputs" if isinstance(inputs, (list, tuple)) else repr(inputs)
            raise ValueError(
                f"{type(self).__name__} '{self.name}': expected a list of at least {least} "
                f"inputs, got {what}"
            )

    def build(self, input_shape):
        self._check_list(input_shape)
        if not all(shape is None or isinstance(shape, (list, tuple)) for shape in input_shape):
            raise ValueError(
                f"{type(self).__name__} '{self.name}': expected a list of inputs, got a single one "
                f"of shape {tuple(input_shape)}"
            )
        self.compute_output_shape(input_shape)

    def call(self, inputs):
        self._check_list(inputs)
        rank = max(len(x.shape) for x in inputs)
        equal = []
        for x in inputs:
            for _ in range(rank - len(x.shape)):
                x = ops.expand_dims(x, axis=1)
            equal.append(x)
        return self._merge_function(equal)

    def compute_output_shape(self, input_shape):
        batch = {shape[0] for shape in input_shape} - {None}
        if len(batch) > 1:
            raise ValueError(
                f"{type(self).__name__} '{self.name}': the inputs differ in batch size: "
                f"{[tuple(s) for s in input_shape]}"
            )
        rank = max(len(shape) for shape in input_shape)
        rows = [(1,) * (rank - len(shape)) + tuple(shape[1:]) for shape in input_shape]
        merged = []
        for sizes in zip(*rows, strict=True):
            known = {s for s in sizes if s not in (None, 1)}
            if len(known) > 1:
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': shapes that do not fit each other: "
                    f"{[tuple(s) for s in input_shape]}"
                )
            merged.append(
                known.pop() if known and None not in sizes else None if None in sizes else 1
            )
        return (batch.pop() if batch else None, *merged)

    def compute_mask(self, inputs, mask=None):
        if mask is None or any(m is None for m in mask):
            return None
        if not isinstance(mask, (tuple, list)) or len(mask) != len(inputs):
            raise ValueError(
                f"{type(self).__name__} '{self.name}': expected {len(inputs)} masks, got {mask}"
            )
        merged = mask[0]
        for m in mask[1:]:
            merged = ops.logical_or(merged, m)
        return merged
