"""Adafactor (Shazeer and Stern 2018)."""

from hornbeam import ops
from hornbeam.optimizers import optimizer


def root_mean_square(x):
    return ops.sqrt(ops.mean(ops.square(x)))


class Adafactor(optimizer.Optimizer):
    """Second moments of matrices kept as row and column means; steps relative to the weights' size.

    Args:
        learning_rate: float, schedule or callable; the other arguments are `Optimizer`'s.
        beta_2_decay: exponent c of beta_2 = 1 - t^c.
        epsilon_1, epsilon_2: added to g², and least size of the weights.
        clip_threshold: bound of the root mean square of the update.
        relative_step: bound the rate by 1 / √t.
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_2_decay=-0.8,
        epsilon_1=1e-30,
        epsilon_2=1e-3,
        clip_threshold=1.0,
        relative_step=True,
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
        self.beta_2_decay = beta_2_decay
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold
        self.relative_step = relative_step

    def build(self, var_list):
        if self.built:
            return
        super().build(var_list)
        self._r, self._c, self._v = [], [], []
        for var in var_list:
            # vectors have no rows and columns, but Keras's files hold two scalars in their place
            matrix = len(var.shape) >= 2
            rows = var.shape[:-1] if matrix else ()
            columns = (*var.shape[:-2], var.shape[-1]) if matrix else ()
            self._r.append(self.add_variable(rows, dtype=var.dtype, name=var.name))
            self._c.append(self.add_variable(columns, dtype=var.dtype, name=var.name))
            self._v.append(self.add_variable_from_reference(var, "velocity"))

    def update_step(self, gradient, variable, learning_rate):
        dtype, i = variable.dtype, self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, dtype)
        rate = ops.cast(learning_rate, dtype)
        rate = ops.minimum(rate, ops.rsqrt(step))
        rate = rate * ops.maximum(self.epsilon_2, root_mean_square(variable.value))
        beta_2 = 1.0 - ops.power(step, self.beta_2_decay)
        squares = ops.square(gradient) + self.epsilon_1
        v = self._v[i]
        if len(variable.shape) >= 2:
            r, c = self._r[i], self._c[i]
            rows = beta_2 * r.value + (1.0 - beta_2) * ops.mean(squares, axis=-1)
            columns = beta_2 * c.value + (1.0 - beta_2) * ops.mean(squares, axis=-2)
            self.assign(r, rows)
            self.assign(c, columns)
            rows = rows / ops.mean(rows, axis=-1, keepdims=True)
            velocity = ops.expand_dims(rows, -1) * ops.expand_dims(columns, -2)
        else:
            velocity = beta_2 * v.value + (1.0 - beta_2) * squares
        self.assign(v, velocity)
        update = gradient / ops.sqrt(velocity)
        update = update / ops.maximum(1.0, root_mean_square(update) / self.clip_threshold)
        self.assign_sub(variable, rate * update)

    def get_config(self):
        return super().get_config() | {
            "beta_2_decay": self.beta_2_decay,
            "epsilon_1": self.epsilon_1,
            "epsilon_2": self.epsilon_2,
            "clip_threshold": self.clip_threshold,
            "relative_step": self.relative_step,
        }
