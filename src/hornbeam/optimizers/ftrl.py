"""FTRL-Proximal (McMahan et al. 2013)."""

from hornbeam import initializers, ops
from hornbeam.optimizers import optimizer


class Ftrl(optimizer.Optimizer):
    """Follow the regularised leader, with L1, L2 and shrinkage.

    Args:
        learning_rate: float, schedule or callable; the other arguments are `Optimizer`'s.
        learning_rate_power: ≤ 0, how the rate falls with the sum of squares.
        initial_accumulator_value: start of the sum of squares, ≥ 0.
        l1_regularization_strength, l2_regularization_strength: ≥ 0.
        l2_shrinkage_regularization_strength: ≥ 0, weight of the variable in the gradient.
        beta: ≥ 0, of the paper.
    """

    def __init__(
        self,
        learning_rate=0.001,
        learning_rate_power=-0.5,
        initial_accumulator_value=0.1,
        l1_regularization_strength=0.0,
        l2_regularization_strength=0.0,
        l2_shrinkage_regularization_strength=0.0,
        beta=0.0,
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
        for key, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
        ):
            if value < 0:
                raise ValueError(f"Ftrl: {key} must not be negative; got {value}")
        if learning_rate_power > 0:
            raise ValueError(f"Ftrl: learning_rate_power must be ≤ 0; got {learning_rate_power}")
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta

    def build(self, var_list):
        if self.built:
            return
        super().build(var_list)
        start = initializers.Constant(self.initial_accumulator_value)
        self._accumulators, self._linears = self.add_optimizer_variables(
            var_list, ["accumulator", "linear"], [start, "zeros"]
        )

    def update_step(self, gradient, variable, learning_rate):
        i, power = self._get_variable_index(variable), -self.learning_rate_power
        rate = ops.cast(learning_rate, variable.dtype)
        a, z = self._accumulators[i], self._linears[i]
        total = a.value + ops.square(gradient)
        root, old_root = ops.power(total, power), ops.power(a.value, power)
        shrunk = gradient + 2.0 * self.l2_shrinkage_regularization_strength * variable.value
        linear = z.value + shrunk - (root - old_root) / rate * variable.value
        l2 = self.l2_regularization_strength + self.beta / (2.0 * rate)
        l1 = self.l1_regularization_strength
        self.assign(z, linear)
        self.assign(a, total)
        clipped = ops.clip(linear, -l1, l1)
        self.assign(variable, (clipped - linear) / (root / rate + 2.0 * l2))

    def get_config(self):
        return super().get_config() | {
            "learning_rate_power": self.learning_rate_power,
            "initial_accumulator_value": self.initial_accumulator_value,
            "l1_regularization_strength": self.l1_regularization_strength,
            "l2_regularization_strength": self.l2_regularization_strength,
            "l2_shrinkage_regularization_strength": self.l2_shrinkage_regularization_strength,
            "beta": self.beta,
        }
