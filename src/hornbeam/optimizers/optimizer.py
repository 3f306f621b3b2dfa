"""The `Optimizer` base class: slots, clipping, weight decay, averages, gradient accumulation.

Everything that `apply` does is ops on variables, so inside a traced step it becomes part of the
step program; the same code runs eagerly.
"""

import re
import warnings

from hornbeam import backend, initializers, ops
from hornbeam.backend import registry
from hornbeam.ops import index
from hornbeam.optimizers.schedules.learning_rate_schedule import LearningRateSchedule
from hornbeam.saving import serialization_lib
from hornbeam.utils import naming, state


class Optimizer:
    """Base class: define `build(variables)` and `update_step(gradient, variable, learning_rate)`.

    Args:
        learning_rate: float, `LearningRateSchedule`, or a callable without arguments.
        weight_decay: decoupled decay: variable -= variable · weight_decay · learning rate.
        clipnorm: bound of each gradient's norm.
        clipvalue: bound of each gradient's entries.
        global_clipnorm: bound of the norm of all gradients together.
        use_ema, ema_momentum, ema_overwrite_frequency: keep a moving average of the weights and
            write it into them every so many steps (None: at the end of training).
        loss_scale_factor: the loss was multiplied by it (`scale_loss`), gradients are divided.
        gradient_accumulation_steps: update once in so many steps, with the mean gradient.
        name: name of the optimizer.
        lazy_embeddings: not in Keras. Rows of the tables of `Embedding` layers whose gradient is
            zero keep their values, and so do their slots; by default every row moves at every
            step (momentum, weight decay). Other mathematics, like the lazy Adam of other
            libraries, and much faster for large tables: a step costs what the rows of the batch
            cost, with `clipnorm`, `clipvalue`, `global_clipnorm` (the norm of a gradient is that of
            its rows) and weight decay too. What is defined by all rows visits them all: the average
            weights of `use_ema` still move, in a pass of their own, and with
            `ema_overwrite_frequency`, `gradient_accumulation_steps`, a constraint on the table or a
            `LossScaleOptimizer` the whole step does. `get_config` has it only if it is set, so that
            Keras can read the configuration of all others.

    Example:

    >>> class Plain(Optimizer):
    ...     def update_step(self, gradient, variable, learning_rate):
    ...         self.assign_sub(variable, gradient * learning_rate)
    >>> v = backend.Variable([1.0, 2.0])
    >>> Plain(learning_rate=0.5).apply([ops.ones(2)], [v])
    >>> v.numpy().tolist()
    [0.5, 1.5]
    """

    def __init__(
        self,
        learning_rate,
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
        kind = type(self).__name__
        if kwargs.pop("decay", None) is not None:
            warnings.warn(f"{kind}: argument `decay` is ignored; use a schedule", stacklevel=3)
        self.lazy_embeddings = kwargs.pop("lazy_embeddings", False)
        if not isinstance(self.lazy_embeddings, bool):
            raise ValueError(
                f"{kind}: lazy_embeddings must be True or False; got {self.lazy_embeddings!r}"
            )
        if kwargs:
            raise ValueError(f"{kind}: unknown arguments; got {sorted(kwargs)}")
        if sum(c is not None for c in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError(
                f"{kind}: expected at most one of clipnorm, clipvalue and global_clipnorm, got "
                f"clipnorm={clipnorm}, clipvalue={clipvalue}, global_clipnorm={global_clipnorm}"
            )
        if gradient_accumulation_steps is not None and gradient_accumulation_steps < 2:
            raise ValueError(
                f"{kind}: gradient_accumulation_steps must be an integer ≥ 2 or None; got "
                f"{gradient_accumulation_steps}"
            )
        if use_ema and not 0 <= ema_momentum <= 1:
            raise ValueError(f"{kind}: ema_momentum must lie in [0, 1]; got {ema_momentum}")
        if use_ema and ema_overwrite_frequency is not None:
            if not isinstance(ema_overwrite_frequency, int) or ema_overwrite_frequency < 1:
                raise ValueError(
                    f"{kind}: ema_overwrite_frequency must be an integer ≥ 1 or None; got "
                    f"{ema_overwrite_frequency!r}"
                )
        self.name = name or naming.auto_name(kind)
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.built = False
        self._variables = []
        self._trainable_variables = []
        self._index = {}  # id of a trainable variable → its place
        self._slots = {}  # id of a trainable variable → variables made from it
        self._excluded_ids = set()
        self._excluded_names = None
        self._iterations = self.add_variable((), dtype="int32", name="iteration")
        if callable(learning_rate):  # schedules too
            self._learning_rate = learning_rate
        elif isinstance(learning_rate, (int, float)) and not isinstance(learning_rate, bool):
            self._learning_rate = self.add_variable(
                (), initializers.Constant(float(learning_rate)), name="learning_rate"
            )
        else:
            raise ValueError(
                f"{kind}: learning_rate must be a float, a LearningRateSchedule or a callable; "
                f"got {learning_rate!r}"
            )

    # -- variables ---------------------------------------------------------------------------

    def __setattr__(self, name, value):
        if isinstance(value, backend.Variable) and not any(v is value for v in self._variables):
            self._variables.append(value)
        super().__setattr__(name, value)

    def build(self, variables):
        """Create the slots for `variables`; subclasses add theirs after calling this."""
        if self.use_ema:
            self._averages = self.add_optimizer_variables(variables, "average")
        if self.gradient_accumulation_steps:
            self._accumulated_gradients = self.add_optimizer_variables(
                variables, "gradient_accumulator"
            )
        self._index = {id(v): i for i, v in enumerate(variables)}
        self._trainable_variables = list(variables)
        self.built = True

    def add_variable(
        self, shape, initializer="zeros", dtype=None, aggregation="none", layout=None, name=None
    ):
        """A new variable of the optimizer's own state."""
        with backend.name_scope(self.name):
            variable = backend.Variable(
                initializers.get(initializer),
                shape=tuple(shape),
                dtype=dtype or backend.floatx(),
                trainable=False,
                aggregation=aggregation,
                layout=layout,
                name=name,
            )
        self._variables.append(variable)
        return variable

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        """A slot of the shape and dtype of `reference_variable`, named after its path."""
        path = (reference_variable.path or reference_variable.name).replace("/", "_")
        slot = self.add_variable(
            reference_variable.shape,
            initializer,
            reference_variable.dtype,
            name=f"{path}_{name or 'var'}",
        )
        self._slots.setdefault(id(reference_variable), []).append(slot)
        return slot

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        """One slot per variable and name; a list for one name, a tuple of lists for a list."""
        names = [name] if isinstance(name, str) else list(name)
        if isinstance(initializer, (list, tuple)):
            inits = list(initializer)
        else:
            inits = [initializer] * len(names)
        if len(names) != len(inits):
            raise ValueError(
                f"{type(self).__name__}: expected one initializer per name, got {names} and {inits}"
            )
        slots = tuple([] for _ in names)
        for variable in trainable_variables:
            for slot, slot_name, init in zip(slots, names, inits, strict=True):
                slot.append(self.add_variable_from_reference(variable, slot_name, init))
        return slots[0] if isinstance(name, str) else slots

    @property
    def variables(self):
        """All state, in the order in which it is saved."""
        return list(self._variables)

    @property
    def iterations(self):
        """Number of updates so far."""
        if self.gradient_accumulation_steps:
            return ops.floor_divide(self._iterations.value, self.gradient_accumulation_steps)
        return self._iterations

    def _get_variable_index(self, variable):
        try:
            return self._index[id(variable)]
        except KeyError:
            raise ValueError(
                f"{type(self).__name__}: unknown variable {variable.path}; expected one of the "
                f"{len(self._index)} variables that the optimizer was built with. Likely cause: "
                "the model changed after compile(), or the optimizer belongs to another model. "
                "Use a new optimizer"
            ) from None

    # -- learning rate -----------------------------------------------------------------------

    @property
    def learning_rate(self):
        rate = self._learning_rate
        if isinstance(rate, LearningRateSchedule):
            return rate(self._iterations.value)
        if isinstance(rate, backend.Variable):
            return rate
        return rate()

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        if callable(learning_rate) and not isinstance(learning_rate, backend.Variable):
            if isinstance(self._learning_rate, backend.Variable):
                self._variables = [v for v in self._variables if v is not self._learning_rate]
            self._learning_rate = learning_rate
        elif isinstance(self._learning_rate, backend.Variable):
            self._learning_rate.assign(learning_rate)
        else:
            raise TypeError(
                f"{type(self).__name__}: the learning rate follows {self._learning_rate!r} and "
                "cannot be set; create the optimizer with a float to set it later"
            )

    # -- one step ----------------------------------------------------------------------------

    def update_step(self, gradient, variable, learning_rate):
        """Update `variable` and its slots; every optimizer defines it."""
        raise NotImplementedError(
            f"{type(self).__name__}: an optimizer must define "
            "update_step(gradient, variable, learning_rate)"
        )

    def assign(self, variable, value):
        variable.assign(value)

    def assign_add(self, variable, value):
        variable.assign_add(value)

    def assign_sub(self, variable, value):
        variable.assign_sub(value)

    def apply_gradients(self, grads_and_vars):
        """`apply` for pairs (gradient, variable)."""
        pairs = list(grads_and_vars)
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            raise ValueError(
                f"{type(self).__name__}: apply_gradients expected pairs (gradient, variable), got "
                f"{pairs}; write apply_gradients(zip(gradients, variables)) or "
                "apply(gradients, variables)"
            )
        grads, variables = zip(*pairs, strict=True) if pairs else ((), ())
        self.apply(grads, variables)
        return self._iterations

    def apply(self, grads, trainable_variables=None):
        """Update the variables by their gradients.

        Args:
            grads: list of tensors; None entries are left out with a warning.
            trainable_variables: the variables; default those of `build`.
        """
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is None:
            if not self.built:
                raise ValueError(
                    f"{type(self).__name__}: apply(grads) without variables needs a built "
                    "optimizer; call optimizer.build(variables) first"
                )
            trainable_variables = self._trainable_variables
        trainable_variables = list(trainable_variables)
        if len(grads) != len(trainable_variables):
            raise ValueError(
                f"{type(self).__name__}: expected one gradient per variable, got {len(grads)} "
                f"gradients and {len(trainable_variables)} variables"
            )
        if not self.built:
            self.build(trainable_variables)
        for variable in trainable_variables:
            self._get_variable_index(variable)
        pairs = self._with_gradient(grads, trainable_variables)
        grads = [ops.cast(g, v.dtype) for g, v in pairs]
        variables = [v for _, v in pairs]
        scaled = grads
        if self.loss_scale_factor is not None:
            scaled = [g / self.loss_scale_factor for g in grads]
        if self.gradient_accumulation_steps:
            self._accumulate_and_update(scaled, variables)
        else:
            self._update(scaled, variables, grads)
        if self.use_ema:
            self._update_averages()
        for variable in variables:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable.value))
        self._iterations.assign_add(1)

    def _with_gradient(self, grads, variables):
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        missing = [v.path for g, v in zip(grads, variables, strict=True) if g is None]
        if not pairs:
            raise ValueError(
                f"{type(self).__name__}: no gradients for any variable of {missing}. Likely "
                "cause: the loss does not depend on them"
            )
        if missing:
            warnings.warn(
                f"{type(self).__name__}: no gradients for the variables {missing}. Likely cause: "
                "the loss does not depend on them",
                stacklevel=4,
            )
        return pairs

    def _update(self, grads, variables, unscaled=None):
        touched = []  # of the variables whose other rows stay as they are
        for gradient, variable in zip(unscaled or grads, variables, strict=True):
            if self.lazy_embeddings and variable.is_embedding:
                rows = index.nonzero_rows(gradient)
                touched += [(v, rows) for v in (variable, *self._slots.get(id(variable), ()))]

        def update():
            self._apply_weight_decay(variables)
            self._backend_update_step(self._clip_gradients(grads), variables, self.learning_rate)

        state.keep_rows(touched, update)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            self.update_step(gradient, variable, learning_rate)

    def _accumulate_and_update(self, grads, variables):
        steps = self.gradient_accumulation_steps
        due = ops.equal((self._iterations.value + 1) % steps, 0)
        sums = [self._accumulated_gradients[self._get_variable_index(v)] for v in variables]
        totals = [g + s.value for g, s in zip(grads, sums, strict=True)]
        accumulators = {id(s) for s in self._accumulated_gradients}
        held = [v for v in self.variables if id(v) not in accumulators] + variables
        state.keep_if(due, held, lambda: self._update([t / steps for t in totals], variables))
        for accumulator, total in zip(sums, totals, strict=True):
            accumulator.assign(ops.where(due, ops.zeros_like(total), total))

    # -- clipping, decay, averages -----------------------------------------------------------

    def _clip_gradients(self, grads):
        if self.clipnorm:
            return [g * self._norm_scale([g], self.clipnorm) for g in grads]
        if self.global_clipnorm:
            scale = self._norm_scale(grads, self.global_clipnorm)
            return [g * ops.cast(scale, g.dtype) for g in grads]
        if self.clipvalue:
            return [ops.clip(g, -self.clipvalue, self.clipvalue) for g in grads]
        return grads

    @staticmethod
    def _norm_scale(grads, bound):
        """min(1, bound / ‖grads‖); the norm of zero gradients stays differentiable."""
        norm = ops.sqrt(sum((ops.sum(ops.square(g)) for g in grads), start=0.0))
        return bound / ops.maximum(norm, bound)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Leave variables out of weight decay: by object, or by a pattern in their names.

        Raises:
            ValueError: the optimizer is built already.
        """
        if self.built:
            raise ValueError(
                f"{type(self).__name__}: exclude_from_weight_decay() must be called before the "
                "optimizer is built"
            )
        self._excluded_ids = {id(v) for v in var_list or ()}
        self._excluded_names = re.compile("|".join(var_names)) if var_names else None

    def _use_weight_decay(self, variable):
        if id(variable) in self._excluded_ids:
            return False
        pattern = self._excluded_names
        return pattern is None or pattern.search(variable.name) is None

    def _apply_weight_decay(self, variables):
        if self.weight_decay is None:
            return
        for variable in variables:
            if self._use_weight_decay(variable):
                factor = ops.cast(self.learning_rate, variable.dtype) * self.weight_decay
                variable.assign(variable.value - variable.value * factor)

    def _update_averages(self):
        # the first average is the weights themselves
        momentum = ops.where(ops.equal(self.iterations, 0), 0.0, self.ema_momentum)
        for variable, average in zip(self._trainable_variables, self._averages, strict=True):
            m, value = ops.cast(momentum, variable.dtype), variable.value
            if self.lazy_embeddings and variable.is_embedding and backend.is_tracing():
                value = _apart(value)
            average.assign(m * average.value + (1.0 - m) * value)
        if self.ema_overwrite_frequency:
            due = ops.equal((self.iterations + 1) % self.ema_overwrite_frequency, 0)
            for variable, average in zip(self._trainable_variables, self._averages, strict=True):
                variable.assign(ops.where(due, average.value, variable.value))

    def finalize_variable_values(self, var_list):
        """At the end of training: the moving averages become the weights, if they are kept."""
        if self.use_ema and self.built:
            for variable in var_list:
                if id(variable) in self._index:
                    variable.assign(self._averages[self._index[id(variable)]].value)

    def scale_loss(self, loss):
        """The loss to differentiate: multiplied by the loss scale, if there is one."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    # -- stateless form, saving --------------------------------------------------------------

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        """New (trainable_variables, optimizer_variables) as tensors; no variable changes."""
        if not self.built:
            raise ValueError(
                f"{type(self).__name__}: stateless_apply() needs a built optimizer; call "
                "optimizer.build(variables) first"
            )
        held = self._trainable_variables + self.variables
        values = list(trainable_variables) + list(optimizer_variables)
        if len(held) != len(values):
            raise ValueError(
                f"{type(self).__name__}: expected {len(self._trainable_variables)} trainable and "
                f"{len(self.variables)} optimizer values, got {len(trainable_variables)} and "
                f"{len(optimizer_variables)}"
            )
        new = state.stateless(held, values, lambda: self.apply(grads))[1]
        count = len(self._trainable_variables)
        return new[:count], new[count:]

    def set_weights(self, weights):
        """Assign all `variables` from arrays in their order."""
        if not self.built:
            raise ValueError(
                f"{type(self).__name__}: set_weights() needs a built optimizer; call "
                "optimizer.build(variables) first"
            )
        for variable, weight in zip(self.variables, weights, strict=True):
            if tuple(variable.shape) != tuple(weight.shape):
                raise ValueError(
                    f"{type(self).__name__}: wrong shape for {variable.path}; expected "
                    f"{tuple(variable.shape)}, got {tuple(weight.shape)}"
                )
            variable.assign(weight)

    def save_own_variables(self, store):
        for i, variable in enumerate(self.variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store):
        variables = self.variables
        if len(store.keys()) != len(variables):
            warnings.warn(
                f"{type(self).__name__}: its state is not loaded; expected {len(variables)} "
                f"variables, got {len(store.keys())} in the file. Likely cause: the optimizer is "
                "not built, or the file belongs to another model",
                stacklevel=2,
            )
            return
        for i, variable in enumerate(variables):
            variable.assign(store[str(i)])

    def get_config(self):
        rate = self._learning_rate
        if isinstance(rate, backend.Variable):
            rate = float(rate.numpy())
        else:
            rate = serialization_lib.serialize_keras_object(rate)
        config = {
            "name": self.name,
            "learning_rate": rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }
        return config | ({"lazy_embeddings": True} if self.lazy_embeddings else {})

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        if isinstance(config.get("learning_rate"), dict):
            config["learning_rate"] = serialization_lib.deserialize_keras_object(
                config["learning_rate"], custom_objects=custom_objects
            )
        return cls(**config)


def _apart(value):
    """The value, such that what is made of it is no part of the update, which visits few rows."""
    return registry.apply(registry.REGISTRY["barrier"], (value, value), {})[0]
