"""Penalties on variables and outputs, added to the loss (`keras.regularizers`)."""

import inspect

from hornbeam import ops
from hornbeam.saving import object_registration, serialization_lib
from hornbeam.utils import naming


class Regularizer:
    """Base class: a callable from a tensor to a scalar penalty."""

    def __call__(self, x):
        return 0.0

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def get_config(self):
        raise NotImplementedError(f"{type(self).__name__} does not implement `get_config()`")


class L1L2(Regularizer):
    """`l1 * sum(|x|) + l2 * sum(x²)`.

    Args:
        l1: weight of the absolute values.
        l2: weight of the squares.

    Example:

    >>> import hornbeam as keras
    >>> float(keras.regularizers.L1L2(l1=1.0, l2=0.5)(keras.ops.convert_to_tensor([1.0, -2.0])))
    5.5
    """

    def __init__(self, l1=0.0, l2=0.0):
        self.l1 = _factor("L1L2", "l1", l1, 0.0)
        self.l2 = _factor("L1L2", "l2", l2, 0.0)

    def __call__(self, x):
        penalty = 0.0
        if self.l1:
            penalty = penalty + self.l1 * ops.sum(ops.absolute(x))
        if self.l2:
            penalty = penalty + self.l2 * ops.sum(ops.square(x))
        return penalty

    def get_config(self):
        return {"l1": self.l1, "l2": self.l2}


class L1(Regularizer):
    """`l1 * sum(|x|)`.

    Args:
        l1: weight.
    """

    def __init__(self, l1=0.01):
        self.l1 = _factor("L1", "l1", l1, 0.01)

    def __call__(self, x):
        return self.l1 * ops.sum(ops.absolute(x))

    def get_config(self):
        return {"l1": self.l1}


class L2(Regularizer):
    """`l2 * sum(x²)`.

    Args:
        l2: weight.
    """

    def __init__(self, l2=0.01):
        self.l2 = _factor("L2", "l2", l2, 0.01)

    def __call__(self, x):
        return self.l2 * ops.sum(ops.square(x))

    def get_config(self):
        return {"l2": self.l2}


class OrthogonalRegularizer(Regularizer):
    """Pushes the rows (or columns) of a matrix to be orthogonal: the mean |cosine| of their pairs.

    Args:
        factor: weight.
        mode: `"rows"` or `"columns"`.
    """

    def __init__(self, factor=0.01, mode="rows"):
        self.factor = _factor("OrthogonalRegularizer", "factor", factor, 0.01)
        if mode not in ("rows", "columns"):
            raise ValueError(
                f"OrthogonalRegularizer: `mode` must be 'rows' or 'columns', got {mode!r}"
            )
        self.mode = mode

    def __call__(self, inputs):
        if len(inputs.shape) != 2:
            raise ValueError(
                f"OrthogonalRegularizer: expected a matrix, got shape {tuple(inputs.shape)}"
            )
        by_row = self.mode == "rows"
        inputs = ops.normalize(inputs, axis=1 if by_row else 0)
        other = ops.transpose(inputs)
        product = ops.matmul(inputs, other) if by_row else ops.matmul(other, inputs)
        size = inputs.shape[0 if by_row else 1]
        off_diagonal = product * (1.0 - ops.eye(size, dtype=inputs.dtype))
        pairs = size * (size - 1.0) / 2.0
        return self.factor * 0.5 * ops.sum(ops.absolute(off_diagonal)) / pairs

    def get_config(self):
        return {"factor": self.factor, "mode": self.mode}


def _factor(owner, name, value, default):
    value = default if value is None else value
    if (
        not isinstance(value, (float, int))
        or value != value
        or value
        in (
            float("inf"),
            -float("inf"),
        )
    ):
        raise ValueError(f"{owner}: `{name}` must be a finite number, got {value!r}")
    return float(value)


l1 = L1
l2 = L2
l1_l2 = L1L2
orthogonal_regularizer = OrthogonalRegularizer

_BY_NAME = naming.by_name(globals(), Regularizer)
object_registration.register_namespace("keras.regularizers", globals(), Regularizer)


def serialize(regularizer):
    """Plain data that describes a regularizer."""
    return serialization_lib.serialize_keras_object(regularizer)


def deserialize(config, custom_objects=None):
    """The regularizer that `serialize` described."""
    return serialization_lib.deserialize_keras_object(
        config, custom_objects=custom_objects, module_objects=_BY_NAME
    )


def get(identifier):
    """A regularizer from a callable, a class, a name such as `"l2"`, a config, or None.

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
        f"regularizer: expected a callable, a config or one of {sorted(_BY_NAME)}, "
        f"got {identifier!r}"
    )
