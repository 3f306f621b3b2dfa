"""Adadelta (Zeiler 2012)."""

from hornbeam import ops
from hornbeam.optimizers import optimizer


class Adadelta(optimizer.Optimizer):
    """Steps scaled by the ratio of the root mean squares of past steps and of gradients.

    a = rho · a + (1 - rho) · g²; d = g · √(s + ε) / √(a + ε); s = rho · s + (1 - rho) · d²;
    variable -= lr · d.

    Args:
        learning_rate: float, schedule or callable; the other arguments are `Optimizer`'s.
        rho: decay of both means.
        epsilon: added under both roots.
    """

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.95,
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
        self.rho = rho
        self.epsilon = epsilon

    def build(self, var_list):
        if self.built:
            return
        super().build(var_list)
        self._accumulated_grads, self._accumulated_delta_vars = self.add_optimizer_variables(
            var_list, ["accumulated_grad", "accumulated_delta_var"]
        )

    def update_step(self, gradient, variable, learning_rate):
        i = self._get_variable_index(variable)
        a, s = self._accumulated_grads[i], self._accumulated_delta_vars[i]
        squares = self.rho * a.value + (1 - self.rho) * ops.square(gradient)
        self.assign(a, squares)
        step = gradient * ops.sqrt(s.value + self.epsilon) / ops.sqrt(squares + self.epsilon)
        self.assign(s, self.rho * s.value + (1 - self.rho) * ops.square(step))
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * step)

    def get_config(self):
        return super().get_config() | {
            "rho": self.rho,
            "epsilon": self.epsilon,
        }
