"""GroupNormalization."""

import math

from hornbeam import backend, ops
from hornbeam.layers.arguments import add_named_weight, store_weight_arguments
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer
from hornbeam.layers.normalization.batch_normalization import check_axis


class GroupNormalization(Layer):
    """`gamma (x - mean) / sqrt(variance + epsilon) + beta` over groups of channels of each sample.

    (Wu and He, 2018.)

    Args:
        groups: number of groups; -1 for one for each channel.
        axis: the axis of the channels.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.
        beta_initializer, gamma_initializer: first values.
        beta_regularizer, gamma_regularizer: penalties.
        beta_constraint, gamma_constraint: projections.
    """

    def __init__(
        self,
        groups=32,
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
        super().__init__(**kwargs)
        self.groups = groups
        self.axis = axis
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
        channels = input_shape[self.axis]
        if channels is None:
            raise ValueError(
                f"GroupNormalization '{self.name}': the size of axis {self.axis} must be known, "
                f"got shape {tuple(input_shape)}"
            )
        if self.groups == -1:
            self.groups = channels
        if channels % self.groups:
            raise ValueError(
                f"GroupNormalization '{self.name}': {channels} channels cannot be split into "
                f"{self.groups} groups"
            )
        shape = (channels,)
        self.gamma = add_named_weight(self, "gamma", shape, autocast=False) if self.scale else None
        self.beta = add_named_weight(self, "beta", shape, autocast=False) if self.center else None
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs):
        dtype = backend.result_type(inputs.dtype, "float32")  # sums overflow in 16 bits
        rank, axis = len(inputs.shape), self.axis % len(inputs.shape)
        channels = inputs.shape[axis]
        # (batch, groups, all the rest)
        x = ops.moveaxis(ops.cast(inputs, dtype), axis, 1)
        moved = x.shape
        rest = math.prod(moved[2:]) * (channels // self.groups)
        x = ops.reshape(x, (moved[0], self.groups, rest))
        mean, variance = ops.moments(x, axes=[2], keepdims=True)
        x = (x - mean) * ops.rsqrt(variance + self.epsilon)
        x = ops.reshape(x, moved)
        shape = (1, channels, *(1,) * (rank - 2))
        if self.gamma is not None:
            x = x * ops.cast(ops.reshape(self.gamma, shape), dtype)
        if self.beta is not None:
            x = x + ops.cast(ops.reshape(self.beta, shape), dtype)
        return ops.cast(ops.moveaxis(x, 1, axis), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        check_axis(self, self.axis, input_shape)
        return input_shape
