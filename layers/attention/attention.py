"""Attention."""

from hornbeam import backend, ops, random
from hornbeam.layers.layer import Layer


class Attention(Layer):
    """Dot-product attention without projections (Luong et al., 2015).

    Args:
        use_scale: whether the scores have a learned factor.
        score_mode: `"dot"`, or `"concat"` for `sum(tanh(query + key))`.
        dropout: share of attention weights dropped in training.
        seed: seed of the dropout.

    Call arguments: `inputs`, a list `[query, value]` or `[query, value, key]`, (B, T, d) and
    (B, S, d); `mask`, a list of their masks; `return_attention_scores`; `use_causal_mask`.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Attention()([keras.ops.ones((1, 2, 4)), keras.ops.ones((1, 3, 4))]).shape
    (1, 2, 4)
    """

    def __init__(self, use_scale=False, score_mode="dot", dropout=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.use_scale = use_scale
        self.score_mode = score_mode
        self.dropout = dropout
        self.seed = seed
        if dropout > 0:
            self.seed_generator = random.SeedGenerator(seed)
        if score_mode not in ("dot", "concat"):
            raise ValueError(
                f"{type(self).__name__}: `score_mode` must be 'dot' or 'concat', got {score_mode!r}"
            )
        self._supports_masking = True

    def build(self, input_shape):
        self._check(input_shape)
        self.scale = None
        self.concat_score_weight = None
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(
                name="concat_score_weight", shape=(), initializer="ones"
            )

    def _calculate_scores(self, query, key):
        """(B, T, d), (B, S, d) → (B, T, S)."""
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, -2, -1))
            return scores if self.scale is None else scores * self.scale
        both = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
        both = both if self.scale is None else self.scale * both
        return self.concat_score_weight * ops.sum(ops.tanh(both), axis=-1)

    def _is_dot_product(self, query):
        """Whether the scores are those of `ops.dot_product_attention`."""
        own = type(self)._calculate_scores is Attention._calculate_scores
        return own and self.score_mode == "dot" and len(query.shape) == 3

    def call(
        self,
        inputs,
        mask=None,
        training=False,
        return_attention_scores=False,
        use_causal_mask=False,
    ):
        self._check(inputs, mask)
        query, value = inputs[:2]
        key = inputs[2] if len(inputs) > 2 else value
        query_mask, value_mask = mask[:2] if mask else (None, None)
        allowed = None
        if value_mask is not None:
            allowed = ops.expand_dims(ops.cast(value_mask, "bool"), -2)
        if use_causal_mask:
            row = ops.reshape(ops.arange(query.shape[-2], dtype="int32"), (1, -1, 1))
            column = ops.reshape(ops.arange(key.shape[-2], dtype="int32"), (1, 1, -1))
            causal = ops.greater_equal(row, column)
            allowed = causal if allowed is None else ops.logical_and(allowed, causal)
        far = 65504.0 if query.dtype == "float16" else 1.0e9
        drops = training and self.dropout > 0
        if self._is_dot_product(query) and not drops and not return_attention_scores:
            bias = None
            if value_mask is not None:  # (B, heads: 1, T or 1, S)
                bias = ops.expand_dims(ops.cast(ops.where(allowed, 0.0, -far), query.dtype), 1)
            scaled = query if self.scale is None else query * self.scale
            q, k, v = (ops.expand_dims(x, 2) for x in (scaled, key, value))
            causal = use_causal_mask and bias is None  # every query sees a key: the far ones are 0
            outputs = ops.dot_product_attention(q, k, v, bias=bias, scale=1.0, is_causal=causal)
            outputs, weights = ops.squeeze(outputs, 2), None
        else:
            scores = self._calculate_scores(query, key)
            if allowed is not None:
                scores = ops.where(allowed, scores, scores - far)
            weights = ops.softmax(scores, axis=-1)
            if drops:
                weights = random.dropout(weights, self.dropout, seed=self.seed_generator)
            outputs = ops.matmul(weights, value)
        if query_mask is not None:
            visible = ops.expand_dims(ops.cast(query_mask, "bool"), -1)
            outputs = ops.where(visible, outputs, ops.zeros_like(outputs))
        return (outputs, weights) if return_attention_scores else outputs

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[0]

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:-1], input_shape[1][-1])

    def compute_output_spec(
        self,
        inputs,
        mask=None,
        training=False,
        return_attention_scores=False,
        use_causal_mask=False,
    ):
        self._check(inputs)
        query, value = inputs[:2]
        shape = self.compute_output_shape([query.shape, value.shape])
        outputs = backend.KerasTensor(shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return outputs
        scores = (*query.shape[:-1], value.shape[-2])
        return outputs, backend.KerasTensor(scores, dtype=self.compute_dtype)

    def _check(self, inputs, mask=None):
        name = f"{type(self).__name__} '{self.name}'"
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            raise ValueError(
                f"{name}: expected [query, value] or [query, value, key], got {inputs}"
            )
        if mask is not None and (not isinstance(mask, (list, tuple)) or len(mask) not in (2, 3)):
            raise ValueError(f"{name}: expected [query mask, value mask], got {mask}")
