"""Gradient descent with momentum."""

from hornbeam import ops
from hornbeam.optimizers import optimizer


class SGD(optimizer.Optimizer):
    """variable -= lr · g; with momentum: m = momentum · m - lr · g, variable += m.

    With `nesterov` the step looks ahead: variable += momentum · m - lr · g (Sutskever et al. 2013).

    Args:
        learning_rate: float, schedule or callable; the other arguments are `Optimizer`'s.
        momentum: in [0, 1]; 0 means no slots.
        nesterov: look ahead.

    >>> from hornbeam import backend, ops
    >>> v = backend.Variable([1.0])
    >>> SGD(0.1).apply([ops.ones(1)], [v])
    >>> round(float(v.numpy()[0]), 6)
    0.9
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.0,
        nesterov=False,
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
        if not 0 <= momentum <= 1:
            raise ValueError(f"SGD: momentum must lie in [0, 1]; got {momentum}")
        self.momentum = momentum
        self.nesterov = nesterov

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.momentums = []
        if self.momentum:
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        step = gradient * ops.cast(learning_rate, variable.dtype)
        if not self.momentum:
            self.assign_sub(variable, step)
            return
        m = self.momentums[self._get_variable_index(variable)]
        velocity = self.momentum * m.value - step
        self.assign(m, velocity)
        if self.nesterov:
            velocity = self.momentum * velocity - step
        self.assign_add(variable, velocity)

    def get_config(self):
        return super().get_config() | {
            "momentum": self.momentum,
            "nesterov": self.nesterov,
        }
