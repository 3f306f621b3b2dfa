"""AdditiveAttention."""

from hornbeam import ops
from hornbeam.layers.attention.attention import Attention


class AdditiveAttention(Attention):
    """Attention with the scores `sum(scale * tanh(query + key))` (Bahdanau et al., 2014).

    Args:
        use_scale: whether the sum has learned weights.
        dropout: share of attention weights dropped in training.

    Call arguments: as of `Attention`.
    """

    def __init__(self, use_scale=True, dropout=0.0, **kwargs):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    _config_omit = (*Attention._config_omit, "score_mode")

    def build(self, input_shape):
        self._check(input_shape)
        self.scale = None
        if self.use_scale:
            size = input_shape[0][-1]
            self.scale = self.add_weight(name="scale", shape=(size,), initializer="glorot_uniform")

    def _calculate_scores(self, query, key):
        both = ops.tanh(ops.expand_dims(query, -2) + ops.expand_dims(key, -3))
        return ops.sum(both if self.scale is None else self.scale * both, axis=-1)
