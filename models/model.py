"""Model: a layer that can be trained and saved (`keras.Model`)."""

from __future__ import annotations

import inspect
import json
import re
import warnings

from hornbeam import backend, quantizers
from hornbeam.backend import symbolic
from hornbeam.layers.calling import map_shapes
from hornbeam.layers.layer import Layer
from hornbeam.models import compiled_call
from hornbeam.models import summary as summary_lib
from hornbeam.models.training.trainer import Trainer
from hornbeam.saving import object_registration, serialization_lib
from hornbeam.saving._files import parse_json


class Model(Trainer, Layer):
    """A layer with `fit`, `evaluate`, `predict`, `save` and `summary`.

    `Model(inputs, outputs)` with symbolic tensors makes a functional model; a subclass makes its
    layers in `__init__` and connects them in `call`.

    Args:
        inputs: nest of `KerasTensor`s.
        outputs: nest of `KerasTensor`s computed from them.
        name: name.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.Input((4,))
    >>> model = keras.Model(x, keras.layers.Dense(2)(x))
    >>> model.count_params()
    10
    """

    _is_base = True

    def __new__(cls, *args, **kwargs):
        if cls is Model and _functional_arguments(args, kwargs):
            from hornbeam.models.functional import Functional

            return Functional.__new__(Functional, *args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args, **kwargs):
        if _functional_arguments(args, kwargs):
            from hornbeam.models.functional import Functional

            if not isinstance(self, Functional):
                _insert_functional(type(self), Functional)
            Functional.__init__(self, *args, **kwargs)
        else:
            self._init_model(*args, **kwargs)

    def _init_model(self, *args, **kwargs):
        Trainer.__init__(self)
        Layer.__init__(self, *args, **kwargs)

    def __call__(self, *args, **kwargs):
        single = compiled_call.single_array(args, kwargs)
        if single is not None:
            compiled = self.__dict__.get("_compiled_call")
            if compiled is None:
                compiled = compiled_call.CompiledCall(self, super().__call__)
                self.__dict__["_compiled_call"] = compiled
            outputs = compiled(*single)
            if outputs is not None:
                return outputs
        return super().__call__(*args, **kwargs)

    def call(self, *args, **kwargs):
        raise NotImplementedError(f"Model {type(self).__name__} does not implement `call()`")

    @property
    def layers(self):
        """The layers directly in this model."""
        return self._flatten_layers(include_self=False, recursive=False)

    @layers.setter
    def layers(self, _):
        raise AttributeError("Model.layers: the attribute is reserved; use another name")

    def get_layer(self, name=None, index=None):
        """A layer by name, or by position in `layers`."""
        layers = self.layers
        if (name is None) == (index is None):
            raise ValueError(
                f"get_layer: expected either a name or an index, got name={name}, index={index}"
            )
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"get_layer: index {index} of a model with {len(layers)} layers")
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        raise ValueError(f"get_layer: no layer '{name}'; there are {[x.name for x in layers]}")

    def summary(
        self,
        line_length=None,
        positions=None,
        print_fn=None,
        expand_nested=False,
        show_trainable=False,
        layer_range=None,
    ):
        """Print a table of the layers with shapes and numbers of parameters.

        Args:
            line_length: width of the table.
            positions: right ends of the columns, as shares of the width.
            print_fn: called with the whole text; `print` by default.
            expand_nested: show the layers of models inside.
            show_trainable: show whether a layer is trained.
            layer_range: names (or regular expressions) of the first and last layer to show.
        """
        summary_lib.print_summary(
            self,
            line_length=line_length,
            positions=positions,
            print_fn=print_fn,
            expand_nested=expand_nested,
            show_trainable=show_trainable,
            layer_range=layer_range,
        )

    def quantize(self, mode=None, config=None, filters=None, type_check=True):
        """Keep the weights of Dense, EinsumDense and Embedding layers in 8 bits.

        The layers compute with integers then (activations are quantized row by row), and files are
        a fourth of the size. What was compiled is compiled anew; weights in integers are not
        trained.

        Args:
            mode: `"int8"`; may be left out if `config` is given.
            config: a `quantizers.Int8QuantizationConfig`.
            filters: regular expression, or list of them, searched in the names of the layers, or a
                callable from layer to bool: which layers to quantize; all by default.
            type_check: leave out subclasses of these layers.

        Raises:
            ValueError: a layer is not built or quantized already; the mode is not supported.

        Example:

        >>> import hornbeam as keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model.quantize("int8")
        >>> model.layers[0].kernel.dtype
        'int8'
        """
        config = quantizers.resolve(mode, config)
        layers = [
            layer
            for layer in self._flatten_layers(include_self=False)
            if not layer._layers and _chosen(layer, filters)
        ]
        for layer in layers:
            if not layer.built:
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': quantize needs a built model; layer "
                    f"'{layer.name}' is not built, call the model on data first"
                )
            if layer.quantization_mode is not None:
                raise ValueError(f"quantize: layer '{layer.name}' is quantized already")
        kept = []
        for layer in layers:
            try:
                layer.quantize(config=config, type_check=type_check)
            except NotImplementedError:
                if layer.weights:
                    kept.append(f"{layer.name} ({type(layer).__name__})")
        self._reset_functions()
        if kept:
            warnings.warn(
                f"quantize: these layers stay in floating point: {', '.join(kept)}", stacklevel=2
            )

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """Save to a `.keras` file (or legacy `.h5`): configuration, weights, optimizer state."""
        from hornbeam import saving

        return saving.save_model(self, filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def save_weights(self, filepath, overwrite=True, **kwargs):
        """Save all weights to a `.weights.h5` file."""
        from hornbeam import saving

        return saving.save_weights(self, filepath, overwrite=overwrite, **kwargs)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Load weights that `save_weights` or `save` wrote."""
        from hornbeam import saving

        return saving.load_weights(self, filepath, skip_mismatch=skip_mismatch, **kwargs)

    def to_json(self, **kwargs):
        """Configuration as a JSON string; `kwargs` go to `json.dumps`."""
        return json.dumps(serialization_lib.serialize_keras_object(self), **kwargs)

    def __reduce__(self):
        """Pickled and deep-copied as configuration, own classes, and values of the variables."""
        own_classes = {
            type(layer).__name__: type(layer)
            for layer in self._flatten_layers()
            if not type(layer).__module__.startswith("hornbeam.")
        }
        optimizer = getattr(self, "optimizer", None)
        slots = optimizer.variables if optimizer is not None and optimizer.built else []
        return _revive, (
            serialization_lib.serialize_keras_object(self),
            own_classes,
            [v.numpy() for v in self.variables],
            [v.numpy() for v in slots],
        )

    def build_from_config(self, config):
        """Build from recorded shapes: by `build()` if the class has one, else by a symbolic run."""
        if not config:
            return
        shapes = config.get("shapes_dict") or {"input_shape": config.get("input_shape")}
        try:
            if type(self).build is not Layer.build:
                super().build_from_config(config)
            else:
                tensors = [map_shapes(backend.KerasTensor, shape) for shape in shapes.values()]
                names = [name.removesuffix("_shape") for name in shapes]
                if len(tensors) == 1:
                    self.symbolic_build(*tensors)
                else:
                    self.symbolic_build(**dict(zip(names, tensors, strict=True)))
            done = True
        except Exception:
            done = False
        self.__dict__["_build_shapes_dict"] = shapes
        if not done:
            warnings.warn(
                f"Model '{self.name}': could not be built from its build config {config}; "
                "implement `build_from_config()`",
                stacklevel=3,
            )

    def symbolic_build(self, *args, **kwargs):
        """Create all variables by a run on shapes alone."""
        symbolic.infer(lambda *a, **k: self(*a, **k), *args, **kwargs)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        from hornbeam.models import functional_config
        from hornbeam.models.functional import Functional, _like_functional

        with object_registration.CustomObjectScope(custom_objects or {}):
            keys = ("name", "layers", "input_layers", "output_layers")
            if all(key in config for key in keys) and (
                cls in (Functional, Model) or _like_functional(cls)
            ):
                return functional_config.rebuild(cls, config)
            try:
                return super().from_config(config)
            except TypeError as error:
                raise TypeError(
                    f"{cls.__name__}: could not be revived from its config: {error}; implement "
                    "`get_config()` (and `from_config()`)"
                ) from error


def _revive(config, own_classes, values, optimizer_values):
    """The model that `Model.__reduce__` took apart."""
    model = serialization_lib.deserialize_keras_object(config, custom_objects=own_classes)
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)
    if optimizer_values:
        for variable, value in zip(model.optimizer.variables, optimizer_values, strict=True):
            variable.assign(value)
    return model


def _functional_arguments(args, kwargs):
    return (
        len(args) == 2
        or (len(args) == 1 and "outputs" in kwargs)
        or ("inputs" in kwargs and "outputs" in kwargs)
    )


def _insert_functional(cls, functional):
    """Make a subclass of Model that calls `super().__init__(inputs, outputs)` a functional one."""
    for c in cls.__mro__:
        if Model in c.__bases__ and not issubclass(c, functional):
            c.__bases__ = tuple(functional if b is Model else b for b in c.__bases__)


def model_from_json(json_string, custom_objects=None):
    """The model that `to_json` described, with new weights."""
    return serialization_lib.deserialize_keras_object(
        parse_json(json_string, "model_from_json"), custom_objects=custom_objects
    )


def positional_parameters(function):
    """Parameters of a method that may be given by position, `self` excluded."""
    parameters = list(inspect.signature(function).parameters.values())
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


object_registration.register_builtin(Model, "keras")
object_registration.register_builtin(Model, "keras.models")


def _chosen(layer, filters) -> bool:
    if filters is None:
        return True
    if isinstance(filters, str):
        filters = [filters]
    if isinstance(filters, (list, tuple)):
        return any(re.search(pattern, layer.name) for pattern in filters)
    if callable(filters):
        return bool(filters(layer))
    raise TypeError(
        f"quantize: expected a regular expression, a list of them or a callable in `filters`, "
        f"got {filters!r}"
    )
