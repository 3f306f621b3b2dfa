"""AlphaDropout."""

from hornbeam import ops, random
from hornbeam.layers.layer import Layer
from hornbeam.layers.regularization.dropout import check_rate

# The value of `selu` for very negative inputs.
_SELU_FLOOR = -1.6732632423543772 * 1.0507009873554805


class AlphaDropout(Layer):
    """Dropout after `selu`: keeps mean 0 and variance 1 (Klambauer et al., 2017).

    Args:
        rate: share of inputs that are set to selu's lowest value, in [0, 1].
        noise_shape: shape of the random mask, which is broadcast.
        seed: seed.
    """

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = check_rate(self, rate)
        self.seed = seed
        self.noise_shape = noise_shape
        if rate > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        shape = inputs.shape
        if self.noise_shape is not None:
            shape = tuple(
                s if n is None else n for n, s in zip(self.noise_shape, shape, strict=True)
            )
        keep = ops.greater_equal(random.uniform(shape, seed=self.seed_generator), self.rate)
        keep = ops.cast(keep, inputs.dtype)
        # x -> scale * x + shift brings mean and variance back to what they were.
        scale = ((1 - self.rate) * (1 + self.rate * _SELU_FLOOR**2)) ** -0.5
        shift = -scale * _SELU_FLOOR * self.rate
        return scale * (inputs * keep + _SELU_FLOOR * (1 - keep)) + shift

    def compute_output_shape(self, input_shape):
        return input_shape
