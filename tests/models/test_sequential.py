"""Sequential models, subclassed models, cloning."""

import copy
import json
import pickle

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import layers


@pytest.fixture(autouse=True)
def fresh_names():
    keras.utils.clear_session()


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_it_is_built_from_its_input_or_from_data():
    model = keras.Sequential([layers.Dense(3), layers.Dense(2)])
    assert model.weights == [] and not model.built
    with pytest.raises(AttributeError, match="no `output_shape` yet"):
        model.output_shape  # noqa: B018
    assert model(data(5, 4)).shape == (5, 2)
    assert model.built and len(model.weights) == 4
    assert model(data(7, 4)).shape == (7, 2)

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    assert model.input_shape == (None, 4) and model.output_shape == (None, 3)
    assert [layer.name for layer in model.layers] == ["dense_2"]
    with pytest.warns(UserWarning, match="older style"):
        model = keras.Sequential([layers.Dense(3, input_shape=(4,))])
    assert model.output_shape == (None, 3)


def test_add_and_pop():
    model = keras.Sequential()
    model.add(keras.Input((4,)))
    model.add(layers.Dense(3))
    model.add(layers.Dense(2))
    assert model.output_shape == (None, 2)
    before = model.get_weights()
    layer = model.pop()
    assert layer.units == 2 and model.output_shape == (None, 3)
    model.add(layers.Dense(5))
    np.testing.assert_array_equal(before[0], model.get_weights()[0])
    with pytest.raises(ValueError, match="unique"):
        model.add(layers.Dense(1, name=model.layers[0].name))
    with pytest.raises(ValueError, match="second Input"):
        model.add(keras.Input((3,)))
    with pytest.raises(ValueError, match="expected a layer"):
        model.add("layer")


def test_add_is_the_same_as_a_list():
    def parts():
        keras.utils.set_random_seed(0)
        return [keras.Input((4,)), layers.Dense(3), layers.Dropout(0.5), layers.Dense(2)]

    listed = keras.Sequential(parts())
    added = keras.Sequential()
    for part in parts():
        added.add(part)
    x = data(3, 4)
    np.testing.assert_array_equal(listed(x), added(x))
    assert [w.path.split("/")[-1] for w in listed.weights] == ["kernel", "bias"] * 2


def test_config_through_json():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, activation="relu"), layers.BatchNormalization()]
    )
    other = keras.models.model_from_json(model.to_json())
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(other(data(2, 4)), model(data(2, 4)))
    config = json.loads(model.to_json())
    assert config["module"] == "keras" and config["class_name"] == "Sequential"
    assert config["config"]["build_input_shape"] == [None, 4]
    assert other.name == model.name


def test_a_sequential_in_a_functional_model_and_the_reverse():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dropout(0.5)])
    x = keras.Input((4,))
    model = keras.Model(x, inner(inner(x)))
    outer = keras.Sequential([model, layers.Dense(1)])
    assert outer.output_shape == (None, 1) and len(outer.weights) == 4
    other = keras.models.model_from_json(outer.to_json())
    other.set_weights(outer.get_weights())
    np.testing.assert_array_equal(other(data(2, 4)), outer(data(2, 4)))


class TwoLayers(keras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.Dense(units, activation="relu")
        self.drop = layers.Dropout(0.5)
        self.second = layers.Dense(1)

    def call(self, inputs, training=None):
        return self.second(self.drop(self.first(inputs), training=training))


def test_subclassed_models():
    model = TwoLayers(5)
    assert [layer.name for layer in model.layers] == ["dense", "dropout", "dense_1"]
    assert model(data(2, 4)).shape == (2, 1)
    assert [w.path for w in model.weights][0] == "two_layers/dense/kernel"
    assert model.count_params() == 4 * 5 + 5 + 5 + 1
    assert model.get_config()["units"] == 5
    again = TwoLayers.from_config(json.loads(json.dumps(model.get_config())))
    assert again.first.units == 5
    with pytest.raises(NotImplementedError, match="call"):
        keras.Model()(data(1, 1))
    text = []
    model.summary(print_fn=text.append)
    assert "dense (Dense)" in text[0] and "Total params: 31" in text[0]


def test_subclassed_models_are_built_from_their_build_config():
    model = TwoLayers(5)
    model(data(2, 4))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    again = keras.saving.deserialize_keras_object(config, custom_objects={"TwoLayers": TwoLayers})
    assert len(again.weights) == 4
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(data(2, 4)), model(data(2, 4)))


def test_layers_is_reserved():
    model = TwoLayers()
    with pytest.raises(AttributeError, match="reserved"):
        model.layers = []


def test_clone_has_new_weights():
    x = keras.Input((4,))
    shared = layers.Dense(4)
    model = keras.Model(x, layers.Dense(1)(shared(shared(x))))
    for original in (model, keras.Sequential([keras.Input((4,)), layers.Dense(2)])):
        clone = keras.models.clone_model(original)
        assert type(clone) is type(original) and len(clone.weights) == len(original.weights)
        assert not set(map(id, clone.weights)) & set(map(id, original.weights))
        clone.set_weights(original.get_weights())
        np.testing.assert_array_equal(clone(data(2, 4)), original(data(2, 4)))


def test_clone_with_other_layers_and_calls():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(x))

    def wider(layer):
        config = layer.get_config()
        return type(layer).from_config({**config, "units": 2 * config["units"]})

    assert keras.models.clone_model(model, clone_function=wider).output_shape == (None, 4)

    def with_relu(layer, *args, **kwargs):
        return layers.ReLU()(layer(*args, **kwargs))

    clone = keras.models.clone_model(model, clone_function=lambda x: x, call_function=with_relu)
    assert clone(data(9, 4)).numpy().min() == 0
    y = keras.Input((4,))
    assert keras.models.clone_model(model, input_tensors=y).input is y
    with pytest.raises(ValueError, match="functional"):
        keras.models.clone_model(TwoLayers(), clone_function=wider)


def test_fit_runs_with_the_layers_of_a_small_network():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(2, activation="softmax"),
        ]
    )
    x = data(64, 8, 8, 1)
    y = (x.mean((1, 2, 3)) > 0).astype("int32")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=40, batch_size=16, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_pickle_and_deepcopy_keep_weights_and_optimizer():
    x, y = data(16, 4), data(16, 1)
    for model in (TwoLayers(5), keras.Sequential([keras.Input((4,)), layers.Dense(1)])):
        model.compile("adam", "mse")
        model.fit(x, y, verbose=0, batch_size=8)
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            np.testing.assert_array_equal(other(x), model(x))
            assert int(other.optimizer.iterations) == int(model.optimizer.iterations) == 2
            for a, b in zip(other.optimizer.variables, model.optimizer.variables, strict=True):
                np.testing.assert_array_equal(a, b)
            other.fit(x, y, verbose=0, batch_size=8)
            assert int(model.optimizer.iterations) == 2
