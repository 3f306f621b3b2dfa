"""Dropout."""

from hornbeam import random
from hornbeam.layers.layer import Layer


class Dropout(Layer):
    """In training, sets a random share of the inputs to zero and scales the rest up.

    Args:
        rate: share of zeros, in [0, 1].
        noise_shape: shape of the random mask, which is broadcast; None for a size of the input.
        seed: seed.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Dropout(0.5)(keras.ops.ones((1, 2))).numpy().tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = check_rate(self, rate)
        self.seed = seed
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        if self.rate > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True
        self._build_at_init()

    def _noise_shape(self, inputs):
        if self.noise_shape is None:
            return None
        if len(self.noise_shape) != len(inputs.shape):
            raise ValueError(
                f"{type(self).__name__}: `noise_shape` {self.noise_shape} must have the rank of "
                f"the input, which has shape {tuple(inputs.shape)}"
            )
        return tuple(
            size if given is None else given
            for given, size in zip(self.noise_shape, inputs.shape, strict=True)
        )

    def call(self, inputs, training=False):
        if training and self.rate > 0:
            return random.dropout(
                inputs, self.rate, noise_shape=self._noise_shape(inputs), seed=self.seed_generator
            )
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


def check_rate(layer, rate, most=1):
    if not isinstance(rate, (int, float)) or not 0 <= rate <= most:
        raise ValueError(f"{type(layer).__name__}: `rate` must be in [0, {most}], got {rate!r}")
    return rate
