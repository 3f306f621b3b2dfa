"""RecurrentCell: what the cells of SimpleRNN, LSTM and GRU share."""

from hornbeam import activations, ops, random
from hornbeam.backend import tree
from hornbeam.layers.arguments import add_named_weight, positive_int, store_weight_arguments
from hornbeam.layers.layer import Layer
from hornbeam.ops import recurrent

_ACTIVATIONS = ("activation", "recurrent_activation")
_FUNCTIONS = {getattr(activations, name): name for name in recurrent.FUNCTIONS}


class RecurrentCell(Layer):
    """One time step, in two halves: a projection of the input, which does not depend on the state,
    and the recurrence, which does.

    So a layer can project a whole sequence by one matrix product and only loop over the recurrence.

    Args:
        units: size of the output and of each state.
        use_bias: whether there is a bias.
        dropout: share of the inputs dropped in training, the same ones at every step.
        recurrent_dropout: share of the state dropped before its projection, likewise.
        seed: seed of both.
        activations: activations by name.
        weights: initializers, regularizers and constraints by name.
    """

    gates = 1
    states = 1

    def __init__(
        self,
        units,
        use_bias,
        dropout,
        recurrent_dropout,
        seed,
        activation_functions,
        weights,
        **kwargs,
    ):
        kwargs.pop("implementation", None)  # Keras 2: how to split the products
        super().__init__(**kwargs)
        self.units = positive_int(self, "units", units)
        for name, value in activation_functions.items():
            setattr(self, name, activations.get(value))
        self.use_bias = use_bias
        store_weight_arguments(self, **weights)
        self.dropout = min(1.0, max(0.0, dropout))
        self.recurrent_dropout = min(1.0, max(0.0, recurrent_dropout))
        self.seed = seed
        self.seed_generator = random.SeedGenerator(seed)
        self.state_size = units if self.states == 1 else [units] * self.states
        self.output_size = units
        self._dropout_masks = None

    _config_omit = (*Layer._config_omit, "activation_functions", "weights")

    def build(self, input_shape):
        size = self.gates * self.units
        self.kernel = add_named_weight(self, "kernel", (input_shape[-1], size))
        # The arguments are called `recurrent_initializer` and so on, the variable otherwise.
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.units, size),
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.bias = self._build_bias() if self.use_bias else None

    def _build_bias(self):
        return add_named_weight(self, "bias", (self.gates * self.units,))

    def project(self, inputs):
        """(…, features) → (…, gates * units): the part of a step without the state."""
        z = ops.matmul(inputs, self.kernel)
        return z if self.bias is None else ops.add(z, self.bias)

    def recurrence(self):
        """The other part: a function `(projected input, states, state to project)` → new states.

        The state to project is the first one, with dropout. The weights are read once, here.
        """
        raise NotImplementedError

    def whole_sequence(self, drop):
        """A function of all steps at once, or None where a loop over the steps is needed.

        It takes `(projected, states, mask, reverse)` with sequences as (batch, time, …) and returns
        outputs and states after every step. `drop` scales the state before its projection.
        """
        names = [_FUNCTIONS.get(getattr(self, name, None), "") for name in _ACTIVATIONS]
        if not hasattr(self, "recurrent_activation"):  # no gates
            names[1] = "sigmoid"
        if not all(names):
            return None
        kernel = ops.convert_to_tensor(self.recurrent_kernel)
        settings = dict(zip(_ACTIVATIONS, names, strict=True))

        def run(projected, states, mask, reverse):
            return self._sequence(
                projected, states, kernel, mask, drop, batch_first=True, reverse=reverse, **settings
            )

        return run

    def _sequence(self, projected, states, kernel, mask, drop, **settings):
        raise NotImplementedError

    def dropout_masks(self, batch, dtype, training):
        """(mask of the inputs, mask of the state), each (batch, n) or None."""
        if not training:
            return None, None
        return tuple(
            random.dropout(ops.ones((batch, size), dtype=dtype), rate, seed=self.seed_generator)
            if rate > 0
            else None
            for rate, size in (
                (self.dropout, self.kernel.shape[0]),
                (self.recurrent_dropout, self.units),
            )
        )

    def call(self, inputs, states, training=False):
        nested = tree.is_nested(states)
        states = list(states) if nested else [states]
        masks = self._dropout_masks
        if masks is None:
            masks = self.dropout_masks(inputs.shape[0], inputs.dtype, training)
        if masks[0] is not None:
            inputs = inputs * masks[0]
        carried = states[0] if masks[1] is None else states[0] * masks[1]
        new = self.recurrence()(self.project(inputs), states, carried)
        return new[0], new if nested else new[0]

    def compute_output_shape(self, input_shape, states_shape=None):
        shape = (input_shape[0], self.units)
        return shape, [shape] * self.states

    def get_initial_state(self, batch_size=None):
        """States of zeros."""
        shape = (batch_size, self.units)
        return [ops.zeros(shape, dtype=self.compute_dtype) for _ in range(self.states)]
