"""PReLU."""

from hornbeam import ops
from hornbeam.layers.arguments import add_named_weight, store_weight_arguments
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer


class PReLU(Layer):
    """`x` where positive, else `alpha * x`, alpha learned (He et al., 2015).

    Args:
        alpha_initializer, alpha_regularizer, alpha_constraint: for the slopes.
        shared_axes: axes (from 1) along which the slope is the same; `[1, 2]` after a `Conv2D`.
    """

    def __init__(
        self,
        alpha_initializer="Zeros",
        alpha_regularizer=None,
        alpha_constraint=None,
        shared_axes=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        store_weight_arguments(
            self,
            alpha_initializer=alpha_initializer,
            alpha_regularizer=alpha_regularizer,
            alpha_constraint=alpha_constraint,
        )
        if shared_axes is not None and not isinstance(shared_axes, (list, tuple)):
            shared_axes = [shared_axes]
        self.shared_axes = shared_axes

    def build(self, input_shape):
        shape = list(input_shape[1:])
        for axis in self.shared_axes or ():
            shape[axis - 1] = 1
        self.alpha = add_named_weight(self, "alpha", tuple(shape))
        axes = {
            axis: input_shape[axis]
            for axis in range(1, len(input_shape))
            if axis not in (self.shared_axes or ())
        }
        self.input_spec = InputSpec(ndim=len(input_shape), axes=axes)

    def call(self, inputs):
        positive = ops.relu(inputs)
        return positive - self.alpha * ops.relu(-inputs)

    def compute_output_shape(self, input_shape):
        return input_shape
