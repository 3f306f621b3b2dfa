"""Files written by real Keras load, predict the same, and train on as if never interrupted."""

import importlib.util
import pathlib
import zipfile

import numpy as np
import pytest

import hornbeam as keras

FOLDER = pathlib.Path(__file__).resolve().parent / "fixtures"
_spec = importlib.util.spec_from_file_location("architectures", FOLDER / "architectures.py")
architectures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(architectures)

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def flat(arrays):
    return np.concatenate([np.ravel(np.asarray(a, "float32")) for a in arrays])


def recorded(name):
    """(all arrays, inputs, targets) of a fixture."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    parts = [
        {k.partition(":")[2]: v for k, v in arrays.items() if k.startswith(kind)}
        for kind in ("in:", "target:")
    ]
    return arrays, *map(architectures.as_arguments, parts)


def check_predictions(model, arrays, x):
    out = model.predict(x, verbose=0)
    out = out if isinstance(out, dict) else {"0": out}
    assert {f"out:{k}" for k in out} == {k for k in arrays if k.startswith("out:")}
    for key, value in out.items():
        np.testing.assert_allclose(value, arrays[f"out:{key}"], **TOLERANCE)
    np.testing.assert_array_equal(flat(model.get_weights()), arrays["weights"])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", architectures.NAMES)
def test_whole_model(name, suffix):
    arrays, x, y = recorded(name)
    model = keras.models.load_model(FOLDER / f"{name}{suffix}")
    check_predictions(model, arrays, x)
    np.testing.assert_array_equal(flat(model.optimizer.variables), arrays["optimizer"])
    if name in architectures.DETERMINISTIC:
        loss = model.train_on_batch(x, y)
        loss = loss[0] if isinstance(loss, list) else loss
        np.testing.assert_allclose(loss, arrays["next:loss"], rtol=1e-5)
        # the step divides by the root of tiny second moments, which magnifies rounding
        got = flat(model.get_weights())
        np.testing.assert_allclose(got, arrays["next:weights"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "lstm"])
def test_weights_file(name):
    arrays, x, _ = recorded(name)
    model = architectures.build(keras, name)
    model.load_weights(FOLDER / f"{name}.weights.h5")
    check_predictions(model, arrays, x)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_weights_from_inside_the_archive(name, tmp_path):
    arrays, x, _ = recorded(name)
    with zipfile.ZipFile(FOLDER / f"{name}.keras") as archive:
        content = archive.read("model.weights.h5")
    path = tmp_path / f"{name}.weights.h5"
    path.write_bytes(content)
    model = architectures.build(keras, name)
    model.load_weights(path)
    check_predictions(model, arrays, x)
