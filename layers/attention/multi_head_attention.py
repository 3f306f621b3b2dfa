"""MultiHeadAttention."""

import math
import string

from hornbeam import backend, constraints, initializers, ops, regularizers
from hornbeam import config as global_config
from hornbeam.layers.activations.softmax import Softmax
from hornbeam.layers.arguments import positive_int
from hornbeam.layers.calling import get_keras_mask, masks_hidden, set_keras_mask
from hornbeam.layers.core.einsum_dense import EinsumDense
from hornbeam.layers.layer import Layer
from hornbeam.layers.regularization.dropout import Dropout
from hornbeam.saving import serialization_lib


class MultiHeadAttention(Layer):
    """Scaled dot-product attention of several heads (Vaswani et al., 2017).

    Args:
        num_heads: number of heads.
        key_dim: size of each head's queries and keys.
        value_dim: size of each head's values; `key_dim` when None.
        dropout: share of attention weights dropped in training.
        use_bias: whether the projections have biases.
        output_shape: size(s) of the output; that of the query when None.
        attention_axes: axes that are attended over; all but the first and last when None.
        sliding_window: attend only to places nearer than this.
        flash_attention: accepted; the engine chooses.
        kernel_initializer, bias_initializer: first values.
        kernel_regularizer, bias_regularizer: penalties on the weights.
        activity_regularizer: penalty on the projections.
        kernel_constraint, bias_constraint: projections of the weights.
        use_gate: multiply by a learned sigmoid gate of the query before the last projection.
        seed: seed of the dropout.

    Call arguments: `query` (B, T, d), `value` (B, S, d), `key` (as value; the value when None),
    `attention_mask` (B, T, S) of booleans, `return_attention_scores`, `use_causal_mask`. Masks of
    the inputs are taken into account.

    Example:

    >>> import hornbeam as keras
    >>> layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3)
    >>> x = keras.ops.ones((1, 4, 8))
    >>> layer(x, x, use_causal_mask=True).shape
    (1, 4, 8)
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        value_dim=None,
        dropout=0.0,
        use_bias=True,
        output_shape=None,
        attention_axes=None,
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
        super().__init__(**kwargs)
        self.supports_masking = True
        self._num_heads = positive_int(self, "num_heads", num_heads)
        self._key_dim = positive_int(self, "key_dim", key_dim)
        self._value_dim = positive_int(self, "value_dim", value_dim) if value_dim else key_dim
        self._dropout = dropout
        self._use_bias = use_bias
        self._use_gate = use_gate
        if isinstance(output_shape, int):
            output_shape = (output_shape,)
        self._output_shape = tuple(output_shape) if output_shape else None
        self._flash_attention = flash_attention or global_config.is_flash_attention_enabled()
        self._kernel_initializer = initializers.get(kernel_initializer)
        self._bias_initializer = initializers.get(bias_initializer)
        self._kernel_regularizer = regularizers.get(kernel_regularizer)
        self._bias_regularizer = regularizers.get(bias_regularizer)
        self._activity_regularizer = regularizers.get(activity_regularizer)
        self._kernel_constraint = constraints.get(kernel_constraint)
        self._bias_constraint = constraints.get(bias_constraint)
        if isinstance(attention_axes, int):
            attention_axes = (attention_axes,)
        self._attention_axes = tuple(attention_axes) if attention_axes else None
        if sliding_window is not None:
            positive_int(self, "sliding_window", sliding_window)
        self._sliding_window = sliding_window
        self.seed = seed

    num_heads = property(lambda self: self._num_heads)
    key_dim = property(lambda self: self._key_dim)
    value_dim = property(lambda self: self._value_dim)
    dropout = property(lambda self: self._dropout)
    use_bias = property(lambda self: self._use_bias)
    attention_axes = property(lambda self: self._attention_axes)
    query_dense = property(lambda self: self._query_dense)
    key_dense = property(lambda self: self._key_dense)
    value_dense = property(lambda self: self._value_dense)
    output_dense = property(lambda self: self._output_dense)

    def get_config(self):
        config = Layer.get_config(self)
        for name in (
            "num_heads",
            "key_dim",
            "value_dim",
            "dropout",
            "use_bias",
            "use_gate",
            "output_shape",
            "attention_axes",
            "sliding_window",
            "kernel_initializer",
            "bias_initializer",
            "kernel_regularizer",
            "bias_regularizer",
            "activity_regularizer",
            "kernel_constraint",
            "bias_constraint",
        ):
            config[name] = serialization_lib.serialize_keras_object(getattr(self, "_" + name))
        config["seed"] = self.seed
        return config

    _is_base = True  # the arguments are attributes with an underscore: written above

    def build(self, query_shape, value_shape, key_shape=None):
        key_shape = value_shape if key_shape is None else key_shape
        if value_shape[1:-1] != key_shape[1:-1]:
            raise ValueError(
                f"MultiHeadAttention '{self.name}': value and key must have the same length, got "
                f"shapes {tuple(value_shape)} and {tuple(key_shape)}"
            )
        rank = len(query_shape)
        self._query_dense = self._projection("query", len(query_shape), self._key_dim)
        self._query_dense.build(query_shape)
        self._key_dense = self._projection("key", len(key_shape), self._key_dim)
        self._key_dense.build(key_shape)
        if self._use_gate:
            self._gate_dense = self._projection("gate", rank, self._value_dim, "sigmoid")
            self._gate_dense.build(query_shape)
        self._value_dense = self._projection("value", len(value_shape), self._value_dim)
        self._value_dense.build(value_shape)
        if self._attention_axes is None:
            self._attention_axes = tuple(range(1, rank - 1))
        else:
            self._attention_axes = tuple(a % rank for a in self._attention_axes)
        self._scores_equation, self._combine_equation = _attention_equations(
            rank + 1, self._attention_axes
        )
        n = len(self._attention_axes)
        self._softmax = Softmax(axis=tuple(range(-n, 0)), dtype=self.dtype_policy)
        self._dropout_layer = Dropout(self._dropout, dtype=self.dtype_policy, seed=self.seed)
        output_shape = self._output_shape or (query_shape[-1],)
        letters = string.ascii_lowercase
        free, bound = letters[: rank - 1], letters[rank - 1 : rank + 1]
        made = letters[rank + 1 : rank + 1 + len(output_shape)]
        self._output_dense = EinsumDense(
            f"{free}{bound},{bound}{made}->{free}{made}",
            output_shape=(None,) * (rank - 2) + output_shape,
            bias_axes=made if self._use_bias else None,
            name="attention_output",
            **self._common_arguments(),
        )
        self._output_dense.build((*query_shape[:-1], self._num_heads, self._value_dim))

    def _projection(self, name, rank, size, activation=None):
        """(…, d) → (…, heads, size)."""
        letters = string.ascii_lowercase
        free, bound, made = letters[: rank - 1], letters[rank - 1], letters[rank : rank + 2]
        return EinsumDense(
            f"{free}{bound},{bound}{made}->{free}{made}",
            output_shape=(None,) * (rank - 2) + (self._heads(name), size),
            bias_axes=made if self._use_bias else None,
            activation=activation,
            name=name,
            **self._common_arguments(),
        )

    def _heads(self, projection):
        """Number of heads of a projection."""
        return self._num_heads

    def _common_arguments(self):
        return {
            "kernel_initializer": self._kernel_initializer.clone(),
            "bias_initializer": self._bias_initializer.clone(),
            "kernel_regularizer": self._kernel_regularizer,
            "bias_regularizer": self._bias_regularizer,
            "activity_regularizer": self._activity_regularizer,
            "kernel_constraint": self._kernel_constraint,
            "bias_constraint": self._bias_constraint,
            "dtype": self.dtype_policy,
        }

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        if key is None:
            key = value
        output_mask = query_mask if query_mask is not None else get_keras_mask(query)
        causal = {}
        if use_causal_mask and self._is_plain(query, training, return_attention_scores):
            # told to the kernel, which skips what is not seen
            causal, use_causal_mask = {"is_causal": True}, False
        attention_mask = self._compute_attention_mask(
            query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask
        )
        with masks_hidden(query, key, value):  # they are in attention_mask
            gate = self._gate_dense(query) if self._use_gate else None
            query, key, value = (
                self._query_dense(query),
                self._key_dense(key),
                self._value_dense(value),
            )
        outputs, scores = self._compute_attention(
            query, key, value, attention_mask, training, return_attention_scores, **causal
        )
        if gate is not None:
            outputs = outputs * gate
        outputs = self._output_dense(outputs)
        if output_mask is not None:
            set_keras_mask(outputs, output_mask)
        return (outputs, scores) if return_attention_scores else outputs

    def _is_plain(self, query, training, return_attention_scores):
        """Whether attention will be `ops.dot_product_attention`, not a subclass's own."""
        own = type(self)._compute_attention is MultiHeadAttention._compute_attention
        drops = self._dropout > 0.0 and training
        return own and len(query.shape) == 3 and not drops and not return_attention_scores

    def _compute_attention(
        self,
        query,
        key,
        value,
        attention_mask=None,
        training=None,
        return_attention_scores=False,
        is_causal=False,
    ):
        """Attention of the projected inputs (B, T, N, H): (outputs, scores or None)."""
        if attention_mask is not None:
            n = len(self._attention_axes)
            rank = len(query.shape) + n - 1
            while len(attention_mask.shape) < rank:  # the axis of the heads
                attention_mask = ops.expand_dims(attention_mask, axis=-2 * n - 1)
        drops = self._dropout > 0.0 and training
        if len(query.shape) == 4 and not drops and not return_attention_scores:
            outputs = ops.dot_product_attention(
                query,
                key,
                value,
                mask=attention_mask,
                scale=1.0 / math.sqrt(self._key_dim),
                is_causal=is_causal,
            )
            return outputs, None
        key, value = self._share_heads(key, value)
        query = query * (1.0 / math.sqrt(self._key_dim))
        scores = ops.einsum(self._scores_equation, key, query)
        scores = self._softmax(scores, mask=attention_mask)
        weights = self._dropout_layer(scores, training=training) if drops else scores
        return ops.einsum(self._combine_equation, weights, value), scores

    def _share_heads(self, key, value):
        """Keys and values with as many heads as the query."""
        return key, value

    def _compute_attention_mask(
        self,
        query,
        value,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        use_causal_mask=False,
    ):
        """All masks together, (B, T, S) or broadcastable to it; None if there is none."""
        masks = []
        if query_mask is not None:
            masks.append(ops.expand_dims(ops.cast(query_mask, "bool"), -1))
        for mask in (value_mask, key_mask):
            if mask is not None:
                masks.append(ops.expand_dims(ops.cast(mask, "bool"), -2))
        if use_causal_mask or self._sliding_window is not None:
            row = ops.reshape(ops.arange(query.shape[1], dtype="int32"), (1, -1, 1))
            column = ops.reshape(ops.arange(value.shape[1], dtype="int32"), (1, 1, -1))
            if use_causal_mask:
                masks.append(ops.greater_equal(row, column))
            if self._sliding_window is not None:
                masks.append(ops.less(ops.absolute(row - column), self._sliding_window))
        if attention_mask is not None:
            masks.append(ops.cast(attention_mask, "bool"))
        merged = None
        for mask in masks:
            merged = mask if merged is None else ops.logical_and(merged, mask)
        return merged

    def compute_mask(self, inputs, previous_mask):
        return None  # `call` attaches the query's mask

    def compute_output_shape(self, query_shape, value_shape, key_shape=None):
        key_shape = value_shape if key_shape is None else key_shape
        if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
            raise ValueError(
                f"MultiHeadAttention '{self.name}': value and key must have the same length, got "
                f"shapes {tuple(value_shape)} and {tuple(key_shape)}"
            )
        if self._output_shape:
            return (*query_shape[:-1], *self._output_shape)
        return tuple(query_shape)

    def compute_output_spec(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        shape = self.compute_output_shape(
            query.shape, value.shape, None if key is None else key.shape
        )
        outputs = backend.KerasTensor(shape, dtype=self.compute_dtype)
        mask = query_mask if query_mask is not None else get_keras_mask(query)
        if mask is not None:
            set_keras_mask(outputs, mask)
        if not return_attention_scores:
            return outputs
        scores = (query.shape[0], self._num_heads, *query.shape[1:-1], *value.shape[1:-1])
        return outputs, backend.KerasTensor(scores, dtype=self.compute_dtype)


def _attention_equations(rank, axes):
    """Einsum equations (key, query -> scores) and (scores, value -> outputs).

    Inputs are (batch, …, attended axes, …, heads, size); scores are (batch, …, heads, attended
    axes of the query, attended axes of the key).
    """
    letters = string.ascii_lowercase
    target = letters[:rank]
    fresh = iter(letters[rank:])
    source = "".join(next(fresh) if i in axes else c for i, c in enumerate(target))
    batch = [i for i in range(rank - 1) if i not in axes]
    product = (
        "".join(target[i] for i in batch)
        + "".join(target[i] for i in axes)
        + "".join(source[i] for i in axes)
    )
    return f"{source},{target}->{product}", f"{product},{source}->{target}"
