"""Operation: a named callable that becomes a node of a functional model when called on
`KerasTensor`s (`keras.Operation`)."""

from __future__ import annotations

import inspect

from hornbeam.backend import symbolic
from hornbeam.backend.tensor import OPS
from hornbeam.saving import object_registration, serialization_lib
from hornbeam.utils import naming


class Operation:
    """A named callable with a configuration.

    Args:
        name: name; made from the class's name when None.
    """

    def __new__(cls, *args, **kwargs):
        instance = super().__new__(cls)
        # Enough to make it again, should the class not write its own `get_config()`.
        object.__setattr__(instance, "_init_args", (args, kwargs))
        return instance

    def __init__(self, name=None):
        if name is None:
            name = naming.auto_name(type(self).__name__)
        if not isinstance(name, str) or "/" in name:
            raise ValueError(
                f"{type(self).__name__}: `name` must be a string without '/', got {name!r}"
            )
        self.name = name
        self._inbound_nodes = []

    def __call__(self, *args, **kwargs):
        if symbolic.any_symbolic((args, kwargs)):
            return self.symbolic_call(*args, **kwargs)
        return self.call(*args, **kwargs)

    def call(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} does not implement `call()`")

    def symbolic_call(self, *args, **kwargs):
        outputs = self.compute_output_spec(*args, **kwargs)
        symbolic.CallNode(self, args, kwargs, outputs)
        return outputs

    def compute_output_spec(self, *args, **kwargs):
        """`KerasTensor`s with the shapes and dtypes that `call` gives for these arguments."""
        return symbolic.infer(self.call, *args, **kwargs)

    def get_config(self):
        """Arguments of `__init__` from which `from_config` makes an equal object."""
        return {"name": self.name, **self._captured_config()}

    def _captured_config(self):
        """The arguments this object was made with, as plain data."""
        args, kwargs = self._init_args
        config = {}
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        for name, value in list(bound.arguments.items())[1:]:
            kind = bound.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                config.update(value)
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                raise self._not_serializable(name, "positional arguments `*args`")
            else:
                config[name] = value
        config.pop("name", None)
        for name, value in config.items():
            try:
                config[name] = serialization_lib.serialize_keras_object(value)
            except (TypeError, ValueError) as error:
                raise self._not_serializable(name, repr(value)) from error
        return config

    def _not_serializable(self, name, value):
        return NotImplementedError(
            f"{type(self).__name__}: argument `{name}` = {value} of `__init__()` cannot be "
            "written to a config; implement `get_config()` (and `from_config()`)"
        )

    @classmethod
    def from_config(cls, config):
        """An object with the configuration that `get_config` returned."""
        config = {
            key: serialization_lib.deserialize_keras_object(value)
            if _describes_objects(value)
            else value
            for key, value in config.items()
        }
        return cls(**config)

    @property
    def input(self):
        """The input `KerasTensor`(s) of the first call on symbolic tensors."""
        return _unwrap(self._first_node("input").input_tensors)

    @property
    def output(self):
        """The output `KerasTensor`(s) of the first call on symbolic tensors."""
        return _unwrap(self._first_node("output").output_tensors)

    def _first_node(self, attribute):
        if not self._inbound_nodes:
            raise AttributeError(
                f"{type(self).__name__} '{self.name}' has no `{attribute}` yet: it was never "
                "called on symbolic tensors"
            )
        return self._inbound_nodes[0]


def _unwrap(tensors):
    return tensors[0] if len(tensors) == 1 else tensors


def _describes_objects(value):
    """Whether an argument in a config is an object's description, or a list of them."""
    if isinstance(value, (list, tuple)):
        return any(_describes_objects(x) for x in value)
    return isinstance(value, dict) and "class_name" in value and "config" in value


class OpCall(Operation):
    """One call of a public op in a functional model: tensors are arguments, the rest is config.

    Args:
        op: the op.
        attributes: its arguments that are not tensors.
        name: name; made from the op's name when None.
    """

    def __init__(self, op, attributes=None, name=None):
        super().__init__(name=name or naming.auto_name(keras_class_name(op.name)))
        self.op = op
        self.attributes = attributes or {}

    def call(self, *args, **kwargs):
        if self.op.name == "getitem" and isinstance(args[1], list):
            args = (args[0], tuple(args[1]))  # JSON has no tuples
        return self.op(*args, **kwargs, **self.attributes)

    def get_config(self):
        return {"name": self.name, **self.attributes}

    def serialized_name(self):
        home = next((m for m, names in _KERAS_HOMES.items() if self.op.name in names), "numpy")
        return f"keras.src.ops.{home}", keras_class_name(self.op.name)

    def __repr__(self):
        return f"<OpCall {self.op.name} name={self.name}>"


# Ops whose classes stand in another file of Keras than `ops/numpy.py`.
_KERAS_HOMES = {
    "core": "cast cond convert_to_tensor fori_loop map scan scatter scatter_update slice "
    "slice_update stop_gradient switch unstack vectorized_map while_loop".split(),
    "image": "affine_transform crop_images extract_patches hsv_to_rgb map_coordinates pad_images "
    "perspective_transform resize rgb_to_grayscale rgb_to_hsv".split(),
    "linalg": "cholesky det eig eigh inv lstsq lu_factor norm qr solve "
    "solve_triangular svd".split(),
    "math": "erf erfinv extract_sequences fft fft2 ifft2 in_top_k irfft istft logdet logsumexp "
    "rfft rsqrt segment_max segment_sum stft top_k".split(),
    "nn": "average_pool batch_normalization binary_crossentropy categorical_crossentropy celu conv "
    "conv_transpose ctc_decode ctc_loss depthwise_conv dot_product_attention elu gelu glu "
    "hard_shrink hard_sigmoid hard_silu hard_tanh layer_normalization leaky_relu log_sigmoid "
    "log_softmax max_pool moments multi_hot normalize one_hot polar psnr relu relu6 rms_norm selu "
    "separable_conv sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid "
    "sparsemax squareplus tanh_shrink threshold".split(),
}
_KERAS_CLASS_NAMES = {"getitem": "GetItem", "average_pool": "AvgPool", "rms_norm": "RMSNorm"}


def keras_class_name(op_name):
    """Name of Keras's Operation class for an op: `"expand_dims"` → `"ExpandDims"`."""
    known = _KERAS_CLASS_NAMES.get(op_name)
    return known or "".join(part.capitalize() for part in op_name.split("_"))


def _record(op, args, kwargs):
    """How a call of a public op on symbolic tensors becomes a node."""
    bound = op.signature.bind(*args, **kwargs)
    bound.apply_defaults()
    tensors, attributes = [], {}
    positional = True
    named = {}
    for name, value in bound.arguments.items():
        # An index may hold tensors, so all of it is an argument (as it is in Keras).
        is_tensor = name in op.input_names or op.name == "getitem"
        is_tensor = is_tensor or symbolic.any_symbolic((value,))
        if not is_tensor:
            attributes[name] = value
            positional = False
        elif positional:
            tensors.append(value)
        else:
            named[name] = value
    return OpCall(op, attributes), tuple(tensors), named


symbolic.operation_for = _record


class _OpFactory:
    """Makes the `OpCall` that a config describes."""

    def __init__(self, op):
        self.op = op

    def from_config(self, config):
        attributes = serialization_lib.deserialize_keras_object(dict(config))
        name = attributes.pop("name", None)
        known = self.op.signature.parameters
        return OpCall(self.op, {k: v for k, v in attributes.items() if k in known}, name)


def _find_op(class_name):
    wanted = class_name.lower()
    for name, op in OPS.items():
        if keras_class_name(name).lower() == wanted:
            return _OpFactory(op)
    return None


object_registration.register_resolver("keras.ops", _find_op)
