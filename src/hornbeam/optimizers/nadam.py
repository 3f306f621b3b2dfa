"""Nadam: Adam with Nesterov momentum (Dozat 2015)."""

from hornbeam import ops
from hornbeam.optimizers import optimizer


class Nadam(optimizer.Optimizer):
    """Adam whose mean looks one step ahead, with the momentum schedule 1 - 0.96^t / 2.

    Args:
        learning_rate: float, schedule or callable; the other arguments are `Optimizer`'s.
        beta_1, beta_2: decay of the means of g and g².
        epsilon: added to the root ("ε hat" of the paper).
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
        dtype = var_list[0].dtype if var_list else None
        self._u_product = self.add_variable((), "ones", dtype, name="u_product")

    def _momentum_at(self, step):
        return self.beta_1 * (1.0 - 0.5 * ops.power(0.96, step))

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        u = self._u_product
        step = ops.cast(self.iterations + 1, u.dtype)
        self.assign(u, u.value * self._momentum_at(step))
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        dtype, i = variable.dtype, self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, dtype)
        u, u_next = self._momentum_at(step), self._momentum_at(step + 1.0)
        product = ops.cast(self._u_product.value, dtype)
        m, v = self._momentums[i], self._velocities[i]
        momentum = m.value + (gradient - m.value) * (1 - self.beta_1)
        velocity = v.value + (ops.square(gradient) - v.value) * (1 - self.beta_2)
        self.assign(m, momentum)
        self.assign(v, velocity)
        # scalars first: one multiply-add per entry
        ahead, now = u_next / (1.0 - product * u_next), (1.0 - u) / (1.0 - product)
        m_hat = ahead * momentum + now * gradient
        v_hat = velocity / (1.0 - ops.power(self.beta_2, step))
        rate = ops.cast(learning_rate, dtype)
        self.assign_sub(variable, rate * m_hat / (ops.sqrt(v_hat) + self.epsilon))

    def get_config(self):
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
