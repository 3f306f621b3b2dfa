"""GRUCell."""

from hornbeam import ops
from hornbeam.layers.arguments import add_named_weight
from hornbeam.layers.rnn.recurrent_cell import RecurrentCell
from hornbeam.ops import recurrent


class GRUCell(RecurrentCell):
    """One step of a gated recurrent unit (Cho et al., 2014).

        z = sigmoid(x K_z + h U_z + b_z), r = sigmoid(x K_r + h U_r + b_r)
        h = z h + (1 - z) tanh(x K_h + r (h U_h + b_h))

    Args:
        units: size of the output.
        activation: of the candidate values.
        recurrent_activation: of the gates.
        use_bias: whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: first values.
        reset_after: the reset gate multiplies after the product with the recurrent kernel.
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
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        reset_after=True,
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
        self.reset_after = reset_after

    gates = 3

    def _build_bias(self):
        shape = (2, 3 * self.units) if self.reset_after else (3 * self.units,)
        return add_named_weight(self, "bias", shape)

    def project(self, inputs):
        z = ops.matmul(inputs, self.kernel)
        if self.bias is None:
            return z
        return ops.add(z, self.bias[0] if self.reset_after else self.bias)

    def _sequence(self, projected, states, kernel, mask, drop, **settings):
        if not self.reset_after:
            h, _ = recurrent.gru_before_sequence(projected, *states, kernel, mask, drop, **settings)
            return h, [h]
        if self.bias is None:
            bias = ops.zeros((kernel.shape[-1],), dtype=kernel.dtype)
        else:
            bias = self.bias[1]
        h, _ = recurrent.gru_sequence(projected, *states, kernel, bias, mask, drop, **settings)
        return h, [h]

    def recurrence(self):
        kernel = ops.convert_to_tensor(self.recurrent_kernel)
        bias = self.bias[1] if self.reset_after and self.bias is not None else None
        activation, gate, units = self.activation, self.recurrent_activation, self.units
        if self.reset_after:

            def step(projected, states, carried):
                x_z, x_r, x_h = ops.split(projected, 3, axis=-1)
                inner = ops.matmul(carried, kernel)
                inner = inner if bias is None else inner + bias
                h_z, h_r, h_h = ops.split(inner, 3, axis=-1)
                update = gate(x_z + h_z)
                candidate = activation(x_h + gate(x_r + h_r) * h_h)
                return [update * states[0] + (1 - update) * candidate]

            return step
        gates_kernel, candidate_kernel = kernel[:, : 2 * units], kernel[:, 2 * units :]

        def step_reset_before(projected, states, carried):
            x_z, x_r, x_h = ops.split(projected, 3, axis=-1)
            h_z, h_r = ops.split(ops.matmul(carried, gates_kernel), 2, axis=-1)
            update = gate(x_z + h_z)
            inner = ops.matmul(gate(x_r + h_r) * carried, candidate_kernel)
            return [update * states[0] + (1 - update) * activation(x_h + inner)]

        return step_reset_before
