"""RMSprop (Tieleman and Hinton 2012)."""

from hornbeam import ops
from hornbeam.optimizers import optimizer


class RMSprop(optimizer.Optimizer):
    """v = rho · v + (1 - rho) · g²; variable -= lr · g / √(v + ε).

    Args:
        learning_rate: float, schedule or callable; the other arguments are `Optimizer`'s.
        rho: decay of the mean of squares.
        momentum: decay of the steps taken; 0 means no slot.
        epsilon: bound of the denominator.
        centered: divide by the standard deviation instead (subtract the squared mean of g).
    """

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.9,
        momentum=0.0,
        epsilon=1e-7,
        centered=False,
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
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered

    def build(self, var_list):
        if self.built:
            return
        super().build(var_list)
        self._velocities = self.add_optimizer_variables(var_list, "velocity")
        self._momentums = self._average_gradients = None
        if self.momentum > 0:
            self._momentums = self.add_optimizer_variables(var_list, "momentum")
        if self.centered:
            self._average_gradients = self.add_optimizer_variables(var_list, "average_gradient")

    def update_step(self, gradient, variable, learning_rate):
        i = self._get_variable_index(variable)
        v = self._velocities[i]
        velocity = self.rho * v.value + (1 - self.rho) * ops.square(gradient)
        self.assign(v, velocity)
        denominator = velocity + self.epsilon
        if self.centered:
            a = self._average_gradients[i]
            mean = self.rho * a.value + (1 - self.rho) * gradient
            self.assign(a, mean)
            denominator = denominator - ops.square(mean)
        step = ops.cast(learning_rate, variable.dtype) * gradient / ops.sqrt(denominator)
        if self.momentum > 0:
            m = self._momentums[i]
            step = self.momentum * m.value + step
            self.assign(m, step)
        self.assign_sub(variable, step)

    def get_config(self):
        return super().get_config() | {
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
        }
