"""What every layer must do, checked from one description of it.

Construction, configuration through JSON, shapes symbolic = eager = `compute_output_shape`, dtype
policies, masks, a training step, gradients against finite differences in float64, own variables
saved and loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json

import numpy as np

import hornbeam as keras
from hornbeam.backend import tree


@dataclasses.dataclass
class LayerCase:
    """A layer to check.

    Attributes:
        layer: class below `hornbeam.layers`.
        shape: input shape with the batch axis, or a list of them.
        kwargs: arguments of the layer.
        call: keyword arguments of the call.
        weights: expected numbers of trainable and other weights.
        integers: upper bound of integer inputs; floats when None.
        masking: expected `supports_masking`.
        train: whether outputs are a function of the weights and inputs that can be trained.
        gradient: whether finite differences make sense.
        positional: several inputs are arguments of their own, not one list.
        name: name of the case.
    """

    layer: str
    shape: tuple | list
    kwargs: dict = dataclasses.field(default_factory=dict)
    call: dict = dataclasses.field(default_factory=dict)
    weights: tuple = (0, 0)
    integers: int | None = None
    masking: bool = True
    train: bool = True
    gradient: bool = True
    positional: bool = False
    name: str = ""

    def __str__(self):
        return self.name or self.layer

    def make(self, **extra):
        kwargs = {k: v() if callable(v) else v for k, v in self.kwargs.items()}
        return getattr(keras.layers, self.layer)(**kwargs, **extra)

    def shapes(self):
        return self.shape if isinstance(self.shape, list) else [self.shape]

    def inputs(self, dtype="float32", seed=0):
        r = np.random.default_rng(seed)
        if self.integers is not None:
            return [r.integers(0, self.integers, s).astype("int32") for s in self.shapes()]
        return [r.normal(size=s).astype(dtype) for s in self.shapes()]

    def apply(self, layer, inputs):
        if self.positional or len(inputs) == 1:
            return layer(*inputs, **self.call)
        return layer(list(inputs), **self.call)

    def symbols(self):
        dtype = "int32" if self.integers is not None else "float32"
        return [keras.Input(s[1:], dtype=dtype) for s in self.shapes()]


def check_layer(case):
    """Run all checks on a case."""
    layer = case.make()
    inputs = case.inputs()
    outputs = case.apply(layer, inputs)
    _check_state(case, layer)
    _check_shapes(case, layer, outputs)
    _check_config(case, layer, inputs, outputs)
    _check_own_variables(case, layer, inputs, outputs)
    _check_policies(case)
    if case.train:
        _check_training(case)
    if case.gradient:
        check_gradient(case)


def _check_state(case, layer):
    assert layer.built
    assert layer.supports_masking == case.masking, "supports_masking"
    counts = len(layer.trainable_weights), len(layer.non_trainable_weights)
    assert counts == case.weights
    assert layer.count_params() == sum(int(np.prod(w.shape)) for w in layer.weights)
    paths = [w.path for w in layer.weights]
    assert len(set(paths)) == len(paths)
    assert all(path.startswith(layer.name + "/") for path in paths)
    layer.trainable = False
    assert layer.trainable_weights == []
    layer.trainable = True
    assert len(layer.trainable_weights) == case.weights[0]


def _check_shapes(case, layer, outputs):
    eager = [tuple(y.shape) for y in tree.flatten(outputs)]
    symbolic = tree.flatten(case.apply(case.make(), case.symbols()))
    assert len(symbolic) == len(eager)
    for s, e, y in zip(symbolic, eager, tree.flatten(outputs), strict=True):
        assert s.shape[0] is None
        assert (e[0], *s.shape[1:]) == e, f"symbolic {s.shape}, eager {e}"
        assert s.dtype == y.dtype
    if not case.call:
        shapes = case.shapes()
        given = shapes if case.positional else [shapes[0] if len(shapes) == 1 else shapes]
        computed = layer.compute_output_shape(*given)
        computed = [computed] if not isinstance(outputs, (tuple, list)) else computed
        assert [tuple(s) for s in computed] == eager


def _check_config(case, layer, inputs, outputs):
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is type(layer)
    assert json.dumps(keras.saving.serialize_keras_object(again)) == text
    result = case.apply(again, inputs)
    if layer.weights:
        again.set_weights(layer.get_weights())
        result = case.apply(again, inputs)
    if not case.call.get("training"):
        _assert_same(result, outputs)


def _check_own_variables(case, layer, inputs, outputs):
    other = case.make()
    case.apply(other, inputs)
    for one, two in zip(layer._flatten_layers(), other._flatten_layers(), strict=True):
        store = {}
        one.save_own_variables(store)
        two.load_own_variables({k: np.asarray(v) for k, v in store.items()})
    if not case.call.get("training"):
        _assert_same(case.apply(other, inputs), outputs)


def _check_policies(case):
    for policy, dtype in (("mixed_bfloat16", "bfloat16"), ("mixed_float16", "float16")):
        with dtype_policy(policy):
            layer = case.make()
        for y in tree.flatten(case.apply(layer, case.inputs())):
            assert y.dtype == dtype, f"{policy}: {y.dtype}"
        for w in layer.weights:
            assert w.dtype in ("float32", "int32")
        assert layer.compute_dtype == dtype


def _check_training(case):
    """`fit` for two steps: the loss is finite, and all trainable weights move."""
    layer = case.make()
    symbols = case.symbols()
    output = tree.flatten(case.apply(layer, symbols))[0]
    if not layer.trainable_weights:
        output = keras.layers.Dense(2)(output)
    model = keras.Model(symbols, output)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    inputs = [np.concatenate([x, x]) for x in case.inputs()]
    shape = (inputs[0].shape[0], *model.output_shape[1:])
    targets = np.random.default_rng(1).normal(size=shape).astype("float32")
    before = [w.numpy() for w in layer.trainable_weights]
    inputs = inputs[0] if len(inputs) == 1 else inputs
    history = model.fit(inputs, targets, batch_size=case.shapes()[0][0], epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    moved = [not np.array_equal(a, w) for a, w in zip(before, layer.trainable_weights, strict=True)]
    assert all(moved), [
        w.path for w, m in zip(layer.trainable_weights, moved, strict=True) if not m
    ]
    assert model.predict(inputs, verbose=0).shape == shape


@contextlib.contextmanager
def dtype_policy(name):
    """The global policy is `name` in this context, so that inner layers have it too."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def check_gradient(case, epsilon=1e-6, samples=6):
    """Gradients to inputs and weights against central differences, in float64."""
    with dtype_policy("float64"):
        _check_gradient(case, epsilon, samples)


def _check_gradient(case, epsilon, samples):
    layer = case.make()
    inputs = [keras.ops.convert_to_tensor(x) for x in case.inputs("float64")]
    case.apply(layer, inputs)
    r = np.random.default_rng(2)
    for w in layer.trainable_weights:
        w.assign(r.normal(size=w.shape) * 0.5 + 0.1)

    def loss(inputs):
        total = 0.0
        for y in tree.flatten(case.apply(layer, inputs)):
            total = total + keras.ops.sum(keras.ops.sin(y * 1.5))
        return total

    floating = [x for x in inputs if x.dtype == "float64"]
    with keras.GradientTape() as tape:
        for x in floating:
            tape.watch(x)
        value = loss(inputs)
    to_inputs, to_weights = tape.gradient(value, [floating, layer.trainable_weights])

    def check(gradient, value, set_value, what):
        gradient = np.asarray(gradient)
        for index in r.choice(gradient.size, min(samples, gradient.size), replace=False):
            where = np.unravel_index(index, gradient.shape)
            results = []
            for sign in (1, -1):
                moved = np.array(value)
                moved[where] += sign * epsilon
                results.append(float(set_value(moved)))
            difference = (results[0] - results[1]) / (2 * epsilon)
            np.testing.assert_allclose(
                gradient[where], difference, rtol=1e-5, atol=1e-6, err_msg=what
            )

    for i, (x, g) in enumerate(zip(inputs, to_inputs, strict=True) if floating else ()):

        def with_input(moved, i=i):
            changed = [
                keras.ops.convert_to_tensor(moved) if j == i else y for j, y in enumerate(inputs)
            ]
            return loss(changed)

        check(g, np.asarray(x), with_input, f"input {i}")
    for w, g in zip(layer.trainable_weights, to_weights, strict=True):
        original = w.numpy()

        def with_weight(moved, w=w):
            w.assign(moved)
            return loss(inputs)

        check(g, original, with_weight, w.path)
        w.assign(original)


def _assert_same(a, b):
    for x, y in zip(tree.flatten(a), tree.flatten(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
