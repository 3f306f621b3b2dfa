"""Functional models: graphs, nests, sharing, cuts, configuration."""

import json

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import layers, ops


@pytest.fixture(autouse=True)
def fresh_names():
    keras.utils.clear_session()


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def again(model, **custom_objects):
    """The model through its JSON text, with the same weights."""
    other = keras.models.model_from_json(model.to_json(), custom_objects=custom_objects)
    other.set_weights(model.get_weights())
    return other


def same(a, b):
    for x, y in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_several_inputs_and_outputs_in_nests():
    a, b = keras.Input((3,), name="a"), keras.Input((4,), name="b")
    x = layers.Dense(5)(a)
    y = layers.Dense(5)(b)
    model = keras.Model({"a": a, "b": b}, {"sum": layers.Add()([x, y]), "pair": [x, (y,)]})
    inputs = {"a": data(2, 3), "b": data(2, 4)}
    out = model(inputs)
    assert set(out) == {"sum", "pair"} and isinstance(out["pair"][1], tuple)
    np.testing.assert_allclose(out["sum"], out["pair"][0] + out["pair"][1][0], rtol=1e-6)
    same(again(model)(inputs), out)
    listed = keras.Model([a, b], out_of(model))
    same(listed([inputs["a"], inputs["b"]]), out["sum"])
    same(listed(inputs), out["sum"])  # a list of inputs can be given by name
    with pytest.raises(ValueError, match="expected inputs named"):
        listed({"a": inputs["a"]})
    with pytest.raises(ValueError, match=r"expects?e?d? 2 input"):
        listed([inputs["a"]])


def out_of(model):
    return model.output["sum"]


def test_shared_layers_and_nested_models():
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, layers.Dense(4, activation="tanh")(inner_input), name="inner")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = layers.Dense(4, name="shared")
    y = shared(inner(shared(a))) + inner(b)
    model = keras.Model([a, b], y)
    assert len(model.weights) == 4
    inputs = [data(2, 4), data(2, 4, seed=1)]
    out = model(inputs)
    expected = shared(inner(shared(inputs[0]))) + inner(inputs[1])
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    same(again(model)(inputs), out)


def test_ops_are_part_of_the_graph():
    x = keras.Input((4, 3))
    y = ops.concatenate([x[:, :2], x[:, 2:] * 2.0], axis=1)
    y = ops.softmax(ops.reshape(y, (-1, 12)) + 1) - 0.5
    y = 1.0 - ops.where(y > 0, y, ops.expand_dims(ops.mean(y, axis=-1), -1))
    model = keras.Model(x, y)
    names = [op.name for op in model.operations]
    assert len(set(names)) == len(names)
    inputs = data(2, 4, 3)
    out = model(inputs)
    assert out.shape == (2, 12) and model.output_shape == (None, 12)
    same(again(model)(inputs), out)


def test_order_of_layers_is_that_of_depth():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    long = layers.Dense(2, name="l2")(layers.Dense(2, name="l1")(a))
    short = layers.Dense(2, name="s1")(b)
    model = keras.Model([b, a], layers.Add(name="add")([short, long]))
    assert [layer.name for layer in model.layers] == ["a", "b", "l1", "s1", "l2", "add"] or [
        layer.name for layer in model.layers
    ] == ["a", "l1", "b", "l2", "s1", "add"]


def test_any_tensor_can_be_fetched_and_fed():
    x = keras.Input((4,))
    h = layers.Dense(3, activation="relu", name="h")(x)
    g = layers.Dense(3, name="g")(h)
    y = layers.Dense(2, name="y")(g)
    model = keras.Model(x, y)
    inputs = data(2, 4)
    hidden = keras.Model(x, h)(inputs)
    tail = keras.Model(h, y)
    assert [w.path for w in tail.trainable_weights] == ["g/kernel", "g/bias", "y/kernel", "y/bias"]
    same(tail(hidden), model(inputs))
    both = keras.Model(x, [model.get_layer("g").output, y])
    same(both(inputs)[1], model(inputs))
    same(again(tail)(hidden), model(inputs))


def test_disconnected_graphs_and_wrong_arguments():
    x, z = keras.Input((4,)), keras.Input((4,))
    y = layers.Dense(1)(x)
    with pytest.raises(ValueError, match="disconnected"):
        keras.Model(z, y)
    with pytest.raises(ValueError, match="KerasTensor"):
        keras.Model(data(1, 1), y)
    with pytest.raises(ValueError, match="unique"):
        keras.Model(x, layers.Dense(1, name="a")(layers.Dense(1, name="a")(x)))


def test_wrong_inputs_name_model_and_shapes():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(1)(x), name="net")
    with pytest.raises(ValueError, match=r"'net'.*expected shape \(None, 4\), got shape \(2, 3\)"):
        model(data(2, 3))
    with pytest.raises(ValueError, match=r"expected.*got shape \(2, 3, 4, 5\)"):
        model(data(2, 3, 4, 5))
    assert model(data(2, 4, 1)).shape == (2, 1)  # a last axis of one is squeezed


def test_training_and_masks_go_through():
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(6, 4, mask_zero=True)(tokens)
    x = layers.Dropout(0.5)(x)
    model = keras.Model(tokens, layers.LSTM(3)(x))
    a = model(np.array([[1, 2, 0, 0]]))
    np.testing.assert_allclose(a, model(np.array([[1, 2]])), rtol=1e-6)
    assert not np.array_equal(a, model(np.array([[1, 2, 0, 0]]), training=True))
    assert model.output_shape == (None, 3)


def test_subclass_of_a_functional_model():
    class Mine(keras.Model):
        def __init__(self, units=3, **kwargs):
            x = keras.Input((4,))
            super().__init__(x, layers.Dense(units)(x), **kwargs)
            self.units = units

        def get_config(self):
            return {"units": self.units, "name": self.name}

    model = Mine(5)
    assert isinstance(model, keras.Model) and model.output_shape == (None, 5)
    assert model.name == "mine"
    again = Mine.from_config(model.get_config())
    assert again.output_shape == (None, 5)


def test_function():
    x = keras.Input((3,))
    f = keras.Function([x], {"y": ops.exp(x)})
    np.testing.assert_allclose(f([ops.zeros((1, 3))])["y"], np.ones((1, 3)))
    assert f.compute_output_shape((7, 3)) == {"y": (7, 3)}
    with pytest.raises(ValueError, match=r"expected shape \(None, 3\)"):
        f([ops.zeros((1, 4))])


def test_unknown_layer_in_a_config_lists_what_is_known():
    config = keras.Model(*_identity()).get_config()
    config["layers"][1]["class_name"] = "Densest"
    with pytest.raises(TypeError, match=r"unknown class 'Densest'.*BatchNormalization.*Dense,"):
        keras.Model.from_config(config)


def _identity():
    x = keras.Input((2,))
    return x, layers.Dense(1)(x)


def test_layers_that_fail_say_so_when_called_symbolically():
    class Bad(layers.Layer):
        def call(self, x):
            return x if float(ops.sum(x)) > 0 else -x

    with pytest.raises(TypeError, match="symbolic"):
        Bad()(keras.Input((2,)))


def test_summary_and_layer_lookup():
    x = keras.Input((4,), name="x")
    h = layers.Dense(3, name="h")(x)
    model = keras.Model(x, layers.Add(name="add")([h, h]), name="net")
    lines = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    for part in ('Model: "net"', "h (Dense)", "(None, 3)", "x[0][0]", "Total params: 15 (60.00 B)"):
        assert part in text
    assert model.get_layer("h") is model.layers[1] is model.get_layer(index=1)
    with pytest.raises(ValueError, match="no layer 'z'"):
        model.get_layer("z")
    json.loads(model.to_json())


def test_trainable_false_in_the_config():
    model = keras.Model(*_identity())
    model.trainable = False
    other = again(model)
    assert other.trainable_weights == [] and not other.trainable


def test_a_model_is_freed_with_its_last_name():
    import gc
    import weakref

    model = keras.Model(*_identity())
    model(data(1, 2))
    alive = weakref.ref(model)
    kernel = weakref.ref(model.layers[1].kernel)
    del model
    gc.collect()
    assert alive() is None and kernel() is None
