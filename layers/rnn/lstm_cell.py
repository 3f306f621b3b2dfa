"""LSTMCell."""

from hornbeam import ops
from hornbeam.layers.arguments import add_named_weight
from hornbeam.layers.rnn.recurrent_cell import RecurrentCell
from hornbeam.ops import recurrent


class LSTMCell(RecurrentCell):
    """One step of a long short-term memory (Hochreiter and Schmidhuber, 1997).

        i, f, g, o = split(x kernel + h recurrent_kernel + bias)
        c = sigmoid(f) c + sigmoid(i) tanh(g)
        h = sigmoid(o) tanh(c)

    Args:
        units: size of the output.
        activation: of the candidate values.
        recurrent_activation: of the gates.
        use_bias: whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: first values.
        unit_forget_bias: the bias of the forget gate begins at one.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: penalties.
        kernel_constraint, recurrent_constraint, bias_constraint: projections.
        dropout: share of the inputs dropped in training.
        recurrent_dropout: share of the state dropped in training.
        seed: seed of both.

    Call arguments: `inputs` (batch, features), `states`, `training`. Returns output and states.
    """

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias=True,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            units,
            use_bias,
            dropout,
            recurrent_dropout,
            seed,
            activation_functions={
                "activation": activation,
                "recurrent_activation": recurrent_activation,
            },
            weights={
                "kernel_initializer": kernel_initializer,
                "recurrent_initializer": recurrent_initializer,
                "bias_initializer": bias_initializer,
                "kernel_regularizer": kernel_regularizer,
                "recurrent_regularizer": recurrent_regularizer,
                "bias_regularizer": bias_regularizer,
                "kernel_constraint": kernel_constraint,
                "recurrent_constraint": recurrent_constraint,
                "bias_constraint": bias_constraint,
            },
            **kwargs,
        )
        self.unit_forget_bias = unit_forget_bias

    gates = 4
    states = 2

    def _build_bias(self):
        if not self.unit_forget_bias:
            return super()._build_bias()

        def initializer(shape, dtype=None):
            # Input, forget, cell and output gate; the forget gate begins open.
            start = self.bias_initializer
            parts = [
                start((self.units,), dtype=dtype),
                ops.ones((self.units,), dtype=dtype),
                start((self.units * 2,), dtype=dtype),
            ]
            return ops.concatenate(parts, axis=0)

        return add_named_weight(self, "bias", (4 * self.units,), initializer=initializer)

    def _sequence(self, projected, states, kernel, mask, drop, **settings):
        h, c, _ = recurrent.lstm_sequence(projected, *states, kernel, mask, drop, **settings)
        return h, [h, c]

    def recurrence(self):
        kernel = ops.convert_to_tensor(self.recurrent_kernel)
        activation, gate = self.activation, self.recurrent_activation

        def step(projected, states, carried):
            z = projected + ops.matmul(carried, kernel)
            i, f, g, o = ops.split(z, 4, axis=-1)
            c = gate(f) * states[1] + gate(i) * activation(g)
            return [gate(o) * activation(c), c]

        return step
