"""Projections of variables after each update (`keras.constraints`)."""

import inspect

from hornbeam import backend, ops
from hornbeam.saving import object_registration, serialization_lib
from hornbeam.utils import naming


class Constraint:
    """Base class: a callable from a variable's value to the value it is set to."""

    def __call__(self, w):
        raise NotImplementedError(f"{type(self).__name__} does not implement `__call__()`")

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class MaxNorm(Constraint):
    """Scales vectors along `axis` down to an Euclidean norm of at most `max_value`.

    Args:
        max_value: the largest norm.
        axis: axis (or axes) over which the norm is taken; 0 for a dense kernel
            `(inputs, units)`, `[0, 1, 2]` for a kernel of `Conv2D`.
    """

    def __init__(self, max_value=2, axis=0):
        self.max_value = max_value
        self.axis = axis

    def __call__(self, w):
        w = backend.convert_to_tensor(w)
        norms = _norm(w, self.axis)
        return w * (ops.clip(norms, 0, self.max_value) / (backend.epsilon() + norms))

    def get_config(self):
        return {"max_value": self.max_value, "axis": self.axis}


class NonNeg(Constraint):
    """Sets negative values to zero."""

    def __call__(self, w):
        w = backend.convert_to_tensor(w)
        return ops.multiply(w, ops.greater_equal(w, 0.0))


class UnitNorm(Constraint):
    """Scales vectors along `axis` to an Euclidean norm of one.

    Args:
        axis: axis (or axes) over which the norm is taken.
    """

    def __init__(self, axis=0):
        self.axis = axis

    def __call__(self, w):
        w = backend.convert_to_tensor(w)
        return w / (backend.epsilon() + _norm(w, self.axis))

    def get_config(self):
        return {"axis": self.axis}


class MinMaxNorm(Constraint):
    """Scales vectors along `axis` towards norms between `min_value` and `max_value`.

    Args:
        min_value: the smallest norm.
        max_value: the largest norm.
        rate: 1.0 enforces the bounds at every update, less moves part of the way.
        axis: axis (or axes) over which the norm is taken.
    """

    def __init__(self, min_value=0.0, max_value=1.0, rate=1.0, axis=0):
        self.min_value = min_value
        self.max_value = max_value
        self.rate = rate
        self.axis = axis

    def __call__(self, w):
        w = backend.convert_to_tensor(w)
        norms = _norm(w, self.axis)
        wanted = self.rate * ops.clip(norms, self.min_value, self.max_value)
        wanted = wanted + (1 - self.rate) * norms
        return w * (wanted / (backend.epsilon() + norms))

    def get_config(self):
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": self.axis,
        }


def _norm(w, axis):
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


max_norm = MaxNorm
min_max_norm = MinMaxNorm
non_neg = NonNeg
unit_norm = UnitNorm

_BY_NAME = naming.by_name(globals(), Constraint)
object_registration.register_namespace("keras.constraints", globals(), Constraint)


def serialize(constraint):
    """Plain data that describes a constraint."""
    return serialization_lib.serialize_keras_object(constraint)


def deserialize(config, custom_objects=None):
    """The constraint that `serialize` described."""
    return serialization_lib.deserialize_keras_object(
        config, custom_objects=custom_objects, module_objects=_BY_NAME
    )


def get(identifier):
    """A constraint from a callable, a class, a name such as `"non_neg"`, a config, or None.

    Raises:
        ValueError: none of these.
    """
    if identifier is None:
        return None
    found = deserialize(identifier) if isinstance(identifier, (dict, str)) else identifier
    if inspect.isclass(found):
        found = found()
    if callable(found):
        return found
    raise ValueError(
        f"constraint: expected a callable, a config or one of {sorted(_BY_NAME)}, "
        f"got {identifier!r}"
    )
