"""SimpleRNNCell."""

from hornbeam import ops
from hornbeam.layers.rnn.recurrent_cell import RecurrentCell
from hornbeam.ops import recurrent


class SimpleRNNCell(RecurrentCell):
    """One step of a fully connected recurrent network.

        h = tanh(x kernel + h recurrent_kernel + bias)

    Args:
        units: size of the output.
        activation: of the state.
        use_bias: whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: first values.
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
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
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
            activation_functions={"activation": activation},
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

    def _sequence(self, projected, states, kernel, mask, drop, **settings):
        h = recurrent.simple_sequence(projected, *states, kernel, mask, drop, **settings)
        return h, [h]

    def recurrence(self):
        kernel = ops.convert_to_tensor(self.recurrent_kernel)
        activation = self.activation

        def step(projected, states, carried):
            return [activation(projected + ops.matmul(carried, kernel))]

        return step
