"""GaussianDropout."""

import math

from hornbeam import ops, random
from hornbeam.layers.layer import Layer
from hornbeam.layers.regularization.dropout import check_rate


class GaussianDropout(Layer):
    """In training, multiplies by normal noise of mean 1 and variance `rate / (1 - rate)`.

    Args:
        rate: as of `Dropout`, in [0, 1).
        seed: seed.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = check_rate(self, rate)
        self.seed = seed
        if rate > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs, training=False):
        if training and self.rate > 0:
            noise = random.normal(
                inputs.shape,
                mean=1.0,
                stddev=math.sqrt(self.rate / (1.0 - self.rate)),
                dtype=self.compute_dtype,
                seed=self.seed_generator,
            )
            return ops.multiply(inputs, noise)
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape
