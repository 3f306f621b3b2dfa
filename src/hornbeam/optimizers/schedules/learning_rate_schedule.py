"""Learning-rate schedules: functions of the optimizer's step, part of the step program."""

from math import pi

from hornbeam import backend, ops


class LearningRateSchedule:
    """Base class: define `__call__(step)` → learning rate, and `get_config()`."""

    def __call__(self, step):
        raise NotImplementedError(f"{type(self).__name__}: a schedule must define __call__(step)")

    def get_config(self):
        raise NotImplementedError(
            f"{type(self).__name__}: a schedule must define get_config() to be saved"
        )

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def _positive(self, **steps):
        for name, value in steps.items():
            if value <= 0:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be positive; expected > 0, got {value}"
                )


def as_float(step):
    return ops.cast(step, backend.floatx())


class ExponentialDecay(LearningRateSchedule):
    """initial · decay_rate^(step / decay_steps); with `staircase` the exponent is floored.

    >>> float(ExponentialDecay(1.0, 10, 0.5)(20))
    0.25
    """

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        decay_rate,
        staircase=False,
        name="ExponentialDecay",
    ):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name
        self._positive(decay_steps=decay_steps)

    def __call__(self, step):
        p = as_float(step) / float(self.decay_steps)
        if self.staircase:
            p = ops.floor(p)
        return self.initial_learning_rate * ops.power(float(self.decay_rate), p)

    def get_config(self):
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including boundaries[0], then values[1], …

    Args:
        boundaries: increasing steps.
        values: one more than boundaries.
    """

    def __init__(self, boundaries, values, name="PiecewiseConstant"):
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                "PiecewiseConstantDecay: expected one boundary less than values, got "
                f"{len(boundaries)} boundaries and {len(values)} values"
            )
        self.boundaries = boundaries
        self.values = values
        self.name = name

    def __call__(self, step):
        step = backend.convert_to_tensor(step)
        rate = ops.convert_to_tensor(float(self.values[0]), dtype=backend.floatx())
        for boundary, value in zip(self.boundaries, self.values[1:], strict=True):
            rate = ops.where(step > ops.cast(boundary, step.dtype), float(value), rate)
        return rate

    def get_config(self):
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


class PolynomialDecay(LearningRateSchedule):
    """(initial - end) · (1 - step / decay_steps)^power + end.

    With `cycle` the period is stretched to the next multiple of decay_steps beyond step.
    """

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        end_learning_rate=0.0001,
        power=1.0,
        cycle=False,
        name="PolynomialDecay",
    ):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name
        self._positive(decay_steps=decay_steps)

    def __call__(self, step):
        step, steps = as_float(step), float(self.decay_steps)
        if self.cycle:
            steps = steps * ops.maximum(ops.ceil(step / steps), 1.0)
        else:
            step = ops.minimum(step, steps)
        span = self.initial_learning_rate - self.end_learning_rate
        return span * ops.power(1.0 - step / steps, float(self.power)) + self.end_learning_rate

    def get_config(self):
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }


class InverseTimeDecay(LearningRateSchedule):
    """initial / (1 + decay_rate · step / decay_steps); with `staircase` the ratio is floored."""

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        decay_rate,
        staircase=False,
        name="InverseTimeDecay",
    ):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name
        self._positive(decay_steps=decay_steps)

    def __call__(self, step):
        p = as_float(step) / float(self.decay_steps)
        if self.staircase:
            p = ops.floor(p)
        return self.initial_learning_rate / (1.0 + self.decay_rate * p)

    def get_config(self):
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class CosineDecay(LearningRateSchedule):
    """Half a cosine from initial to alpha · initial (Loshchilov and Hutter 2016).

    Args:
        alpha: what is left at the end, as a fraction.
        warmup_target: if given, the rate first rises linearly from initial to it in
            `warmup_steps`, and the cosine starts from it.
    """

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        alpha=0.0,
        name="CosineDecay",
        warmup_target=None,
        warmup_steps=0,
    ):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps
        self._positive(decay_steps=decay_steps)

    def _decayed(self, step, start):
        part = ops.minimum(step, float(self.decay_steps)) / float(self.decay_steps)
        cosine = 0.5 * (1.0 + ops.cos(pi * part))
        return start * ((1.0 - self.alpha) * cosine + self.alpha)

    def __call__(self, step):
        step = as_float(step)
        if self.warmup_target is None:
            return self._decayed(step, self.initial_learning_rate)
        warmup = float(self.warmup_steps)
        decayed = self._decayed(ops.maximum(step - warmup, 0.0), self.warmup_target)
        if not self.warmup_steps:
            return decayed
        rise = self.warmup_target - self.initial_learning_rate
        warming = self.initial_learning_rate + rise * (step / warmup)
        return ops.where(step < warmup, warming, decayed)

    def get_config(self):
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays with warm restarts (SGDR, Loshchilov and Hutter 2016).

    Args:
        first_decay_steps: length of the first period.
        t_mul: each period is this factor longer than the one before.
        m_mul: each period starts at this factor of the one before.
        alpha: what is left at the end of a period, as a fraction.
    """

    def __init__(
        self,
        initial_learning_rate,
        first_decay_steps,
        t_mul=2.0,
        m_mul=1.0,
        alpha=0.0,
        name="SGDRDecay",
    ):
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        self._t_mul = t_mul
        self._m_mul = m_mul
        self.alpha = alpha
        self.name = name
        self._positive(first_decay_steps=first_decay_steps)

    def __call__(self, step):
        part = as_float(step) / float(self.first_decay_steps)
        t_mul = float(self._t_mul)
        if t_mul == 1.0:
            restarts = ops.floor(part)
            part = part - restarts
        else:
            # the k-th period starts at (1 - t^k) / (1 - t) first periods
            restarts = ops.floor(ops.log(1.0 - part * (1.0 - t_mul)) / ops.log(t_mul))
            factor = ops.power(t_mul, restarts)
            part = (part - (1.0 - factor) / (1.0 - t_mul)) / factor
        cosine = 0.5 * ops.power(float(self._m_mul), restarts) * (1.0 + ops.cos(pi * part))
        return self.initial_learning_rate * ((1.0 - self.alpha) * cosine + self.alpha)

    def get_config(self):
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self._t_mul,
            "m_mul": self._m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }
