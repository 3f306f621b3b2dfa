"""Objects as plain data: the closed registry, custom objects, and what is refused."""

import json

import numpy as np
import pytest

import hornbeam as keras
from hornbeam.saving import deserialize_keras_object, serialize_keras_object


def through_json(x):
    return deserialize_keras_object(json.loads(json.dumps(serialize_keras_object(x))))


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 2.5, "text", b"bytes", [1, [2, None]], {"a": 1, "b": [2]}, slice(1, None, 2)],
    ids=repr,
)
def test_plain_values(value):
    assert through_json(value) == value


def test_arrays_and_tensors():
    array = np.arange(6, dtype="int16").reshape(2, 3)
    back = through_json(array)
    assert back.dtype == array.dtype and (back == array).all()
    tensor = through_json(keras.ops.convert_to_tensor(array))
    assert isinstance(tensor, keras.backend.Tensor) and tensor.dtype == "int16"
    assert serialize_keras_object(np.float32(2.5)) == 2.5
    assert through_json([Ellipsis]) == [Ellipsis]


@pytest.mark.parametrize(
    "thing",
    [
        keras.initializers.HeNormal(seed=3),
        keras.regularizers.L1L2(0.1, 0.2),
        keras.constraints.MinMaxNorm(0.1, 2.0),
        keras.DTypePolicy("mixed_float16"),
        keras.layers.Dense(3, kernel_regularizer="l2"),
        keras.losses.MeanSquaredError(),
        keras.metrics.Mean(name="m"),
        keras.optimizers.Adam(0.1),
    ],
    ids=lambda x: type(x).__name__,
)
def test_objects_of_the_package_are_named_as_in_keras(thing):
    config = serialize_keras_object(thing)
    assert config["module"].split(".")[0] == "keras" and "hornbeam" not in json.dumps(config)
    back = through_json(thing)
    assert type(back) is type(thing) and back.get_config() == thing.get_config()


def test_private_homes_of_keras_are_understood():
    config = {
        "module": "keras.src.layers.core.dense",
        "class_name": "Dense",
        "config": {"units": 2},
        "registered_name": "Dense",
    }
    assert isinstance(deserialize_keras_object(config), keras.layers.Dense)


def test_nothing_is_imported_by_name():
    for module, name in (("os", "system"), ("subprocess", "Popen"), ("builtins", "eval")):
        config = {"module": module, "class_name": name, "config": {}, "registered_name": None}
        with pytest.raises(TypeError, match=f"unknown class '{name}'"):
            deserialize_keras_object(config)
        config = {**config, "class_name": "function", "config": name, "registered_name": name}
        with pytest.raises(TypeError, match=f"unknown function '{name}'"):
            deserialize_keras_object(config)


def test_stored_code_is_refused():
    config = {"class_name": "__lambda__", "config": {"value": ["4wEAAA==", None, None]}}
    for safe_mode in (True, False):
        with pytest.raises(ValueError, match="never run"):
            deserialize_keras_object(config, safe_mode=safe_mode)
    with pytest.raises(ValueError, match="data-only"):
        keras.config.enable_unsafe_deserialization()
    with pytest.raises(ValueError, match="lambda"):
        serialize_keras_object(lambda x: x)


def test_custom_objects_in_their_three_ways():
    class Mine(keras.layers.Layer):
        def __init__(self, size=1, **kwargs):
            super().__init__(**kwargs)
            self.size = size

        def get_config(self):
            return {**super().get_config(), "size": self.size}

    config = json.loads(json.dumps(serialize_keras_object(Mine(4))))
    with pytest.raises(TypeError, match="unknown class 'Mine'"):
        deserialize_keras_object(config)
    assert deserialize_keras_object(config, custom_objects={"Mine": Mine}).size == 4
    with keras.saving.custom_object_scope({"Mine": Mine}):
        assert deserialize_keras_object(config).size == 4
    with pytest.raises(TypeError):
        deserialize_keras_object(config)

    keras.saving.register_keras_serializable("tests", "Other")(Mine)
    config = json.loads(json.dumps(serialize_keras_object(Mine(4))))
    assert config["registered_name"] == "tests>Other"
    assert deserialize_keras_object(config).size == 4
    assert keras.saving.get_registered_name(Mine) == "tests>Other"
    assert keras.saving.get_registered_object("tests>Other") is Mine
    assert "tests>Other" in keras.saving.get_custom_objects()
    with pytest.raises(ValueError, match="get_config"):
        keras.saving.register_keras_serializable()(int)


def test_functions():
    assert serialize_keras_object(keras.activations.relu)["module"] == "keras.activations"
    assert through_json(keras.activations.relu) is keras.activations.relu

    @keras.saving.register_keras_serializable("tests")
    def cube(x):
        return x**3

    assert through_json(cube) is cube
    layer = keras.layers.Dense(1, activation=cube)
    assert through_json(layer).activation is cube


def test_a_shared_object_stays_one():
    from hornbeam.saving.serialization_lib import object_sharing_scope

    dense = keras.layers.Dense(1)
    with object_sharing_scope():
        config = json.loads(json.dumps(serialize_keras_object([dense, dense])))
        a, b = deserialize_keras_object(config)
    assert a is b


def test_bad_configs():
    with pytest.raises(TypeError, match="could not be made"):
        deserialize_keras_object(
            {"module": "keras.layers", "class_name": "Dense", "config": {"nonsense": 1}}
        )
    with pytest.raises(TypeError, match="cannot be serialised"):
        serialize_keras_object(object())


def test_an_error_inside_is_not_wrapped_in_the_configs_around_it():
    class Bad(keras.layers.Layer):
        def __init__(self, size, **kwargs):
            super().__init__(**kwargs)

        def get_config(self):
            return {**super().get_config(), "wrong": 1}

    model = keras.Sequential([keras.Input((2,)), Bad(3)])
    config = serialize_keras_object(model)
    with pytest.raises(TypeError, match=r"^Bad 'bad': could not be made.* 'size'.*'wrong': 1\}$"):
        deserialize_keras_object(config, custom_objects={"Bad": Bad})
    with pytest.raises(TypeError, match=r"unknown class 'Bad'.*custom_objects=\{'Bad'"):
        deserialize_keras_object(config)


def test_a_model_without_weights_yet_is_not_saved_silently(tmp_path):
    model = keras.Sequential([keras.layers.Dense(2)])
    with pytest.warns(UserWarning, match="not built"):
        model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="not built"):
        model.save_weights(tmp_path / "m.weights.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]
