"""Embedding."""

from hornbeam import backend, ops, quantizers
from hornbeam.layers.arguments import (
    positive_int,
    refuse,
    store_weight_arguments,
)
from hornbeam.layers.core.quantizable import Quantizable


class Embedding(Quantizable):
    """A learned vector for each integer.

    Args:
        input_dim: number of integers, which are 0 … input_dim - 1.
        output_dim: size of the vectors.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: for the vectors.
        mask_zero: 0 stands for padding and is masked.
        weights: first values, as a list of one matrix.
        lora_rank, lora_alpha: must be None (not supported).
        quantization_config: how `quantize` was done, in the configuration of a quantized layer.

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
        refuse(self, lora_rank=lora_rank)
        self.quantization_config = quantizers.get(quantization_config)
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

    _quantizable = "embeddings"
    _writes_activity_regularizer = True
    _config_omit = (
        *Quantizable._config_omit,
        "weights",
        "lora_rank",
        "lora_alpha",
    )

    def build(self, input_shape=None):
        self.add_quantizable_weight((self.input_dim, self.output_dim))
        self.embeddings.is_embedding = True  # for optimizers with lazy_embeddings

    def call(self, inputs):
        if backend.standardize_dtype(inputs.dtype) not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        outputs = ops.take(self.embeddings, inputs, axis=0)
        outputs = ops.cast(outputs, self.compute_dtype)
        if self._is_quantized:
            scale = ops.take(self.embeddings_scale, inputs, axis=0)
            outputs = ops.divide(outputs, ops.expand_dims(scale, axis=-1))
        return outputs

    def _weight_scale_axes(self, shape):
        return (1,)

    def _stored_scale(self, scale):
        return ops.squeeze(scale, axis=1)

    def _scale_of_weight(self, scale):
        return ops.expand_dims(scale, axis=1)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.output_dim)
