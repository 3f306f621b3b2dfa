"""StackedRNNCells."""

from hornbeam import ops
from hornbeam.backend import tree
from hornbeam.layers.calling import signature
from hornbeam.layers.layer import Layer


class StackedRNNCells(Layer):
    """Cells on top of each other as one cell.

    Args:
        cells: list of cells.
    """

    def __init__(self, cells, **kwargs):
        super().__init__(**kwargs)
        for cell in cells:
            if not hasattr(cell, "call") or not hasattr(cell, "state_size"):
                raise ValueError(
                    "StackedRNNCells: cells must have `call` and `state_size`, got "
                    f"{type(cell).__name__}"
                )
        self.cells = list(cells)

    @property
    def state_size(self):
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self):
        return output_size(self.cells[-1])

    def get_initial_state(self, batch_size=None):
        return [initial_state(cell, batch_size) for cell in self.cells]

    def build(self, input_shape):
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], output_size(cell))

    def call(self, inputs, states, training=False, **kwargs):
        new_states = []
        for cell, cell_states in zip(self.cells, states, strict=True):
            nested = tree.is_nested(cell_states)
            extra = {"training": training} if takes_training(cell) else {}
            given = list(cell_states) if nested else [cell_states]
            inputs, new = cell(inputs, given, **extra)
            if nested and not tree.is_nested(new):
                new = [new]
            elif not nested and tree.is_nested(new):
                (new,) = new
            new_states.append(new)
        return inputs, new_states


def takes_training(cell):
    return isinstance(cell, Layer) and "training" in signature(type(cell).call).parameters


def output_size(cell):
    """Size of a cell's output: its first state's, unless it says otherwise."""
    size = getattr(cell, "output_size", None)
    if size is None:
        size = cell.state_size
        while isinstance(size, (list, tuple)):
            size = size[0]
    return size


def initial_state(cell, batch_size):
    """First states of a cell: what it says, or zeros."""
    if hasattr(cell, "get_initial_state"):
        return cell.get_initial_state(batch_size=batch_size)
    dtype = getattr(cell, "compute_dtype", None)
    return tree.map_structure(
        lambda size: ops.zeros((batch_size, size), dtype=dtype), cell.state_size
    )
