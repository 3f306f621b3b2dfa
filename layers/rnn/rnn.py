"""RNN: a cell applied along a sequence."""

from hornbeam import backend, ops
from hornbeam.backend import tree
from hornbeam.layers.layer import Layer
from hornbeam.layers.rnn.recurrent_cell import RecurrentCell
from hornbeam.layers.rnn.stacked_rnn_cells import (
    StackedRNNCells,
    initial_state,
    output_size,
    takes_training,
)
from hornbeam.utils import tracking


class RNN(Layer):
    """Applies a cell to the steps of a sequence, carrying its states along.

    Args:
        cell: a layer (or a list of them) with `state_size` and
            `call(inputs, states)` → `(output, states)`.
        return_sequences: return the outputs of all steps, not only the last.
        return_state: return the last state(s) too.
        go_backwards: run from the last step to the first (the outputs come in that order).
        stateful: the states of one batch are the first states of the next.
        unroll: accepted; the native loop needs no unrolling.
        zero_output_for_mask: the output of a masked step is zero instead of the step's before.

    Call arguments: `sequences` (batch, time, …), `initial_state`, `mask` (batch, time): states pass
    masked steps unchanged; `training`.

    Example:

    >>> import hornbeam as keras
    >>> layer = keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.LSTMCell(2)])
    >>> layer(keras.ops.ones((1, 3, 5))).shape
    (1, 2)
    """

    def __init__(
        self,
        cell,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        **kwargs,
    ):
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        if not hasattr(cell, "call") or not hasattr(cell, "state_size"):
            raise ValueError(
                f"{type(self).__name__}: the cell must have `call` and `state_size`, got {cell!r}"
            )
        super().__init__(**kwargs)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.supports_masking = True
        self.states = None
        size = cell.state_size
        self.state_size = [size] if isinstance(size, int) else list(size)
        self.single_state = isinstance(size, int)

    def build(self, sequences_shape, initial_state_shape=None):
        step_shape = (sequences_shape[0], *sequences_shape[2:])
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build(step_shape)
        if self.stateful and self.states is None:
            if sequences_shape[0] is None:
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': a stateful layer needs a known batch "
                    f"size, got shape {tuple(sequences_shape)}; give `batch_size` to `Input`"
                )
            self._create_states(sequences_shape[0])

    @tracking.no_automatic_dependency_tracking
    def _create_states(self, batch_size):
        # Part of the state, but not of the weights.
        with self._open_name_scope():
            self.states = tree.map_structure(
                lambda x: backend.Variable(
                    x, trainable=False, dtype=self.variable_dtype, name="rnn_state"
                ),
                self.get_initial_state(batch_size),
            )

    def get_initial_state(self, batch_size):
        """First states for a batch of this size, as a list."""
        states = initial_state(self.cell, batch_size)
        return list(states) if tree.is_nested(states) else [states]

    def reset_state(self):
        """Set the states of a stateful layer to zero."""
        for state in tree.flatten(self.states) if self.states is not None else []:
            state.assign(ops.zeros(state.shape, dtype=state.dtype))

    reset_states = reset_state

    def call(self, sequences, initial_state=None, mask=None, training=False):
        batch = sequences.shape[0]
        zero_start = initial_state is None and not self.stateful
        if initial_state is None:
            initial_state = self.states if self.stateful else self.get_initial_state(batch)
        if self.stateful:
            expected = tree.flatten(self.states)[0].shape[0]
            if batch != expected:
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': a stateful layer needs batches of one "
                    f"size; expected {expected}, got {batch}"
                )
        states = list(initial_state) if tree.is_nested(initial_state) else [initial_state]
        dtype = getattr(self.cell, "compute_dtype", self.compute_dtype)
        states = tree.map_structure(lambda x: ops.cast(ops.convert_to_tensor(x), dtype), states)
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        last, outputs, states = self._run(sequences, states, mask, zero_start, training)
        if self.stateful:
            for variable, value in zip(
                tree.flatten(self.states), tree.flatten(states), strict=True
            ):
                variable.assign(ops.cast(value, variable.dtype))
        result = outputs if self.return_sequences else last
        result = ops.cast(result, self.compute_dtype)
        return (result, *states) if self.return_state else result

    def _run(self, sequences, states, mask, zero_start, training):
        """(last output, outputs (batch, time, …) or None, last states)."""
        cell = self.cell
        batch, dtype = sequences.shape[0], sequences.dtype
        if not (isinstance(cell, RecurrentCell) and type(cell).call is RecurrentCell.call):
            # Random masks are drawn here, once: the body of a loop has no state of its own.
            cells = list(_recurrent_cells(cell))
            for c in cells:
                c._dropout_masks = c.dropout_masks(batch, dtype, training)
            extra = {"training": training} if takes_training(cell) else {}

            def step_of_cell(x, states):
                output, new = cell(x, states, **extra)
                return output, list(new) if tree.is_nested(new) else [new]

            try:
                xs = self._in_order_of_steps(sequences)
                return self._loop_over_outputs(step_of_cell, xs, states, mask)
            finally:
                for c in cells:
                    c._dropout_masks = None
        # The output of the cells of this package is their first state, so that it needs no place
        # in the loop of its own (if masked steps repeat it, from a start at zero).
        zero_output = mask is not None and self.zero_output_for_mask
        is_state = mask is None or zero_start
        with cell._open_name_scope():
            masks = cell.dropout_masks(batch, dtype, training)
            if masks[0] is not None:
                sequences = sequences * ops.expand_dims(masks[0], 1)
            whole = None
            if (is_state or zero_output) and sequences.shape[1] > 0:
                whole = cell.whole_sequence(masks[1])
            if whole is not None:
                return self._all_steps(whole, cell.project(sequences), states, mask, zero_output)
            # Rearranged before the product, whose result is larger.
            xs = cell.project(self._in_order_of_steps(sequences))
            recurrence = cell.recurrence()

        def step(x, states):
            carried = states[0] if masks[1] is None else states[0] * masks[1]
            new = recurrence(x, states, carried)
            return new[0], new

        if is_state and not zero_output:
            return self._loop_over_states(step, xs, states, mask)
        return self._loop_over_outputs(step, xs, states, mask)

    def _all_steps(self, whole, projected, states, mask, zero_output):
        """As `_run`, by one op. It reads and writes sequences as they lie in memory."""
        mask = None if mask is None else ops.cast(mask, "bool")
        outputs, states = whole(projected, states, mask, self.go_backwards)
        if zero_output:
            outputs = ops.where(ops.expand_dims(mask, -1), outputs, 0.0)
        end = 0 if self.go_backwards else -1
        last, states = outputs[:, end], [s[:, end] for s in states]
        # outputs come in the order of the steps
        return last, ops.flip(outputs, axis=1) if self.go_backwards else outputs, states

    def _in_order_of_steps(self, sequences):
        xs = _time_first(sequences)
        return ops.flip(xs, axis=0) if self.go_backwards else xs

    def _mask_of_steps(self, mask):
        return None if mask is None else self._in_order_of_steps(ops.cast(mask, "bool"))

    def _loop_over_states(self, step, xs, states, mask):
        mask = self._mask_of_steps(mask)

        def body(states, x):
            x, visible = x if mask is not None else (x, None)
            _, new = step(x, states)
            if visible is not None:
                new = _choose(visible, new, states)
            return new, new[0] if self.return_sequences else None

        states, outputs = ops.scan(body, states, xs if mask is None else (xs, mask))
        return states[0], None if outputs is None else _time_first(outputs), states

    def _loop_over_outputs(self, step, xs, states, mask):
        mask = self._mask_of_steps(mask)
        batch = xs.shape[1]
        size = output_size(self.cell)
        dtype = tree.flatten(states)[0].dtype
        first = ops.zeros((batch, size), dtype=dtype)

        def body(carry, x):
            previous, states = carry
            x, visible = x if mask is not None else (x, None)
            output, new = step(x, states)
            output = ops.cast(output, dtype)
            shown = output
            if visible is not None:
                hidden = ops.zeros_like(output) if self.zero_output_for_mask else previous
                shown = _choose(visible, output, hidden)
                output = _choose(visible, output, previous)
                new = _choose(visible, new, states)
            keep = shown if self.zero_output_for_mask else output
            return (keep, new), shown if self.return_sequences else None

        carry, outputs = ops.scan(body, (first, states), xs if mask is None else (xs, mask))
        last, states = carry
        return last, None if outputs is None else _time_first(outputs), states

    def compute_mask(self, inputs, previous_mask):
        mask = tree.flatten(previous_mask)[0]
        output_mask = mask if self.return_sequences else None
        return [output_mask] + [None] * len(self.state_size) if self.return_state else output_mask

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        batch, time = sequences_shape[0], sequences_shape[1]
        size = output_size(self.cell)
        shape = (batch, time, size) if self.return_sequences else (batch, size)
        if not self.return_state:
            return shape
        states = tree.map_structure(lambda n: (batch, n), self.state_size)
        return (shape, *states)


class CellLayer(RNN):
    """Base of the layers that make their cell themselves: its settings are theirs."""

    def __getattr__(self, name):
        cell = self.__dict__.get("cell")
        if cell is not None and not name.startswith("_") and name in cell.__dict__:
            return cell.__dict__[name]
        raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")

    _writes_activity_regularizer = True
    _config_omit = (*Layer._config_omit, "cell", "use_cudnn")


def _time_first(x):
    return ops.transpose(x, (1, 0, *range(2, len(x.shape))))


def _choose(visible, new, old):
    """`new` where `visible` (batch,), else `old`; nests of (batch, …)."""

    def choose(a, b):
        condition = ops.reshape(visible, (visible.shape[0], *(1,) * (len(a.shape) - 1)))
        return ops.where(condition, a, b)

    return tree.map_structure(choose, new, old)


def _recurrent_cells(cell):
    """The cells of this package in `cell`."""
    if isinstance(cell, RecurrentCell):
        yield cell
    for inner in getattr(cell, "cells", ()):
        yield from _recurrent_cells(inner)
