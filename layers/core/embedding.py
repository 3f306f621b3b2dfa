"""Embedding."""

from hornbeam import backend, ops
from hornbeam.layers.arguments import (
    add_named_weight,
    positive_int,
    refuse,
    store_weight_arguments,
)
from hornbeam.layers.layer import Layer


class Embedding(Layer):
    """A learned vector for each integer.

    Args:
        input_dim: number of integers, which are 0 … input_dim - 1.
        output_dim: size of the vectors.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: for the vectors.
        mask_zero: 0 stands for padding and is masked.
        weights: first values, as a list of one matrix.
        lora_rank, lora_alpha, quantization_config: must be None (not supported).

    Input shape: `(batch, …)`, integers. Output shape: `(batch, …, output_dim)`.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Embedding(10, 4)(keras.ops.convert_to_tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        input_dim,
        output_dim,
        embeddings_initializer="uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero=False,
        weights=None,
        lora_rank=None,
        lora_alpha=None,
        quantization_config=None,
        **kwargs,
    ):
        input_length = kwargs.pop("input_length", None)
        super().__init__(**kwargs)
        del input_length  # Keras 2 asked for it; the length is that of the data
        refuse(self, lora_rank=lora_rank, quantization_config=quantization_config)
        self.quantization_config = None
        self.input_dim = positive_int(self, "input_dim", input_dim)
        self.output_dim = positive_int(self, "output_dim", output_dim)
        store_weight_arguments(
            self,
            embeddings_initializer=embeddings_initializer,
            embeddings_regularizer=embeddings_regularizer,
            embeddings_constraint=embeddings_constraint,
        )
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.autocast = False  # integers stay integers
        if weights is not None:
            self.build()
            self.set_weights(weights if isinstance(weights, (list, tuple)) else [weights])

    _writes_activity_regularizer = True
    _config_omit = (
        *Layer._config_omit,
        "weights",
        "lora_rank",
        "lora_alpha",
    )

    def build(self, input_shape=None):
        self.embeddings = add_named_weight(self, "embeddings", (self.input_dim, self.output_dim))
        self.embeddings.is_embedding = True  # for optimizers with lazy_embeddings

    def call(self, inputs):
        if backend.standardize_dtype(inputs.dtype) not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        outputs = ops.take(self.embeddings, inputs, axis=0)
        return ops.cast(outputs, self.compute_dtype)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.output_dim)
