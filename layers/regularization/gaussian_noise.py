"""GaussianNoise."""

from hornbeam import ops, random
from hornbeam.layers.layer import Layer


class GaussianNoise(Layer):
    """In training, adds normal noise of mean 0.

    Args:
        stddev: standard deviation.
        seed: seed.
    """

    def __init__(self, stddev, seed=None, **kwargs):
        super().__init__(**kwargs)
        if stddev < 0:
            raise ValueError(f"GaussianNoise: `stddev` must not be negative, got {stddev}")
        self.stddev = stddev
        self.seed = seed
        if stddev > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs, training=False):
        if training and self.stddev > 0:
            noise = random.normal(
                inputs.shape, stddev=self.stddev, dtype=self.compute_dtype, seed=self.seed_generator
            )
            return ops.add(inputs, noise)
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape
