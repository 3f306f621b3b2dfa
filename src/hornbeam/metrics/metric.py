"""The `Metric` base class: state in variables, updated per batch, read when wanted."""

import functools

from hornbeam import backend, initializers, ops
from hornbeam.losses.loss import resolve_dtype
from hornbeam.utils import naming, state


@functools.lru_cache(maxsize=256)
def _zeros(shape, dtype):
    with backend.scope.eager():
        return ops.zeros(shape, dtype=dtype)


class Metric:
    """Base class: create variables in `__init__`, define `update_state(...)` and `result()`.

    Args:
        dtype: dtype of the state and the result (a name or a dtype policy); default `floatx()`.
        name: name of the metric, its key in logs.

    Example:

    >>> class Largest(Metric):
    ...     def __init__(self):
    ...         super().__init__(name="largest")
    ...         self.largest = self.add_variable((), "zeros", name="largest")
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.largest.assign(ops.maximum(self.largest.value, ops.max(y_pred)))
    ...     def result(self):
    ...         return self.largest.value
    >>> float(Largest()([0.0], [3.0]))
    3.0
    """

    _direction: str | None = None  # "up" or "down": which results are better, where that is known

    def __init__(self, dtype=None, name=None):
        self._variables = []
        self._metrics = []
        self.name = name or naming.auto_name(type(self).__name__)
        self._dtype = resolve_dtype(dtype)

    def __setattr__(self, name, value):
        tracked = self.__dict__.get(
            "_variables" if isinstance(value, backend.Variable) else "_metrics"
        )
        if isinstance(value, (backend.Variable, Metric)):
            if tracked is None:
                raise RuntimeError(
                    f"{type(self).__name__}: call super().__init__() before setting {name!r}"
                )
            if not any(known is value for known in tracked):
                tracked.append(value)
        super().__setattr__(name, value)

    @property
    def dtype(self):
        return self._dtype

    @property
    def variables(self):
        return [*self._variables, *(v for m in self._metrics for v in m.variables)]

    def add_variable(self, shape, initializer, dtype=None, aggregation="sum", name=None):
        """A new state variable."""
        with backend.name_scope(self.name.replace("/", ">")):
            variable = backend.Variable(
                initializers.get(initializer),
                shape=tuple(shape),
                dtype=dtype or backend.floatx(),
                trainable=False,
                aggregation=aggregation,
                synchronization="on_read",
                name=name,
            )
        self._variables.append(variable)
        return variable

    def add_weight(self, shape=(), initializer=None, dtype=None, name=None):
        """Older name of `add_variable`."""
        return self.add_variable(shape, initializer or "zeros", dtype, name=name)

    def update_state(self, *args, **kwargs):
        """Take a batch into account."""
        raise NotImplementedError(f"{type(self).__name__}: a Metric must define update_state()")

    def result(self):
        """The metric's value, a tensor (or a dict of them)."""
        raise NotImplementedError(f"{type(self).__name__}: a Metric must define result()")

    def reset_state(self):
        """Forget everything: all variables become zero."""
        for v in self.variables:
            v.assign(_zeros(v.shape, v.dtype))

    def __call__(self, *args, **kwargs):
        self.update_state(*args, **kwargs)
        return self.result()

    def stateless_update_state(self, metric_variables, *args, **kwargs):
        """Values of the variables after `update_state`, starting from `metric_variables`."""
        self._check_values("stateless_update_state", metric_variables)
        update = lambda: self.update_state(*args, **kwargs)  # noqa: E731
        return state.stateless(self.variables, metric_variables, update)[1]

    def stateless_result(self, metric_variables):
        """`result()` for the given values of the variables."""
        self._check_values("stateless_result", metric_variables)
        return state.stateless(self.variables, metric_variables, self.result)[0]

    def stateless_reset_state(self):
        """Values of the variables after `reset_state`."""
        variables = self.variables
        return state.stateless(variables, [v.value for v in variables], self.reset_state)[1]

    def _check_values(self, method, values):
        if len(values) != len(self.variables):
            raise ValueError(
                f"{type(self).__name__}.{method}: expected one value per variable, "
                f"{len(self.variables)}, got {len(values)}"
            )

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}>"
