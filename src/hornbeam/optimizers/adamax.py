"""Adamax: Adam with the infinity norm (Kingma and Ba 2014, section 7.1)."""

from hornbeam import ops
from hornbeam.optimizers import optimizer


class Adamax(optimizer.Optimizer):
    """m: decaying mean of g, u: decaying maximum of |g|; variable -= lr_t · m / (u + ε).

    lr_t = lr / (1 - beta_1^t).

    Args:
        learning_rate: float, schedule or callable; the other arguments are `Optimizer`'s.
        beta_1, beta_2: decay of m and of u.
        epsilon: added to u.
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
        self._m, self._u = self.add_optimizer_variables(var_list, ["momentum", "norm"])

    def update_step(self, gradient, variable, learning_rate):
        dtype, i = variable.dtype, self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, dtype)
        rate = ops.cast(learning_rate, dtype) / (1.0 - ops.power(self.beta_1, step))
        m, u = self._m[i], self._u[i]
        momentum = m.value + (gradient - m.value) * (1 - self.beta_1)
        norm = ops.maximum(self.beta_2 * u.value, ops.abs(gradient))
        self.assign(m, momentum)
        self.assign(u, norm)
        self.assign_sub(variable, rate * momentum / (norm + self.epsilon))

    def get_config(self):
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
