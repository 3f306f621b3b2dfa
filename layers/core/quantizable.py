"""Layers whose weight can be kept in 8 bits."""

import contextlib

from hornbeam import backend, dtype_policies, ops, quantizers
from hornbeam.backend import scope
from hornbeam.layers.arguments import add_named_weight
from hornbeam.layers.layer import Layer


class Quantizable(Layer):
    """A layer with one large weight that `quantize("int8")` replaces by integers and scales.

    A subclass names the weight, creates it in `build` with `add_quantizable_weight`, and says how
    scales lie.
    """

    #: Name of the weight; its scales are `<name>_scale`.
    _quantizable = "kernel"
    #: Whether the weight is in integers.
    _is_quantized = False

    def _weight_scale_axes(self, shape) -> tuple[int, ...]:
        """Axes of the weight that share a scale."""
        raise NotImplementedError

    def _stored_scale(self, scale):
        """A scale in the layout of its variable, from one with size 1 along the shared axes."""
        raise NotImplementedError

    def _scale_of_weight(self, scale):
        """The inverse of `_stored_scale`, which `integers / scale` broadcasts over."""
        raise NotImplementedError

    def add_quantizable_weight(self, shape, **kwargs):
        """Create the weight; as integers where the layer's policy says so."""
        if self.quantization_mode is not None:
            self.quantized_build(shape, self.quantization_mode, self.quantization_config)
        else:
            setattr(
                self, self._quantizable, add_named_weight(self, self._quantizable, shape, **kwargs)
            )

    def quantized_build(self, shape, mode, config=None):
        """Create the integers (zeros) and their scales (ones)."""
        self.quantization_config = quantizers.resolve(mode, config)
        name = self._quantizable
        shared = self._weight_scale_axes(shape)
        reduced = [1 if i in shared else size for i, size in enumerate(shape)]
        scales = ops.shape(self._stored_scale(ops.ones(reduced)))
        setattr(
            self,
            name,
            self.add_weight(
                name=name, shape=shape, initializer="zeros", dtype="int8", trainable=False
            ),
        )
        scale = self.add_weight(
            name=f"{name}_scale", shape=scales, initializer="ones", trainable=False
        )
        setattr(self, f"{name}_scale", scale)
        self._is_quantized = True

    def quantize(self, mode=None, type_check=True, config=None):
        """Replace the weight by integers with scales, and compute with them from now on.

        Args:
            mode: `"int8"`; may be left out if `config` is given.
            type_check: refuse subclasses, whose `call` may use the weight in ways of its own.
            config: a `quantizers.Int8QuantizationConfig`.

        Raises:
            ValueError: the layer is not built, or quantized already; the mode is not supported.
            NotImplementedError: a subclass, with `type_check`.
        """
        config = quantizers.resolve(mode, config)
        who = f"{type(self).__name__} '{self.name}'"
        if type_check and "_weight_scale_axes" not in type(self).__dict__:
            raise NotImplementedError(
                f"{who}: a subclass is not quantized unless `type_check=False`, as its `call` may "
                "use the weight in its own way"
            )
        if not self.built:
            raise ValueError(f"{who}: quantize needs a built layer; call it on data first")
        if self._is_quantized:
            raise ValueError(f"{who}: quantized already, with the policy {self.dtype_policy.name}")
        source = self._own_policy()
        policy = dtype_policies.QuantizedDTypePolicy(
            config.mode, getattr(source, "source_name", source.name)
        )
        name = self._quantizable
        weight = getattr(self, name)
        quantizer = config.weight_quantizer or quantizers.AbsMaxQuantizer(
            axis=self._weight_scale_axes(weight.shape)
        )
        integers, scale = quantizer(weight.value)
        self._tracker.unlock()
        delattr(self, name)
        parent = self.path.rpartition("/")[0]
        outside = scope.name_scope(parent) if parent else contextlib.nullcontext()
        with outside, self._open_name_scope():
            self.quantized_build(weight.shape, config.mode, config)
        self._lock_state()
        getattr(self, name).assign(integers)
        getattr(self, f"{name}_scale").assign(self._stored_scale(scale))
        self.dtype_policy = policy

    def _product(self, inputs, axes, align, multiply, input_gradient):
        """`multiply(inputs, weight)`, in integers if the layer is quantized.

        Args:
            inputs: floating point tensor.
            axes: axes of the inputs that share a scale.
            align: brings a scale of the inputs into the layout of the product.
            multiply: the product of inputs and weight.
            input_gradient: from the product's gradient and the weight in floating point.
        """
        weight = getattr(self, self._quantizable)
        if not self._is_quantized:
            return multiply(inputs, weight)
        quantizer = self.quantization_config.activation_quantizer

        @backend.custom_gradient
        def product(x, integers, scale):
            def gradient(upstream):
                floats = ops.divide(ops.cast(integers, x.dtype), self._scale_of_weight(scale))
                return input_gradient(upstream, floats), None, None

            q, total = x, scale
            if quantizer is not None:
                q, input_scale = quantizer(x, axis=axes)
                total = ops.multiply(align(input_scale), scale)
            return ops.divide(ops.cast(multiply(q, integers), x.dtype), total), gradient

        return product(inputs, weight, getattr(self, f"{self._quantizable}_scale"))

    def _stored_variables(self):
        variables = super()._stored_variables()
        if not self._is_quantized:
            return variables
        weight = getattr(self, self._quantizable)
        scale = getattr(self, f"{self._quantizable}_scale")
        rest = [v for v in variables if v is not weight and v is not scale]
        return [weight, *rest, scale]
