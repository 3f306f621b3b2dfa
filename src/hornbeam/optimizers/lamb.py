"""LAMB: Adam steps scaled per layer (You et al. 2019)."""

from hornbeam import ops
from hornbeam.optimizers import optimizer


class Lamb(optimizer.Optimizer):
    """variable -= lr · ‖variable‖ / ‖u‖ · u with Adam's bias-corrected u = m̂ / (√v̂ + ε).

    Args:
        learning_rate: float, schedule or callable; the other arguments are `Optimizer`'s.
        beta_1, beta_2: decay of the means of g and g².
        epsilon: added to the root.
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
            **kwargs,
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, var_list):
        if self.built:
            return
        super().build(var_list)
        self._momentums, self._velocities = self.add_optimizer_variables(
            var_list, ["momentum", "velocity"]
        )

    def update_step(self, gradient, variable, learning_rate):
        dtype, i = variable.dtype, self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, dtype)
        m, v = self._momentums[i], self._velocities[i]
        momentum = m.value + (gradient - m.value) * (1 - self.beta_1)
        velocity = v.value + (ops.square(gradient) - v.value) * (1 - self.beta_2)
        self.assign(m, momentum)
        self.assign(v, velocity)
        m_hat = momentum / (1.0 - ops.power(self.beta_1, step))
        v_hat = velocity / (1.0 - ops.power(self.beta_2, step))
        update = m_hat / (ops.sqrt(v_hat) + self.epsilon)
        weight_norm = ops.sqrt(ops.sum(ops.square(variable.value)))
        update_norm = ops.sqrt(ops.sum(ops.square(update)))
        usable = ops.logical_and(weight_norm > 0.0, update_norm > 0.0)
        ratio = ops.where(usable, ops.divide_no_nan(weight_norm, update_norm), 1.0)
        self.assign_sub(variable, ratio * ops.cast(learning_rate, dtype) * update)

    def get_config(self):
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
