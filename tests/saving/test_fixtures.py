"""Files written by real Keras are read: predictions, weights, optimizer, and one more step."""

import common
import numpy as np
import pytest
import quantized
from common import FIXTURES, architectures

import hornbeam as keras

WHOLE = [f"{name}{ending}" for name in architectures.NAMES for ending in (".keras", ".h5")]
RTOL, ATOL = 1e-5, 1e-6
# a step divides by the root of tiny second moments, which magnifies rounding
STEP = {"rtol": 1e-4, "atol": 1e-5}


def record(name):
    return np.load(FIXTURES / f"{name}.npz")


def check_predictions(model, name):
    expected = record(name)
    found = common.outputs(model, common.data(name)[0])
    assert {f"out:{key}" for key in found} == {k for k in expected.files if k.startswith("out:")}
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[f"out:{key}"], rtol=RTOL, atol=ATOL)
    np.testing.assert_array_equal(common.flat(model.get_weights()), expected["weights"])


@pytest.mark.parametrize("file", WHOLE)
def test_whole_models(file):
    name = file.split(".")[0]
    expected = record(name)
    model = keras.models.load_model(FIXTURES / file)
    check_predictions(model, name)
    np.testing.assert_array_equal(common.optimizer_state(model), expected["optimizer"])
    if name in architectures.DETERMINISTIC:
        loss = model.train_on_batch(*common.data(name))
        loss = loss[0] if isinstance(loss, list) else loss
        np.testing.assert_allclose(loss, expected["next:loss"], rtol=RTOL, atol=ATOL)
        weights = common.flat(model.get_weights())
        np.testing.assert_allclose(weights, expected["next:weights"], **STEP)


@pytest.mark.parametrize("file", ["mlp.weights.h5", "lstm.weights.h5", *WHOLE])
def test_weights_into_the_architecture(file):
    name = file.split(".")[0]
    model = architectures.build(keras, name)
    model.load_weights(FIXTURES / file)
    check_predictions(model, name)


@pytest.mark.parametrize("file", WHOLE)
def test_without_compiling(file):
    model = keras.models.load_model(FIXTURES / file, compile=False)
    assert not model.compiled
    check_predictions(model, file.split(".")[0])


def test_optimizer_state_of_a_weights_file():
    model = architectures.build(keras, "mlp")
    model.compile(**architectures.compile_arguments(keras, "mlp"))
    model.optimizer.build(model.trainable_variables)
    model.load_weights(FIXTURES / "mlp.weights.h5")
    np.testing.assert_array_equal(common.optimizer_state(model), record("mlp")["optimizer"])
    model.train_on_batch(*common.data("mlp"))
    weights = common.flat(model.get_weights())
    np.testing.assert_allclose(weights, record("mlp")["next:weights"], **STEP)


def test_files_of_keras_2(tmp_path):
    """The configuration as Keras 2 wrote it: `batch_input_shape`, no homes of classes, `lr`."""
    import json

    import h5py

    kernel, bias = np.arange(6, dtype="f4").reshape(2, 3), np.ones(3, "f4")
    config = {
        "class_name": "Sequential",
        "config": {
            "name": "sequential",
            "layers": [
                {
                    "class_name": "Dense",
                    "config": {
                        "name": "dense",
                        "trainable": True,
                        "batch_input_shape": [None, 2],
                        "dtype": "float32",
                        "units": 3,
                        "activation": "linear",
                        "use_bias": True,
                        "kernel_initializer": {
                            "class_name": "GlorotUniform",
                            "config": {"seed": None},
                        },
                        "bias_initializer": {"class_name": "Zeros", "config": {}},
                        "kernel_regularizer": None,
                        "bias_regularizer": None,
                        "activity_regularizer": None,
                        "kernel_constraint": None,
                        "bias_constraint": None,
                    },
                }
            ],
        },
    }
    training = {
        "loss": {
            "class_name": "MeanSquaredError",
            "config": {"name": "mean_squared_error", "reduction": "sum_over_batch_size"},
        },
        "metrics": ["mae"],
        "weighted_metrics": None,
        "loss_weights": None,
        "sample_weight_mode": None,
        "optimizer_config": {"class_name": "SGD", "config": {"name": "SGD", "lr": 0.25}},
    }
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as f:
        f.attrs["keras_version"] = "2.4.0"
        f.attrs["model_config"] = json.dumps(config).encode()
        f.attrs["training_config"] = json.dumps(training).encode()
        group = f.create_group("model_weights")
        group.attrs["layer_names"] = [b"dense"]
        inner = group.create_group("dense")
        inner.attrs["weight_names"] = [b"dense/kernel:0", b"dense/bias:0"]
        inner["dense/kernel:0"], inner["dense/bias:0"] = kernel, bias
    model = keras.models.load_model(path)
    x = np.float32([[1, 2]])
    np.testing.assert_allclose(model.predict(x, verbose=0), x @ kernel + bias)
    assert float(model.optimizer.learning_rate) == 0.25
    model.train_on_batch(x, np.zeros((1, 3), "f4"))


def test_integers_with_scales():
    """A model that Keras quantized: the same integers, and results, as it computes."""
    model = keras.models.load_model(FIXTURES / "quantized.keras")
    assert [v.dtype for v in model.weights].count("int8") == 4
    found = model.predict(quantized.inputs(), verbose=0)
    np.testing.assert_allclose(found, record("quantized")["outputs"], rtol=RTOL, atol=ATOL)
