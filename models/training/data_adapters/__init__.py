"""Where batches come from: arrays, generators, PyDatasets, other iterables."""

from hornbeam.models.training.data_adapters.array_adapter import ArrayAdapter as ArrayAdapter
from hornbeam.models.training.data_adapters.array_adapter import can_be_array
from hornbeam.models.training.data_adapters.array_adapter import (
    train_validation_split as train_validation_split,
)
from hornbeam.models.training.data_adapters.iterable_adapter import (
    IterableAdapter as IterableAdapter,
)
from hornbeam.models.training.data_adapters.py_dataset_adapter import (
    PyDatasetAdapter as PyDatasetAdapter,
)
from hornbeam.utils.py_dataset import PyDataset


def get_data_adapter(
    x,
    y=None,
    sample_weight=None,
    batch_size=None,
    shuffle=False,
    class_weight=None,
):
    """The adapter for `x`.

    Raises:
        ValueError: an unknown kind of data, or arguments that do not go with it.
    """
    if isinstance(x, PyDataset) or (
        hasattr(x, "__getitem__") and hasattr(x, "__len__") and hasattr(x, "on_epoch_end")
    ):
        kind = "PyDataset"
    elif can_be_array(x):
        return ArrayAdapter(x, y, sample_weight, batch_size, shuffle, class_weight)
    elif hasattr(x, "__next__"):
        kind = "generator"
    elif hasattr(x, "__iter__") and not isinstance(x, (list, tuple, dict, str, bytes)):
        kind = type(x).__name__
    else:
        hint = ""
        if isinstance(x, (list, tuple)):
            hint = ". A list stands for several inputs; make nested lists of numbers an array first"
        raise ValueError(
            "data: unknown kind of x; expected arrays (or lists or dicts of them), a PyDataset, a "
            f"generator or another iterable of batches, got {repr(x)[:80]} of type "
            f"{type(x).__name__}{hint}"
        )
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"data: with a {kind} as x, {name} must not be given; its batches hold the targets "
                "and weights: (x, y) or (x, y, sample_weight)"
            )
    if kind == "PyDataset":
        return PyDatasetAdapter(x, shuffle=shuffle, class_weight=class_weight)
    return IterableAdapter(x, class_weight=class_weight)
