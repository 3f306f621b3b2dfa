"""GroupQueryAttention."""

from hornbeam import ops
from hornbeam.layers.arguments import positive_int
from hornbeam.layers.attention.multi_head_attention import MultiHeadAttention
from hornbeam.saving import serialization_lib


class GroupQueryAttention(MultiHeadAttention):
    """Attention in which several heads of the query share a head of key and value.

    (Ainslie et al., 2023.)

    Args:
        head_dim: size of each head.
        num_query_heads: number of heads of the query.
        num_key_value_heads: number of heads of key and value, a divisor of the former.
        dropout: share of attention weights dropped in training.
        use_bias: whether the projections have biases.
        sliding_window: attend only to places nearer than this.
        flash_attention: accepted; the engine chooses.
        kernel_initializer, bias_initializer: first values.
        kernel_regularizer, bias_regularizer: penalties on the weights.
        activity_regularizer: penalty on the projections.
        kernel_constraint, bias_constraint: projections of the weights.
        use_gate: multiply by a learned sigmoid gate of the query before the last projection.
        seed: seed of the dropout.

    Call arguments: as of `MultiHeadAttention`.

    Example:

    >>> import hornbeam as keras
    >>> layer = keras.layers.GroupQueryAttention(3, num_query_heads=4, num_key_value_heads=2)
    >>> x = keras.ops.ones((1, 5, 8))
    >>> layer(x, x).shape
    (1, 5, 8)
    """

    def __init__(
        self,
        head_dim,
        num_query_heads,
        num_key_value_heads,
        dropout=0.0,
        use_bias=True,
        sliding_window=None,
        flash_attention=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            num_query_heads,
            head_dim,
            dropout=dropout,
            use_bias=use_bias,
            sliding_window=sliding_window,
            flash_attention=flash_attention,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            use_gate=use_gate,
            seed=seed,
            **kwargs,
        )
        self.head_dim = head_dim
        self.num_query_heads = num_query_heads
        self.num_key_value_heads = positive_int(self, "num_key_value_heads", num_key_value_heads)
        if num_query_heads % num_key_value_heads:
            raise ValueError(
                f"GroupQueryAttention: `num_query_heads` ({num_query_heads}) must be a multiple of "
                f"`num_key_value_heads` ({num_key_value_heads})"
            )

    def _heads(self, projection):
        return self.num_key_value_heads if projection in ("key", "value") else self._num_heads

    def _share_heads(self, key, value):
        repeats = self.num_query_heads // self.num_key_value_heads
        if repeats > 1:
            key, value = ops.repeat(key, repeats, axis=2), ops.repeat(value, repeats, axis=2)
        return key, value

    def get_config(self):
        config = super().get_config()
        for name in ("num_heads", "key_dim", "value_dim", "output_shape", "attention_axes"):
            del config[name]
        for name in ("head_dim", "num_query_heads", "num_key_value_heads"):
            config[name] = serialization_lib.serialize_keras_object(getattr(self, name))
        return config

    _is_base = True
