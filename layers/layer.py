"""Layer: state, the computation on it, and everything around a call (`keras.Layer`)."""

from __future__ import annotations

import contextvars
import inspect
import warnings

from hornbeam import activations, backend, dtype_policies, regularizers
from hornbeam.backend import scope, symbolic, tree
from hornbeam.layers import input_spec as input_spec_lib
from hornbeam.layers.calling import (
    Call,
    align_shapes,
    as_shape,
    get_keras_mask,
    init_parameters,
    is_concrete,
    is_tensor_or_symbolic,
    known_shape,
    map_shapes,
    recording_build,
    set_keras_mask,
    strip_shape,
)
from hornbeam.layers.layer_state import LayerState
from hornbeam.saving import serialization_lib

#: `training` of the innermost running layer; None outside of any layer.
_running: contextvars.ContextVar = contextvars.ContextVar("running layer", default=None)


class Layer(LayerState):
    """A callable with state: variables, sublayers, metrics, random seeds.

    Subclasses make sublayers in `__init__`, variables in `build(input_shape)` (with `add_weight`),
    and compute in `call(inputs, …)`. A `call` with an argument `training` or `mask` gets them
    without the caller's help.

    Args:
        activity_regularizer: penalty on the outputs.
        trainable: whether the variables are trained.
        dtype: dtype or policy of computation and variables; the global policy when None.
        autocast: cast floating point inputs to the compute dtype.
        name: name; made from the class's name when None.

    Example:

    >>> import hornbeam as keras
    >>> class Scale(keras.Layer):
    ...     def build(self, input_shape):
    ...         self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")
    ...     def call(self, inputs):
    ...         return inputs * self.factor
    >>> Scale()(keras.ops.ones((2, 3))).shape
    (2, 3)
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = recording_build(cls.__dict__["build"])

    def __init__(
        self,
        *,
        activity_regularizer=None,
        trainable=True,
        dtype=None,
        autocast=True,
        name=None,
        **kwargs,
    ):
        self._initialize_tracker()
        super().__init__(name=name)
        self._dtype_policy = dtype_policies.get(dtype)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        input_dim, input_shape = kwargs.pop("input_dim", None), kwargs.pop("input_shape", None)
        if input_dim is not None:
            input_shape = (input_dim,)
        if input_shape is not None:
            warnings.warn(
                f"{type(self).__name__}: `input_shape`/`input_dim` are of an older style; "
                "begin a Sequential model with an `Input(shape)` instead",
                stacklevel=3,
            )
            self._input_shape_arg = tuple(input_shape)
        if kwargs:
            raise ValueError(f"{type(self).__name__}: unknown arguments {sorted(kwargs)}")
        if not isinstance(trainable, bool):
            raise ValueError(
                f"{type(self).__name__}: `trainable` must be a bool, got {trainable!r}"
            )
        self.autocast = autocast
        self.built = False
        self._trainable = trainable
        self._called = False
        self._path = None
        self._parent_path = None
        self._input_spec = None
        self._build_shapes_dict = None
        self._supports_masking = type(self).compute_mask is not Layer.compute_mask
        self._convert_input_args = True
        self._allow_non_tensor_positional_args = False
        self._initialized = True

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    # --- building -------------------------------------------------------------------------------

    def build(self, input_shape):
        """Create the variables. Called once, with the shape of the first input."""
        self._check_super_called()
        if type(self).build is Layer.build and any(not layer.built for layer in self._layers):
            warnings.warn(
                f"{type(self).__name__} '{self.name}': `build()` was called, but the layer has no "
                "`build()` of its own and its sublayers are not built yet",
                stacklevel=3,
            )

    def _maybe_build(self, call):
        if self.built:
            return
        shapes = call.shapes()
        with self._open_name_scope():
            if type(self).build is not Layer.build:
                self.build(**align_shapes(type(self), "build", shapes, call))
                return
            if any(not layer.built for layer in self._layers):
                # Sublayers are built by a run on shapes alone.
                try:
                    args, kwargs = tree.map_structure(_shape_only, (call.args, call.kwargs))
                    symbolic.infer(self.call, *args, **kwargs)
                except Exception:
                    if call.eager:
                        return  # the call itself will build them, or show the error
                    raise
            self.build(next(iter(shapes.values()), None))

    def _build_at_init(self):
        """Mark a layer without variables as built, unless a subclass has a `build()`."""
        if type(self).build is Layer.build:
            self.built = True
            self._lock_state()

    def _post_build(self):
        """Called after `build()`; for subclasses."""

    @property
    def path(self):
        """Name with the names of the layers around it, once built."""
        return self._path

    def get_build_config(self):
        """What `build_from_config` needs to create the variables again."""
        shapes = self._build_shapes_dict
        if shapes is None:
            return None
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": dict(shapes)}

    def build_from_config(self, config):
        """Build from what `get_build_config` returned."""
        if not config:
            return
        if "input_shape" in config:
            self.build(as_shape(config["input_shape"]))
        elif "shapes_dict" in config:
            self.build(**{k: as_shape(v) for k, v in config["shapes_dict"].items()})

    # --- calling --------------------------------------------------------------------------------

    @property
    def supports_masking(self):
        """Whether the layer passes masks on (or makes new ones) by `compute_mask`."""
        return self._supports_masking

    @supports_masking.setter
    def supports_masking(self, value):
        self._supports_masking = value

    @property
    def input_spec(self):
        """`InputSpec`(s) that the first argument of a call must fit."""
        return self._input_spec

    @input_spec.setter
    def input_spec(self, value):
        self._input_spec = value

    def compute_mask(self, inputs, previous_mask):
        """The mask of the outputs; by default the mask of the inputs."""
        return previous_mask

    def call(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} does not implement `call()`")

    def __call__(self, *args, **kwargs):
        self._check_super_called()
        self.__dict__["_called"] = True
        given = args, kwargs
        if self._convert_input_args:
            args, kwargs = tree.map_structure(self._convert_input, (args, kwargs))
        if not self._allow_non_tensor_positional_args:
            for arg in tree.flatten(args):
                if arg is not None and not is_tensor_or_symbolic(arg):
                    raise ValueError(
                        f"{type(self).__name__} '{self.name}': only tensors may be positional "
                        f"arguments, got {arg!r} of type {type(arg).__name__}; pass it by name"
                    )
        call = Call(self, args, kwargs)
        self._assert_input_compatibility(call.first)
        if not self.built:
            self._maybe_build(call)
            self._assert_input_compatibility(call.first)  # `build()` may have narrowed the spec

        outer = _running.get()
        if outer is None:
            self._clear_losses()
        training = call.training(outer)
        token = _running.set((training,))
        try:
            previous_mask = call.fill_masks()
            with self._open_name_scope(), self._autocast_scope():
                if symbolic.any_symbolic((args, call.kwargs)):
                    outputs = self.compute_output_spec(*args, **call.kwargs)
                else:
                    outputs = self.call(*args, **call.kwargs)
                    if self.activity_regularizer is not None:
                        self._add_activity_loss(outputs)
            if not self.built:
                self.built = True
            if self.supports_masking:
                self._set_masks(call.first, outputs, previous_mask)
            elif any(m is not None for m in tree.flatten(previous_mask)):
                warnings.warn(
                    f"{type(self).__name__} '{self.name}': the input has a mask, but the layer "
                    "does not support masking; layers after it will not see the mask",
                    stacklevel=2,
                )
        finally:
            _running.reset(token)
        if symbolic.any_symbolic(given):
            symbolic.CallNode(self, given[0], given[1], outputs)
        return outputs

    def _convert_input(self, x):
        y = self._dtype_policy.convert_input(x, self.autocast, self.input_dtype)
        if y is not x:
            mask = get_keras_mask(x)
            if mask is not None:
                set_keras_mask(y, mask)
        return y

    def _assert_input_compatibility(self, inputs):
        spec = self.input_spec
        if spec:
            who = f"{type(self).__name__} '{self.name}'"
            input_spec_lib.assert_input_compatibility(spec, inputs, who)

    def _autocast_scope(self):
        """Variables are read in this dtype inside `call`."""
        dtype = self.compute_dtype
        if not self.autocast or not backend.dtypes.is_float(dtype):
            dtype = None
        return scope.autocast(dtype)

    def _add_activity_loss(self, outputs):
        for output in tree.flatten(outputs):
            if not is_concrete(output):
                continue
            loss = self.activity_regularizer(output)
            if output.ndim > 0:  # the same strength for every batch size
                loss = loss / max(output.shape[0], 1)
            self.add_loss(loss)

    def _set_masks(self, inputs, outputs, previous_mask):
        outputs = tree.flatten(outputs)
        if all(get_keras_mask(x) is not None for x in outputs):
            return
        masks = self.compute_mask(inputs, previous_mask)
        if masks is None:
            return
        for output, mask in zip(outputs, tree.flatten(masks), strict=False):
            if mask is not None and get_keras_mask(output) is None:
                set_keras_mask(output, mask)

    def stateless_call(
        self, trainable_variables, non_trainable_variables, *args, return_losses=False, **kwargs
    ):
        """Call with these values in place of the variables', which stay as they are.

        Args:
            trainable_variables: values, one for each of `self.trainable_variables`.
            non_trainable_variables: values, one for each of `self.non_trainable_variables`.
            *args: arguments of the call.
            return_losses: also return the losses of the call.
            **kwargs: arguments of the call.

        Returns:
            `(outputs, non_trainable_variables)` with the new values of the latter, and the losses
            if asked for.
        """
        self._check_super_called()
        if not self.built:
            raise ValueError(
                f"{type(self).__name__} '{self.name}': stateless_call needs a built layer; call it "
                "on data first"
            )
        groups = (
            ("trainable_variables", self.trainable_variables, trainable_variables),
            ("non_trainable_variables", self.non_trainable_variables, non_trainable_variables),
        )
        mapping = []
        for name, variables, values in groups:
            if len(variables) != len(values):
                raise ValueError(
                    f"{type(self).__name__}.stateless_call: expected {len(variables)} values in "
                    f"`{name}`, got {len(values)}"
                )
            mapping += zip(variables, values, strict=True)
        before = [variable.value for variable, _ in mapping]
        try:
            for variable, value in mapping:
                variable.assign(value)
            outputs = self(*args, **kwargs)
            losses = list(self.losses)
            state = [variable.value for variable in self.non_trainable_variables]
        finally:
            for (variable, _), value in zip(mapping, before, strict=True):
                variable.assign(value)
            self._clear_losses()
        return (outputs, state, losses) if return_losses else (outputs, state)

    def compute_output_spec(self, *args, **kwargs):
        """`KerasTensor`s with the shapes and dtypes of the outputs."""
        if type(self).compute_output_shape is Layer.compute_output_shape:
            losses = list(self._losses)
            outputs = symbolic.infer(self.call, *args, **kwargs)
            self._restore_losses(losses)
            return outputs
        call = Call(self, args, dict(kwargs))
        shapes = align_shapes(type(self), "compute_output_shape", call.shapes(), call)
        shape = self.compute_output_shape(**shapes)
        return map_shapes(lambda s: backend.KerasTensor(s, dtype=self.compute_dtype), shape)

    def _restore_losses(self, losses):
        self._clear_losses()
        self._losses.extend(losses)

    def compute_output_shape(self, *args, **kwargs):
        """Shape(s) of the outputs for the shape(s) of the inputs; None is an unknown dimension."""
        shapes = inspect.signature(self.call).bind(*args, **strip_shape(kwargs)).arguments
        tensors = {
            name: map_shapes(lambda s: backend.KerasTensor(s, dtype=self.compute_dtype), shape)
            for name, shape in shapes.items()
        }
        if not self.built:
            names = {f"{name}_shape": shape for name, shape in shapes.items()}
            if type(self).build is not Layer.build:
                self.build(**align_shapes(type(self), "build", names, None))
        outputs = Layer.compute_output_spec(self, **tensors)
        return tree.map_structure(lambda t: tuple(t.shape), outputs)

    # --- losses ---------------------------------------------------------------------------------

    def add_loss(self, loss):
        """Add scalar(s), computed in `call()`, to the loss of the model."""
        for x in tree.flatten(loss):
            if not is_concrete(x):
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': add_loss takes tensors computed in "
                    f"`call()`, got {x!r} of type {type(x).__name__}"
                )
            self._losses.append(x)

    @property
    def losses(self):
        """Losses of the last call (`add_loss`, activity) and the penalties of the weights."""
        losses = []
        for layer in self._flatten_layers():
            losses.extend(layer._losses)
        for variable in self.trainable_weights:
            if getattr(variable, "regularizer", None) is not None:
                losses.append(variable.regularizer(variable))
        return losses

    def _clear_losses(self):
        self._losses.clear()
        for layer in self._layers:
            layer._clear_losses()

    # --- configuration --------------------------------------------------------------------------

    def get_config(self):
        """Arguments of `__init__` from which `from_config` makes an equal layer.

        The layers of this package are described by the attributes that bear the names of their
        arguments; a class without `get_config()` by the arguments it was made with.
        """
        self._check_super_called()
        config = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialization_lib.serialize_keras_object(self._policy_with_sublayers()),
        }
        if self.activity_regularizer is not None or self._writes_activity_regularizer:
            config["activity_regularizer"] = serialization_lib.serialize_keras_object(
                self.activity_regularizer
            )
        owner = next(c for c in type(self).__mro__ if c.__module__.startswith("hornbeam."))
        if owner.__dict__.get("_is_base", False):
            if type(self).get_config is Layer.get_config:
                config = {**self._captured_config(), **config}
            return config
        for name in init_parameters(owner):
            if name not in config and name not in self._config_omit:
                config[name] = _serialize_argument(getattr(self, name))
        return config

    def _policy_with_sublayers(self):
        """The policy to write: with an entry for each sublayer that is quantized."""
        policy = self._dtype_policy
        for layer in self._flatten_layers(include_self=False):
            if layer.quantization_mode is not None:
                if not isinstance(policy, dtype_policies.DTypePolicyMap):
                    policy = dtype_policies.DTypePolicyMap(policy)
                policy = policy.with_entry(layer.path, layer._own_policy())
        return policy

    #: Whether `activity_regularizer` is written even if it is None (as Keras does for some layers).
    _writes_activity_regularizer = False
    #: A class made to be subclassed: its subclasses have arguments of their own.
    _is_base = True
    #: Arguments of `__init__` that are not part of the configuration.
    _config_omit: tuple = ("activity_regularizer", "autocast")


def _shape_only(x):
    """A value of the graph being traced, which no other graph may use, as a `KerasTensor`."""
    return backend.KerasTensor(known_shape(x), x.dtype) if isinstance(x, backend.Value) else x


def _serialize_argument(value):
    if inspect.isfunction(value):
        return activations.serialize(value)
    return serialization_lib.serialize_keras_object(value)


Layer.build = recording_build(Layer.build)  # type: ignore[method-assign]


def in_training():
    """`training` of the running layer, or None outside of layers."""
    running = _running.get()
    return None if running is None else running[0]
