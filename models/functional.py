"""Functional: a model given by its symbolic inputs and outputs."""

from __future__ import annotations

import copy
import inspect
import warnings

from hornbeam import backend, ops
from hornbeam.backend import tree
from hornbeam.layers.calling import get_keras_mask, set_keras_mask
from hornbeam.layers.core.input_layer import InputLayer
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.layer import Layer
from hornbeam.models import functional_config, graph
from hornbeam.models.function import Function
from hornbeam.models.model import Model
from hornbeam.saving import object_registration
from hornbeam.utils import tracking


class Functional(Function, Model):
    """A model given by (nests of) symbolic inputs and outputs; made by `Model(inputs, outputs)`.

    Any tensor between can be an output, and any can be an input: then what computes it is not run.

    Args:
        inputs: nest of `KerasTensor`s.
        outputs: nest of `KerasTensor`s computed from them.
        name: name.
        trainable: whether the variables are trained.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.Input((4,))
    >>> h = keras.layers.Dense(3)(x)
    >>> y = keras.layers.Dense(2)(h)
    >>> keras.Model(h, y)(keras.ops.ones((1, 3))).shape
    (1, 2)
    """

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, inputs, outputs, name=None, **kwargs):
        trainable = kwargs.pop("trainable", None)
        self._check_names(inputs)
        flat = tree.flatten(inputs)
        if all(_from_history(x) for x in flat) and not all(map(graph.is_input, flat)):
            inputs, outputs = functional_config.cut(inputs, outputs)
        self._init_model(name=name, **kwargs)
        with tracking.DotNotTrackScope():
            self._set_graph(inputs, outputs)
            self._given_input_spec = None
            self._convert_input_args = False  # each input has its own dtype
            self._allow_non_tensor_positional_args = True
            self.output_names = [x._keras_history[0].name for x in self._outputs]
        if trainable is not None:
            self.trainable = trainable
        for layer in self.layers:
            self._tracker.track(layer)
        self.built = True
        self._post_build()

    @staticmethod
    def _check_names(inputs):
        if isinstance(inputs, dict):
            for key, x in inputs.items():
                if isinstance(x, backend.KerasTensor) and x.name != key:
                    warnings.warn(
                        f"Functional: the input under the key '{key}' has the name '{x.name}'; "
                        f"write Input(…, name='{key}') so that data can be given by either",
                        stacklevel=4,
                    )

    def _lock_state(self):
        """Layers beside the graph may still be attached."""

    @property
    def layers(self):
        """Layers in order of depth."""
        return [op for op in self._graph.operations if isinstance(op, Layer)]

    @layers.setter
    def layers(self, _):
        raise AttributeError("Model.layers: the attribute is reserved; use another name")

    def build(self, input_shape):
        self.built = True

    def get_build_config(self):
        return {"input_shape": None}

    def build_from_config(self, config):
        """A functional model is built from the start."""

    def call(self, inputs, training=None, mask=None, **kwargs):
        inputs = self._standardize_inputs(inputs)
        for x, m in zip(inputs, tree.flatten(mask) if mask is not None else [], strict=False):
            if m is not None:
                set_keras_mask(x, m)

        def call(operation, *args, **kw):
            if training is not None and isinstance(operation, Layer):
                kw["training"] = training
            return operation(*args, **kw)

        outputs = self._run(inputs, call)
        if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
            return outputs[0]
        return outputs

    def compute_mask(self, inputs, previous_mask):
        return None  # the layers inside attach their masks themselves

    def compute_output_spec(self, inputs, training=None, mask=None):
        return self._infer(self._standardize_inputs(inputs))

    @property
    def input(self):
        """The symbolic inputs as given."""
        return self._inputs_struct

    @property
    def output(self):
        """The symbolic outputs as given."""
        return self._outputs_struct

    @property
    def input_names(self):
        return [x.name for x in self._inputs]

    @property
    def input_shape(self):
        """Shape(s) of the inputs."""
        shapes = [tuple(x.shape) for x in self._inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self):
        """Shape(s) of the outputs."""
        shapes = tree.map_structure(lambda x: tuple(x.shape), self._outputs)
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def input_spec(self):
        if self._given_input_spec is not None:
            return self._given_input_spec
        struct = self._inputs_struct
        if isinstance(struct, dict):
            if any(tree.is_nested(x) for x in struct.values()):
                return None
            return [_spec(struct[key], key) for key in sorted(struct)]
        return [_spec(x, x._keras_history[0].name) for x in self._inputs]

    @input_spec.setter
    def input_spec(self, value):
        self._given_input_spec = value

    def _assert_input_compatibility(self, inputs):
        struct = self._inputs_struct
        if isinstance(inputs, dict) and not isinstance(struct, dict):
            inputs = self._by_name(inputs)
        super()._assert_input_compatibility(inputs)

    def _by_name(self, inputs):
        missing = [x.name for x in self._inputs if x.name not in inputs]
        if missing:
            raise ValueError(
                f"{type(self).__name__} '{self.name}': expected inputs named {self.input_names}, "
                f"got {list(inputs)}"
            )
        return [inputs[x.name] for x in self._inputs]

    def _standardize_inputs(self, inputs):
        """Flat list of tensors of the dtypes and ranks of the symbolic inputs."""
        struct = self._inputs_struct
        if isinstance(inputs, dict):
            if isinstance(struct, dict):
                inputs = {key: inputs[key] for key in struct if key in inputs}
            else:
                inputs = self._by_name(inputs)
        flat = tree.flatten(inputs)
        if len(flat) != len(self._inputs):
            raise ValueError(
                f"{type(self).__name__} '{self.name}': expected {len(self._inputs)} input(s) "
                f"{self.input_names}, got {len(flat)}"
            )
        return [self._standardize_input(x, ref) for x, ref in zip(flat, self._inputs, strict=True)]

    def _standardize_input(self, x, ref):
        if x is None:
            layer = ref._keras_history[0]
            if isinstance(layer, InputLayer) and not layer.optional:
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': input '{ref.name}' is not optional, "
                    "got None"
                )
            return None
        mask = get_keras_mask(x)
        if isinstance(x, backend.KerasTensor):
            y = x if x.dtype == ref.dtype else ops.cast(x, ref.dtype)
        else:
            y = backend.convert_to_tensor(x, dtype=ref.dtype)
        if len(y.shape) != len(ref.shape):
            if len(y.shape) == len(ref.shape) + 1 and y.shape[-1] == 1:
                y = ops.squeeze(y, axis=-1)
            elif len(y.shape) == len(ref.shape) - 1 and ref.shape[-1] == 1:
                y = ops.expand_dims(y, axis=-1)
            else:
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': input '{ref.name}' is incompatible; "
                    f"expected shape {tuple(ref.shape)}, got shape {tuple(x.shape)}"
                )
        if mask is not None and y is not x:
            set_keras_mask(y, mask)
        return y

    def get_config(self):
        if not _like_functional(type(self)):
            return Model.get_config(self)
        return copy.deepcopy(functional_config.describe(self))

    def add_loss(self, loss):
        raise NotImplementedError(
            "Functional.add_loss: losses on symbolic tensors are not supported; call `add_loss` in "
            "the `call()` of a layer"
        )


def _from_history(x):
    return isinstance(x, backend.KerasTensor) and x._keras_history is not None


def _spec(x, name):
    layer = x._keras_history[0]
    optional = isinstance(layer, InputLayer) and layer.optional
    shape = (None, *x.shape[1:]) if x.shape else ()
    return InputSpec(shape=shape, allow_last_axis_squeeze=True, name=name, optional=optional)


def _like_functional(cls):
    """Whether `cls` can be made from inputs and outputs."""
    spec = inspect.getfullargspec(cls.__init__)
    wanted = inspect.getfullargspec(Functional.__init__)
    return spec.args[1:] == wanted.args[1:] or (spec.varargs is not None and spec.varkw is not None)


object_registration.register_builtin(Functional, "keras.src.models.functional")
object_registration.register_builtin(Functional, "keras.models")
object_registration.register_builtin(Functional, "keras")
