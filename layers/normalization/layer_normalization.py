"""LayerNormalization."""

from hornbeam import ops
from hornbeam.layers.arguments import add_named_weight, store_weight_arguments
from hornbeam.layers.layer import Layer
from hornbeam.layers.normalization.batch_normalization import check_axis


class LayerNormalization(Layer):
    """`gamma (x - mean) / sqrt(variance + epsilon) + beta`, mean and variance of each sample.

    (Ba et al., 2016.)

    Args:
        axis: axis, or axes, over which mean and variance are taken.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.
        beta_initializer, gamma_initializer: first values.
        beta_regularizer, gamma_regularizer: penalties.
        beta_constraint, gamma_constraint: projections.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.ops.convert_to_tensor([[1.0, 3.0]])
    >>> keras.layers.LayerNormalization(epsilon=0.0)(x).numpy().tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self,
        axis=-1,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        if kwargs.pop("rms_scaling", False):  # Keras writes it, deprecated, into every config
            raise ValueError(
                "LayerNormalization: rms_scaling=True is not supported; use RMSNormalization"
            )
        super().__init__(**kwargs)
        if isinstance(axis, (list, tuple)):
            self.axis = list(axis)
        elif isinstance(axis, int):
            self.axis = axis
        else:
            raise TypeError(
                f"LayerNormalization: `axis` must be an integer or a list of them, got {axis!r}"
            )
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        store_weight_arguments(
            self,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
        )
        self.supports_masking = True

    def build(self, input_shape):
        check_axis(self, self.axis, input_shape)
        # Keras writes the axis as a list from here on.
        self.axis = sorted(self.axis) if isinstance(self.axis, list) else [self.axis]
        shape = tuple(input_shape[axis] for axis in self.axis)
        self.gamma = add_named_weight(self, "gamma", shape, autocast=False) if self.scale else None
        self.beta = add_named_weight(self, "beta", shape, autocast=False) if self.center else None

    def call(self, inputs):
        outputs = ops.layer_normalization(
            inputs, self.gamma, self.beta, axis=self.axis, epsilon=self.epsilon
        )
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        check_axis(self, self.axis, input_shape)
        return input_shape
