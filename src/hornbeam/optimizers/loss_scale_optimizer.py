"""Dynamic loss scaling for float16 (Micikevicius et al. 2018)."""

from hornbeam import initializers, ops
from hornbeam.optimizers import optimizer
from hornbeam.saving import serialization_lib
from hornbeam.utils import state

_INNER_ONLY = {
    "weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "lazy_embeddings": False,
}


class LossScaleOptimizer(optimizer.Optimizer):
    """Scales the loss up, skips steps whose gradients overflow, and adapts the scale.

    After `dynamic_growth_steps` finite steps in a row the scale doubles; a step with a
    non-finite gradient changes nothing but halves it.

    Args:
        inner_optimizer: the optimizer that updates.
        initial_scale: first scale.
        dynamic_growth_steps: see above.
        name: name of the optimizer.
    """

    def __init__(
        self,
        inner_optimizer,
        initial_scale=2.0**15,
        dynamic_growth_steps=2000,
        name=None,
        **kwargs,
    ):
        if not kwargs.pop("dynamic", True):
            raise ValueError(
                "LossScaleOptimizer: dynamic=False is not supported; set loss_scale_factor of "
                "the inner optimizer instead"
            )
        for key, default in _INNER_ONLY.items():
            if kwargs.pop(key, default) != default:
                raise ValueError(f"LossScaleOptimizer: set {key} of the inner optimizer instead")
        super().__init__(learning_rate=0.0, name=name, **kwargs)
        self.inner_optimizer = inner_optimizer
        self.inner_optimizer.loss_scale_factor = None
        self.initial_scale = initial_scale
        self.dynamic_growth_steps = dynamic_growth_steps

    def build(self, var_list):
        if self.built:
            return
        self.step_counter = self.add_variable((), dtype="int32", name="step_counter")
        self.dynamic_scale = self.add_variable(
            (), initializers.Constant(self.initial_scale), "float32", name="dynamic_scale"
        )
        self.inner_optimizer.build(var_list)
        super().build(var_list)

    @property
    def variables(self):
        return self._variables + self.inner_optimizer.variables

    def apply(self, grads, trainable_variables=None):
        grads = list(grads)
        if not self.built:
            self.build(list(trainable_variables))
        if trainable_variables is None:
            trainable_variables = self._trainable_variables
        trainable_variables = list(trainable_variables)
        finite = self.check_finite(grads)
        scale = self.dynamic_scale.value
        unscaled = [None if g is None else g / ops.cast(scale, g.dtype) for g in grads]
        state.keep_if(
            finite,
            self.inner_optimizer.variables + trainable_variables,
            lambda: self.inner_optimizer.apply(unscaled, trainable_variables),
        )
        grown = ops.equal(self.step_counter.value, self.dynamic_growth_steps - 1)
        finite_scale = ops.where(grown, scale * 2.0, scale)
        self.dynamic_scale.assign(ops.where(finite, finite_scale, scale * 0.5))
        counting = ops.logical_and(finite, ops.logical_not(grown))
        self.step_counter.assign(
            ops.where(counting, self.step_counter.value + 1, ops.zeros((), dtype="int32"))
        )

    def check_finite(self, grads):
        """Whether every entry of every gradient is finite."""
        finite = [ops.all(ops.isfinite(g)) for g in grads if g is not None]
        return ops.all(ops.stack(finite))

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    def scale_loss(self, loss):
        scale = self.dynamic_scale.value if self.built else self.initial_scale
        return loss * ops.cast(scale, loss.dtype)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self):
        return {
            "name": self.name,
            "inner_optimizer": serialization_lib.serialize_keras_object(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        inner = serialization_lib.deserialize_keras_object(
            config.pop("inner_optimizer"), custom_objects=custom_objects
        )
        return cls(inner, **config)
