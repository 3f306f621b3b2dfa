"""Values in 8 bits with scales (`keras.quantizers`): what `model.quantize("int8")` is made of.

A quantizer maps floating point values to integers `round(x · scale)`; `integers / scale` are
about the values again.
"""

import inspect

from hornbeam import backend, ops
from hornbeam.backend.registry import op
from hornbeam.saving import object_registration, serialization_lib
from hornbeam.utils import naming


def abs_max_quantize(
    inputs, axis, value_range=(-127, 127), dtype="int8", epsilon=1e-7, to_numpy=False
):
    """Integers and the scale that spreads the largest magnitude over the range.

    `scale = value_range[1] / (max |x| + epsilon)`, `q = clip(round(x · scale))`.

    Args:
        inputs: floating point tensor.
        axis: axis or axes that share a scale.
        value_range: least and greatest integer.
        dtype: dtype of the integers.
        epsilon: keeps the scale finite where all values are zero.
        to_numpy: for Keras's signature; there is no difference here.

    Returns:
        `(integers, scale)`: the shape of `inputs`, and the same with size 1 along `axis`, in the
        dtype of `inputs`.

    Example:

    >>> import hornbeam as keras
    >>> q, scale = keras.quantizers.abs_max_quantize(keras.ops.array([[-1.0, 0.25]]), axis=-1)
    >>> q.numpy().tolist()
    [[-127, 32]]
    """
    x = ops.convert_to_tensor(inputs)
    low, high = (float(v) for v in value_range)
    last = axis in (-1, x.ndim - 1, (-1,), (x.ndim - 1,), [-1], [x.ndim - 1])
    if last and dtype == "int8" and backend.dtypes.is_float(x.dtype) and x.shape[-1:] != (0,):
        return _quantized_rows(x, low, high, float(epsilon))
    return _quantized(x, axis, low, high, dtype, epsilon)


def _quantized(x, axis, low, high, dtype, epsilon):
    scale = ops.divide(high, ops.add(ops.max(ops.abs(x), axis=axis, keepdims=True), epsilon))
    scale = ops.cast(scale, x.dtype)
    return ops.cast(ops.clip(ops.round(ops.multiply(x, scale)), low, high), dtype), scale


@op(inputs=("x",), kernel="abs_max_quantize")
def _quantized_rows(x, low, high, epsilon):
    return _quantized(x, -1, low, high, "int8", epsilon)


class Quantizer:
    """Base class: a callable from a tensor to `(integers, scale)`.

    Args:
        output_dtype: dtype of the integers.
    """

    def __init__(self, output_dtype="int8"):
        self.output_dtype = output_dtype

    def __call__(self, x):
        return x

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def get_config(self):
        raise NotImplementedError(f"{type(self).__name__}: get_config() is not implemented")


class AbsMaxQuantizer(Quantizer):
    """`abs_max_quantize` with fixed arguments.

    Args:
        axis: axis or axes that share a scale; the last one by default.
        value_range, epsilon: see `abs_max_quantize`.
        output_dtype: dtype of the integers.

    Raises:
        ValueError: a range that int8 does not hold.
    """

    def __init__(self, axis=None, value_range=(-127, 127), epsilon=1e-7, output_dtype="int8"):
        super().__init__(output_dtype)
        self.axis = (axis,) if isinstance(axis, int) else None if axis is None else tuple(axis)
        self.value_range = tuple(value_range)
        self.epsilon = epsilon
        if output_dtype == "int8" and not -128 <= value_range[0] < value_range[1] <= 127:
            raise ValueError(
                "AbsMaxQuantizer: expected a value_range within (-128, 127) for int8, got "
                f"{tuple(value_range)}"
            )

    def __call__(self, x, axis=None, to_numpy=False):
        axis = next((a for a in (axis, self.axis) if a is not None), -1)
        return abs_max_quantize(
            x, axis, self.value_range, self.output_dtype, self.epsilon, to_numpy
        )

    def get_config(self):
        config = {
            "value_range": self.value_range,
            "epsilon": self.epsilon,
            "output_dtype": self.output_dtype,
        }
        return config if self.axis is None else config | {"axis": self.axis}


class QuantizationConfig:
    """Base class: how a layer is quantized.

    Args:
        weight_quantizer: quantizer of the weight; the layer's own choice when None.
        activation_quantizer: quantizer of the inputs; None keeps them in floating point.
    """

    def __init__(self, weight_quantizer=None, activation_quantizer=None):
        self.weight_quantizer = weight_quantizer
        self.activation_quantizer = activation_quantizer

    @property
    def mode(self):
        """Name of the method, such as `"int8"`."""
        raise NotImplementedError(f"{type(self).__name__}: `mode` is not implemented")

    def get_config(self):
        return {
            name: serialization_lib.serialize_keras_object(getattr(self, name))
            for name in ("weight_quantizer", "activation_quantizer")
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{name: get(value) for name, value in config.items()})


class Int8QuantizationConfig(QuantizationConfig):
    """Weights in int8, one scale for each output; inputs in int8, one scale for each row.

    Args:
        weight_quantizer: quantizer of the weight, to int8; absolute maximum when None.
        activation_quantizer: quantizer of the inputs; `"default"` is absolute maximum, None keeps
            them in floating point.

    Raises:
        ValueError: a weight quantizer to another dtype.
    """

    def __init__(self, weight_quantizer=None, activation_quantizer="default"):
        if isinstance(activation_quantizer, str) and activation_quantizer == "default":
            activation_quantizer = AbsMaxQuantizer()
        super().__init__(weight_quantizer, activation_quantizer)
        dtype = getattr(weight_quantizer, "output_dtype", "int8")
        if dtype != "int8":
            raise ValueError(
                f"Int8QuantizationConfig: expected a weight_quantizer to int8, got one to {dtype}"
            )

    @property
    def mode(self):
        return "int8"


def resolve(mode, config):
    """The configuration that `quantize(mode, config=config)` asks for.

    Raises:
        ValueError: neither is given, they contradict each other, or the mode is not supported.
        TypeError: `config` is something else.
    """
    if isinstance(config, str):
        mode, config = config, None
    if config is None:
        if mode == "int8":
            return Int8QuantizationConfig()
        raise ValueError(f"quantize: expected the mode 'int8' (others are not there), got {mode!r}")
    if not isinstance(config, QuantizationConfig):
        raise TypeError(f"quantize: expected a QuantizationConfig in `config`, got {config!r}")
    if mode not in (None, config.mode):
        raise ValueError(f"quantize: mode {mode!r} contradicts a config of mode {config.mode!r}")
    if config.mode != "int8":
        raise ValueError(f"quantize: expected a config of mode 'int8', got {config.mode!r}")
    return config


def fake_quant_with_min_max_vars(
    inputs, min_vals, max_vals, num_bits=8, narrow_range=False, axis=None
):
    """Values rounded as quantization to `num_bits` would, with a gradient to train through.

    The range [min, max] is shifted so that zero is one of the steps. The gradient passes where the
    values are inside; outside it goes to the bound. Source: Jacob et al., Quantization and Training
    of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018, section 3.

    Args:
        inputs: floating point tensor.
        min_vals, max_vals: scalars, or one for each channel of `axis`.
        num_bits: steps are 2^num_bits, one less if `narrow_range`.
        narrow_range: leave out the least step.
        axis: axis of the channels; None for one range for all.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.ops.array([-2.0, 0.1, 3.0])
    >>> keras.quantizers.fake_quant_with_min_max_vars(x, 0.0, 1.0, num_bits=1).numpy().tolist()
    [0.0, 0.0, 1.0]
    """
    x = ops.convert_to_tensor(inputs)
    shape = [1] * x.ndim
    if axis is not None:
        axis = axis % x.ndim
        shape[axis] = x.shape[axis]

    @ops.custom_gradient
    def quantize(x, low, high):
        least, most = int(narrow_range), 2**num_bits - 1
        low_, high_ = (
            ops.reshape(ops.cast(v, "float32"), shape if axis is not None else ())
            for v in (low, high)
        )
        scale = (high_ - low_) / (most - least)
        zero = ops.clip(ops.floor(least - low_ / scale + 0.5), least, most)
        bottom, top = (least - zero) * scale, (most - zero) * scale
        steps = ops.floor((ops.clip(ops.cast(x, "float32"), bottom, top) - bottom) / scale + 0.5)
        outputs = ops.cast((steps + least - zero) * scale, x.dtype)

        def gradient(upstream):
            inside = ops.logical_and(x >= bottom, x <= top)
            zeros = ops.zeros_like(upstream)
            axes = None if axis is None else [i for i in range(x.ndim) if i != axis]
            to_bounds = (
                ops.reshape(ops.sum(ops.where(beyond, upstream, zeros), axis=axes), bound.shape)
                for beyond, bound in ((x <= bottom, low), (x >= top, high))
            )
            return (ops.where(inside, upstream, zeros), *to_bounds)

        return outputs, gradient

    return quantize(x, ops.convert_to_tensor(min_vals), ops.convert_to_tensor(max_vals))


_BY_NAME = naming.by_name(globals(), (Quantizer, QuantizationConfig))
object_registration.register_namespace(
    "keras.quantizers", globals(), (Quantizer, QuantizationConfig)
)


def serialize(initializer):
    """Plain data that describes a quantizer."""
    return serialization_lib.serialize_keras_object(initializer)


def deserialize(config, custom_objects=None):
    """The quantizer (or quantization config) that `serialize` described."""
    return serialization_lib.deserialize_keras_object(
        config, custom_objects=custom_objects, module_objects=_BY_NAME
    )


def get(identifier, **kwargs):
    """A quantizer from a quantizer, a class, a name, a config, or None.

    Raises:
        ValueError: none of these.
    """
    if identifier is None:
        return None
    found = deserialize(identifier) if isinstance(identifier, dict) else identifier
    if isinstance(found, str):
        found = _BY_NAME.get(found)
    if inspect.isclass(found):
        found = found(**kwargs)
    if callable(found) or isinstance(found, QuantizationConfig):
        return found
    raise ValueError(
        f"quantizer: expected a quantizer, a config or one of {sorted(_BY_NAME)}, "
        f"got {identifier!r}"
    )
