"""Adam (Kingma and Ba 2014)."""

from hornbeam import ops
from hornbeam.optimizers import optimizer


class Adam(optimizer.Optimizer):
    """m, v: decaying means of g and g²; variable -= lr_t · m / (√v + ε).

    lr_t = lr · √(1 - beta_2^t) / (1 - beta_1^t), the form before section 2.1's end in the paper.

    Args:
        learning_rate: float, schedule or callable; the other arguments are `Optimizer`'s.
        beta_1, beta_2: decay of the means of g and g².
        epsilon: added to the root ("ε hat" of the paper).
        amsgrad: divide by the largest √v so far (Reddi et al. 2018).

    >>> from hornbeam import backend, ops
    >>> v = backend.Variable([1.0])
    >>> Adam(0.1).apply([ops.ones(1)], [v])
    >>> round(float(v.numpy()[0]), 4)
    0.9
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
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
        self.amsgrad = amsgrad

    def build(self, var_list):
        if self.built:
            return
        super().build(var_list)
        self._momentums, self._velocities = self.add_optimizer_variables(
            var_list, ["momentum", "velocity"]
        )
        if self.amsgrad:
            self._velocity_hats = self.add_optimizer_variables(var_list, "velocity_hat")

    def update_step(self, gradient, variable, learning_rate):
        dtype, i = variable.dtype, self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, dtype)
        rate = ops.cast(learning_rate, dtype)
        rate = rate * ops.sqrt(1.0 - ops.power(self.beta_2, step))
        rate = rate / (1.0 - ops.power(self.beta_1, step))
        m, v = self._momentums[i], self._velocities[i]
        momentum = m.value + (gradient - m.value) * (1 - self.beta_1)
        velocity = v.value + (ops.square(gradient) - v.value) * (1 - self.beta_2)
        self.assign(m, momentum)
        self.assign(v, velocity)
        if self.amsgrad:
            v_hat = self._velocity_hats[i]
            velocity = ops.maximum(v_hat.value, velocity)
            self.assign(v_hat, velocity)
        self.assign_sub(variable, momentum * rate / (ops.sqrt(velocity) + self.epsilon))

    def get_config(self):
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
        }
