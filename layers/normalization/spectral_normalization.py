"""SpectralNormalization."""

from hornbeam import initializers, ops
from hornbeam.layers.core.wrapper import Wrapper
from hornbeam.layers.input_spec import InputSpec


class SpectralNormalization(Wrapper):
    """Divides the kernel of a layer by its largest singular value at every training step.

    (Miyato et al., 2018.) The singular value is followed by power iteration.

    Args:
        layer: a layer with `kernel` or `embeddings`.
        power_iterations: iterations at each step.
    """

    def __init__(self, layer, power_iterations=1, **kwargs):
        super().__init__(layer, **kwargs)
        if power_iterations <= 0:
            raise ValueError(
                f"SpectralNormalization: `power_iterations` must be positive, got {power_iterations}"
            )
        self.power_iterations = power_iterations

    def build(self, input_shape):
        super().build(input_shape)
        self.input_spec = InputSpec(min_ndim=1, axes={-1: input_shape[-1]})
        kernel = getattr(self.layer, "kernel", None)
        self.kernel = self.layer.embeddings if kernel is None else kernel
        self.vector_u = self.add_weight(
            shape=(1, self.kernel.shape[-1]),
            initializer=initializers.TruncatedNormal(stddev=0.02),
            trainable=False,
            name="vector_u",
            dtype=self.kernel.dtype,
        )

    def call(self, inputs, training=False):
        if training:
            vector_u, kernel = self.normalized_weights()
            self.vector_u.assign(vector_u)
            self.kernel.assign(kernel)
        return ops.cast(self.layer(inputs), inputs.dtype)

    def normalized_weights(self):
        """(new u, the kernel divided by its largest singular value)."""
        kernel = ops.convert_to_tensor(self.kernel)
        matrix = ops.reshape(kernel, (-1, kernel.shape[-1]))
        u = ops.convert_to_tensor(self.vector_u)
        for _ in range(self.power_iterations):
            v = _unit(ops.matmul(u, ops.transpose(matrix)))
            u = _unit(ops.matmul(v, matrix))
        u, v = ops.stop_gradient(u), ops.stop_gradient(v)
        sigma = ops.reshape(ops.matmul(ops.matmul(v, matrix), ops.transpose(u)), ())
        # A kernel of zeros has no direction, and stays.
        sigma = ops.where(ops.equal(sigma, 0.0), ops.ones_like(sigma), sigma)
        return u, kernel / sigma

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


def _unit(x):
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x)), 1e-12))
