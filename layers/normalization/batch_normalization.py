"""BatchNormalization."""

from hornbeam import backend, ops
from hornbeam.layers.arguments import add_named_weight, store_weight_arguments
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer
from hornbeam.ops import nn


class BatchNormalization(Layer):
    """`gamma (x - mean) / sqrt(variance + epsilon) + beta` (Ioffe and Szegedy, 2015).

    In training, mean and variance are those of the batch, and the moving averages follow them by
    `average = momentum * average + (1 - momentum) * value`; in inference (and in a layer that is
    not trainable) they are the averages.

    Args:
        axis: the axis of the features.
        momentum: how slowly the averages follow.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer:
            first values.
        beta_regularizer, gamma_regularizer: penalties.
        beta_constraint, gamma_constraint: projections.
        renorm, renorm_clipping, renorm_momentum: must have their defaults (not supported).
        synchronized: must be False (there is one replica).

    Call arguments: `inputs`, `training`, and `mask` (batch, …): masked steps do not count.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.ops.convert_to_tensor([[1.0], [3.0]])
    >>> keras.layers.BatchNormalization(epsilon=0.0)(x, training=True).numpy().tolist()
    [[-1.0], [1.0]]
    """

    def __init__(
        self,
        axis=-1,
        momentum=0.99,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        renorm=False,
        renorm_clipping=None,
        renorm_momentum=0.99,
        synchronized=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if renorm or synchronized:
            raise ValueError("BatchNormalization: `renorm` and `synchronized` must be False")
        self.axis = int(axis)
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)
        self.center = center
        self.scale = scale
        store_weight_arguments(
            self,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
        )
        self.renorm = renorm
        self.renorm_clipping = renorm_clipping
        self.renorm_momentum = renorm_momentum
        self.synchronized = synchronized
        self.supports_masking = True

    def build(self, input_shape):
        check_axis(self, self.axis, input_shape)
        size = input_shape[self.axis]
        shape = (size,)
        self.gamma = add_named_weight(self, "gamma", shape, autocast=False) if self.scale else None
        self.beta = add_named_weight(self, "beta", shape, autocast=False) if self.center else None
        self.moving_mean = add_named_weight(
            self, "moving_mean", shape, trainable=False, autocast=False
        )
        self.moving_variance = add_named_weight(
            self, "moving_variance", shape, trainable=False, autocast=False
        )
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: size})
        axis = self.axis % len(input_shape)
        self._reduction_axes = [i for i in range(len(input_shape)) if i != axis]

    def call(self, inputs, training=None, mask=None):
        # Sums over a batch overflow in 16 bits.
        x = ops.cast(inputs, backend.result_type(inputs.dtype, "float32"))
        if not (training and self.trainable):
            y = self._normalize(x, self.moving_mean, self.moving_variance)
        elif mask is None:
            # 16 bits that stay 16 bits are widened by the kernel
            x = inputs if inputs.dtype == self.compute_dtype else x
            y, mean, variance = nn._batch_norm_train(
                x, self.gamma, self.beta, axis=self.axis, epsilon=self.epsilon
            )
            self._follow(mean, variance)
        else:
            mean, variance = self._masked_moments(x, mask)
            self._follow(mean, variance)
            y = self._normalize(x, mean, variance)
        return ops.cast(y, self.compute_dtype)

    def _normalize(self, x, mean, variance):
        return ops.batch_normalization(
            x,
            ops.cast(mean, x.dtype),
            ops.cast(variance, x.dtype),
            axis=self.axis,
            offset=None if self.beta is None else ops.cast(self.beta, x.dtype),
            scale=None if self.gamma is None else ops.cast(self.gamma, x.dtype),
            epsilon=self.epsilon,
        )

    def _follow(self, mean, variance):
        """Move the averages towards the statistics of a batch."""
        keep = self.momentum
        self.moving_mean.assign(self.moving_mean * keep + mean * (1.0 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1.0 - keep))

    def _masked_moments(self, x, mask):
        if len(mask.shape) != len(x.shape) - 1:
            raise ValueError(
                f"BatchNormalization '{self.name}': expected a mask of rank {len(x.shape) - 1}, "
                f"got shape {tuple(mask.shape)}"
            )
        weight = ops.broadcast_to(ops.expand_dims(ops.cast(mask, x.dtype), -1), x.shape)
        axes = tuple(self._reduction_axes)
        total = ops.sum(weight, axis=axes, keepdims=True) + backend.epsilon()
        mean = ops.sum(x * weight, axis=axes, keepdims=True) / total
        squares = ops.square(x - mean) * weight
        variance = ops.sum(squares, axis=axes, keepdims=True) / total
        return ops.squeeze(mean, axis=axes), ops.squeeze(variance, axis=axes)

    def compute_output_shape(self, input_shape):
        check_axis(self, self.axis, input_shape)
        return input_shape


def check_axis(layer, axis, shape):
    """Raise unless the axis (or each of a list) is one of an input of this shape."""
    for a in axis if isinstance(axis, (list, tuple)) else [axis]:
        if not -len(shape) <= a < len(shape):
            raise ValueError(
                f"{type(layer).__name__} '{layer.name}': axis {a} does not exist in an input of "
                f"shape {tuple(shape)}"
            )
