"""Sequential: a chain of layers."""

from __future__ import annotations

import copy

from hornbeam.backend import tree
from hornbeam.layers.calling import get_keras_mask, signature
from hornbeam.layers.core.input_layer import InputLayer
from hornbeam.layers.layer import Layer
from hornbeam.models.functional import Functional
from hornbeam.models.model import Model, positional_parameters
from hornbeam.saving import object_registration, serialization_lib
from hornbeam.utils import tracking


class Sequential(Model):
    """A chain of layers, each with one input and one output.

    It is built when its input shape is known: from a first `Input`, or from the first data.

    Args:
        layers: list of layers; more can be added by `add`.
        trainable: whether the variables are trained.
        name: name.

    Example:

    >>> import hornbeam as keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model.output_shape
    (None, 3)
    """

    def __new__(cls, *args, **kwargs):
        return Layer.__new__(cls, *args, **kwargs)

    def __init__(self, layers=None, trainable=True, name=None):
        self._init_model(trainable=trainable, name=name)
        self._set_functional(None)
        for layer in layers or []:
            self.add(layer, rebuild=False)
        if layers:
            self._maybe_rebuild()

    def _set_functional(self, model):
        # Its layers are ours already.
        with tracking.DotNotTrackScope():
            self._functional = model
        self._reset_functions()

    def add(self, layer, rebuild=True):
        """Append a layer (or the `KerasTensor` of an `Input`)."""
        if not self._layers and getattr(layer, "_input_shape_arg", None) is not None:
            self.add(InputLayer(shape=layer._input_shape_arg))
        history = getattr(layer, "_keras_history", None)
        if history is not None and isinstance(history[0], InputLayer):
            layer = history[0]
        if not isinstance(layer, Layer):
            raise ValueError(
                f"Sequential '{self.name}': expected a layer, got {layer!r} of type "
                f"{type(layer).__name__}"
            )
        if any(layer.name == other.name and layer is not other for other in self._layers):
            raise ValueError(
                f"Sequential '{self.name}': two layers have the name '{layer.name}'; names must be "
                "unique"
            )
        if isinstance(layer, InputLayer) and self._layers:
            if isinstance(self._layers[0], InputLayer):
                raise ValueError(
                    f"Sequential '{self.name}': the input shape is {self._layers[0].batch_shape} "
                    "already; a second Input cannot be added"
                )
        self._layers.append(layer)
        self._tracker.seen["layers"].add(id(layer))
        if rebuild and self._functional is not None:
            self._connect(self._functional.inputs[0], self._functional.outputs[0], [layer])
        elif rebuild:
            self._maybe_rebuild()
        else:
            self.built = False
            self._set_functional(None)

    def pop(self, rebuild=True):
        """Remove the last layer and return it."""
        layer = self._layers.pop()
        self._tracker.seen["layers"].discard(id(layer))
        self.built = False
        self._set_functional(None)
        if rebuild and self._layers:
            self._maybe_rebuild()
        return layer

    def _maybe_rebuild(self):
        self.built = False
        self._set_functional(None)
        first = self._layers[0]
        if len(self._layers) > 1:
            if isinstance(first, InputLayer):
                self.build(first.batch_shape)
            elif isinstance(first, Functional) or getattr(first, "_functional", None):
                self.build(first.input_shape)

    def _lock_state(self):
        """Layers may be added at any time."""

    def build(self, input_shape=None):
        """Connect the layers for inputs of this shape (with the batch axis)."""
        if not isinstance(input_shape, (tuple, list)) or any(
            not (d is None or isinstance(d, int)) for d in input_shape
        ):
            return  # several inputs: built by the first call
        input_shape = tuple(input_shape)
        if not self._layers:
            raise ValueError(f"Sequential '{self.name}': no layers to build; call `add(layer)`")
        first = self._layers[0]
        if isinstance(first, InputLayer):
            if first.batch_shape != input_shape:
                raise ValueError(
                    f"Sequential '{self.name}': the input shape is {first.batch_shape} already, "
                    f"got {input_shape}"
                )
        else:
            first = InputLayer(batch_shape=input_shape, dtype=first.compute_dtype)
            self._layers.insert(0, first)
            self._tracker.seen["layers"].add(id(first))
        self._connect(first.output, first.output, self._layers[1:])

    def _connect(self, inputs, x, layers):
        """Call `layers` on the symbolic `x` in turn; make the chain from `inputs` the model."""
        self._set_functional(None)
        for layer in layers:
            try:
                x = layer(x)
            except NotImplementedError:
                return  # no shape inference: the layers are run one by one
            except TypeError as error:
                parameters = positional_parameters(layer.call)
                required = [p.name for p in parameters if p.default is p.empty]
                if len(required) != 1:
                    raise ValueError(
                        f"Sequential '{self.name}': layers must take one positional argument; "
                        f"{type(layer).__name__} '{layer.name}' takes {required}"
                    ) from error
                raise
        self._set_functional(Functional(inputs=inputs, outputs=x))
        self.built = True

    def call(self, inputs, training=None, mask=None, **kwargs):
        if self._functional is not None:
            return self._functional.call(inputs, training=training, mask=mask, **kwargs)
        x = inputs
        for layer in self.layers:
            extra = {}
            parameters = signature(type(layer).call).parameters
            if "mask" in parameters:
                extra["mask"] = mask
            if "training" in parameters and training is not None:
                extra["training"] = training
            x = layer(x, **extra)
            mask = tree.map_structure(get_keras_mask, x)
        return x

    def compute_mask(self, inputs, previous_mask):
        return None  # the layers inside attach their masks themselves

    @property
    def layers(self):
        """The layers, without the input."""
        layers = list(self._layers)
        return layers[1:] if layers and isinstance(layers[0], InputLayer) else layers

    @layers.setter
    def layers(self, _):
        raise AttributeError("Sequential.layers: use `add()` and `pop()`")

    def compute_output_spec(self, inputs, training=None, mask=None, **kwargs):
        if self._functional is not None:
            return self._functional.compute_output_spec(inputs, training=training, mask=mask)
        return super().compute_output_spec(inputs, training=training, mask=mask)

    def compute_output_shape(self, input_shape):
        if self._functional is not None:
            return self._functional.compute_output_shape(input_shape)
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def _part(self, name):
        if self._functional is None:
            raise AttributeError(
                f"Sequential '{self.name}' has no `{name}` yet; give it an Input or call it on data"
            )
        return getattr(self._functional, name)

    @property
    def input_shape(self):
        """Shape of the input."""
        return self._part("input_shape")

    @property
    def output_shape(self):
        """Shape of the output."""
        return self._part("output_shape")

    @property
    def inputs(self):
        """Flat list of the symbolic inputs."""
        return self._part("inputs")

    @property
    def outputs(self):
        """Flat list of the symbolic outputs."""
        return self._part("outputs")

    @property
    def input(self):
        return self._part("inputs")[0]

    @property
    def output(self):
        return self._part("outputs")[0]

    @property
    def input_dtype(self):
        first = self._layers[0] if self._layers else None
        return first.dtype if isinstance(first, InputLayer) else super().input_dtype

    def get_config(self):
        config = Model.get_config(self)
        config["layers"] = [
            serialization_lib.serialize_keras_object(layer) for layer in self._layers
        ]
        if self._functional is not None:
            config["build_input_shape"] = self._layers[0].batch_shape
        return copy.deepcopy(config)

    _config_omit = (*Model._config_omit, "layers")

    @classmethod
    def from_config(cls, config, custom_objects=None):
        if not isinstance(config, dict) or "name" not in config or "layers" not in config:
            raise ValueError(
                f"Sequential: expected a config with the keys 'name' and 'layers', got {config!r}"
            )
        model = cls(name=config["name"])
        for layer_config in config["layers"]:
            layer = serialization_lib.deserialize_keras_object(
                layer_config, custom_objects=custom_objects
            )
            model.add(layer, rebuild=False)
        if model._layers:
            model._maybe_rebuild()
        shape = config.get("build_input_shape")
        if model._functional is None and isinstance(shape, (tuple, list)) and model._layers:
            model.build(shape)
        if config.get("trainable") is False:
            model.trainable = False
        return model


object_registration.register_builtin(Sequential, "keras")
object_registration.register_builtin(Sequential, "keras.models")
