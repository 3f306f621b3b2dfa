"""GRU."""

from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.rnn.gru_cell import GRUCell
from hornbeam.layers.rnn.rnn import CellLayer


class GRU(CellLayer):
    """A gated recurrent unit (Cho et al., 2014) over a sequence.

        z = sigmoid(x K_z + h U_z + b_z), r = sigmoid(x K_r + h U_r + b_r)
        h = z h + (1 - z) tanh(x K_h + r (h U_h + b_h))

    The inputs of all steps are projected by one matrix product; the loop holds one more.

    Args:
        units: size of the output.
        activation: of the candidate values.
        recurrent_activation: of the gates.
        use_bias: whether there is a bias.
        kernel_initializer, recurrent_initializer, bias_initializer: first values.
        reset_after: the reset gate multiplies after the product with the recurrent kernel.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: penalties.
        activity_regularizer: penalty on the output.
        kernel_constraint, recurrent_constraint, bias_constraint: projections.
        dropout: share of the inputs dropped in training.
        recurrent_dropout: share of the state dropped in training.
        seed: seed of both.
        return_sequences: return the outputs of all steps, not only the last.
        return_state: return the last state(s) too.
        go_backwards: run from the last step to the first (the outputs come in that order).
        stateful: the states of one batch are the first states of the next.
        unroll: accepted; the native loop needs no unrolling.
        use_cudnn: accepted; the engine chooses.

    Call arguments: `sequences` (batch, time, features), `initial_state`, `mask` (batch, time),
    `training`.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.GRU(4)(keras.ops.ones((2, 5, 3))).shape
    (2, 4)
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
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        reset_after=True,
        use_cudnn="auto",
        **kwargs,
    ):
        kwargs.pop("implementation", None)
        cell = GRUCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            reset_after=reset_after,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="gru_cell",
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.use_cudnn = use_cudnn
        self.input_spec = InputSpec(ndim=3)
