"""LayerState: what a layer owns — variables, sublayers, metrics, seeds — and its dtypes."""

from __future__ import annotations

import contextlib

from hornbeam import backend, constraints, dtype_policies, initializers, regularizers
from hornbeam.backend import scope
from hornbeam.layers.operation import Operation
from hornbeam.metrics.metric import Metric
from hornbeam.random import SeedGenerator
from hornbeam.utils import tracking

_LOCKED = (
    "{}: new variables or sublayers on a layer that is already built; "
    "create all state in `__init__()` or `build()`"
)


class LayerState(Operation):
    """The state of a layer, found by attribute; and the policy that says in which dtypes it is."""

    def _initialize_tracker(self):
        if "_tracker" in self.__dict__:
            return
        state = {
            "_trainable_variables": [],
            "_non_trainable_variables": [],
            "_layers": [],
            "_metrics": [],
            "_seed_generators": [],
            "_losses": [],
            "_changes": 0,  # how often an attribute was set: compiled calls go by it
        }
        is_variable = backend.Variable
        kinds = {
            "trainable_variables": lambda x: isinstance(x, is_variable) and x.trainable,
            "non_trainable_variables": lambda x: isinstance(x, is_variable) and not x.trainable,
            "metrics": lambda x: isinstance(x, Metric),
            "layers": lambda x: isinstance(x, LayerState),
            "seed_generators": lambda x: isinstance(x, SeedGenerator),
        }
        self.__dict__.update(state)
        self.__dict__["_tracker"] = tracking.Tracker(
            {name: (predicate, state["_" + name]) for name, predicate in kinds.items()}
        )

    def __setattr__(self, name, value):
        tracker = self.__dict__.get("_tracker")
        if tracker is None:
            self._initialize_tracker()
            tracker = self._tracker
        self.__dict__["_changes"] += 1
        super().__setattr__(name, tracker.track(value))

    def __delattr__(self, name):
        value = self.__dict__.get(name)
        super().__delattr__(name)
        self._tracker.untrack(value)

    def _check_super_called(self):
        if not self.__dict__.get("_initialized", False):
            raise RuntimeError(
                f"{type(self).__name__}: `super().__init__()` was not called; make it the first "
                "statement of `__init__()`"
            )

    # --- names ----------------------------------------------------------------------------------

    def _open_name_scope(self):
        """Names of variables made inside begin with this layer's name (once)."""
        if self._scope_open:
            return contextlib.nullcontext()
        if self._parent_path is None:
            self._parent_path = scope.current_path()
        return self._name_scope()

    @contextlib.contextmanager
    def _name_scope(self):
        self.__dict__["_scope_open"] = True
        try:
            with scope.name_scope(self.name):
                yield
        finally:
            self.__dict__["_scope_open"] = False

    _scope_open = False

    def _lock_state(self):
        self._tracker.lock(_LOCKED.format(f"{type(self).__name__} '{self.name}'"))

    # --- variables ------------------------------------------------------------------------------

    def add_weight(
        self,
        shape=None,
        initializer=None,
        dtype=None,
        trainable=True,
        autocast=True,
        regularizer=None,
        constraint=None,
        aggregation="none",
        overwrite_with_gradient=False,
        name=None,
    ):
        """Create a variable of this layer.

        Args:
            shape: shape without None; `()` by default.
            initializer: `"glorot_uniform"` for floating point dtypes, else `"zeros"`, by default.
            dtype: the layer's variable dtype by default.
            trainable: whether gradients update it.
            autocast: read it in the layer's compute dtype.
            regularizer: penalty that is added to the loss.
            constraint: projection after each update.
            aggregation: how replicas are combined.
            overwrite_with_gradient: the "gradient" is the new value.
            name: name.

        Returns:
            The `Variable`.
        """
        self._check_super_called()
        if isinstance(shape, str):
            raise ValueError(
                f"{type(self).__name__}: add_weight's first argument is the shape, got {shape!r}; "
                "pass the name as `name=`"
            )
        dtype = backend.standardize_dtype(dtype) if dtype is not None else self.variable_dtype
        if initializer is None:
            initializer = "glorot_uniform" if backend.dtypes.is_float(dtype) else "zeros"
        shape = () if shape is None else tuple(shape)
        if any(d is None for d in shape):
            raise ValueError(
                f"{type(self).__name__} '{self.name}': variable '{name}' needs a known shape, "
                f"got {shape}; a dimension of the input that the layer depends on is None"
            )
        with self._open_name_scope():
            variable = backend.Variable(
                initializer=initializers.get(initializer),
                shape=shape,
                dtype=dtype,
                trainable=trainable,
                autocast=autocast,
                aggregation=aggregation,
                name=name,
            )
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        variable.overwrite_with_gradient = overwrite_with_gradient
        self._track_variable(variable)
        return variable

    add_variable = add_weight

    def _track_variable(self, variable):
        kind = "trainable_variables" if variable.trainable else "non_trainable_variables"
        self._tracker.add(kind, variable)
        if not self._trainable:
            variable.trainable = False

    def _untrack_variable(self, variable):
        self._tracker.untrack(variable)

    @property
    def trainable(self):
        """Whether the variables are trained; setting it sets all sublayers'."""
        return self._trainable

    @trainable.setter
    def trainable(self, value):
        value = bool(value)
        self._trainable = value
        for variable in self._trainable_variables:
            variable.trainable = value
        for layer in self._layers:
            layer.trainable = value

    def _own_variables(self):
        return [*self._trainable_variables, *self._non_trainable_variables]

    @property
    def variables(self):
        """All variables, with those of sublayers and of random seeds."""
        own = self._own_variables() + [seed.state for seed in self._seed_generators]
        return _unique(own + [v for layer in self._layers for v in layer.variables])

    @property
    def weights(self):
        """All variables but metrics' and random seeds'."""
        return _unique(self._own_variables() + [v for layer in self._layers for v in layer.weights])

    @property
    def trainable_variables(self):
        """The variables that training updates."""
        return [v for v in self.variables if v.trainable] if self.trainable else []

    @property
    def non_trainable_variables(self):
        """The variables that training does not update by gradients."""
        return [v for v in self.variables if not v.trainable] if self.trainable else self.variables

    @property
    def trainable_weights(self):
        """The weights that training updates."""
        return [v for v in self.weights if v.trainable] if self.trainable else []

    @property
    def non_trainable_weights(self):
        """The weights that training does not update by gradients."""
        return [v for v in self.weights if not v.trainable] if self.trainable else self.weights

    @property
    def metrics(self):
        """All metrics, with those of sublayers."""
        return list(self._metrics) + [m for layer in self._layers for m in layer.metrics]

    @property
    def metrics_variables(self):
        """The variables of all metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    def get_weights(self):
        """Values of `weights` as NumPy arrays."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights):
        """Set `weights` from arrays of the same shapes, in the same order."""
        variables = self.weights
        if len(variables) != len(weights):
            raise ValueError(
                f"{type(self).__name__} '{self.name}': expected {len(variables)} weights, "
                f"got {len(weights)}"
            )
        for variable, value in zip(variables, weights, strict=True):
            if tuple(variable.shape) != tuple(value.shape):
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': expected shape {tuple(variable.shape)} "
                    f"for weight '{variable.path}', got {tuple(value.shape)}"
                )
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)

    def count_params(self):
        """Number of scalars in all weights."""
        if not self.built:
            raise ValueError(
                f"{type(self).__name__} '{self.name}': not built yet, so its parameters cannot be "
                "counted; call it on data or call `build(input_shape)`"
            )
        return sum(v.size for v in self.weights)

    def _stored_variables(self):
        """The layer's own variables in the order of files."""
        return self._own_variables()

    def save_own_variables(self, store):
        """Put this layer's own variables into `store`, under "0", "1", …"""
        for index, variable in enumerate(self._stored_variables()):
            store[str(index)] = variable

    def load_own_variables(self, store):
        """Set this layer's own variables from `store`."""
        variables = self._stored_variables()
        if len(store.keys()) != len(variables):
            hint = ""
            if not variables and not self.built:
                hint = "; the layer was never built, perhaps `build()` of the layer around it does "
                hint += "not build it"
            raise ValueError(
                f"{type(self).__name__} '{self.name}': expected {len(variables)} variables "
                f"{[v.name for v in variables]}, got {len(store.keys())}{hint}"
            )
        for index, variable in enumerate(variables):
            variable.assign(store[str(index)])

    def _flatten_layers(self, include_self=True, recursive=True):
        """This layer and its sublayers (of all depths if `recursive`), each once."""
        found, seen = ([self] if include_self else []), {id(self)}
        pending = list(self._layers)
        while pending:
            layer = pending.pop(0)
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            found.append(layer)
            if recursive:
                pending[:0] = layer._layers
        return found

    # --- dtypes ---------------------------------------------------------------------------------

    @property
    def dtype_policy(self):
        """Which dtypes the layer computes in and stores."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value):
        policy = dtype_policies.get(value)
        if isinstance(self._dtype_policy, dtype_policies.DTypePolicyMap) and self.path:
            # the other layers that share the map keep what it says
            policy = self._dtype_policy.with_entry(self.path, policy)
        self._dtype_policy = policy
        if self._own_policy().quantization_mode is not None and self.built:
            if not getattr(self, "_is_quantized", False):
                self.quantize(self._own_policy().quantization_mode)

    def _own_policy(self):
        policy = self._dtype_policy
        if isinstance(policy, dtype_policies.DTypePolicyMap) and self.path:
            return policy[self.path]
        return policy

    @property
    def compute_dtype(self):
        """dtype of inputs, computation and outputs."""
        return self._own_policy().compute_dtype

    @property
    def variable_dtype(self):
        """dtype of the variables."""
        return self._own_policy().variable_dtype

    @property
    def dtype(self):
        """Same as `variable_dtype`."""
        return self.variable_dtype

    @property
    def input_dtype(self):
        """dtype that floating point inputs are cast to."""
        return self.compute_dtype

    @property
    def quantization_mode(self):
        """How the weights are quantized, such as `"int8"`; None if they are not."""
        return self._own_policy().quantization_mode

    def quantize(self, mode=None, type_check=True, config=None):
        """Replace large weights by integers; layers that can do so override it.

        Raises:
            NotImplementedError: this layer cannot.
        """
        raise NotImplementedError(
            f"{type(self).__name__} '{self.name}': does not support `quantize`"
        )


def _unique(variables):
    return list({id(v): v for v in variables}.values())
