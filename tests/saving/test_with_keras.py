"""Real Keras reads what is written here, and the other way round.

Needs HORNBEAM_KERAS_PYTHON, the path of a Python that has Keras and JAX.
"""

import os
import pathlib
import subprocess

import common
import numpy as np
import pytest
import zoo
from common import architectures

import hornbeam as keras

PYTHON = os.environ.get("HORNBEAM_KERAS_PYTHON")
CHECK = pathlib.Path(__file__).resolve().parent / "check_with_keras.py"


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="HORNBEAM_KERAS_PYTHON is not set"),
]


def run(*arguments):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": ""}
    result = subprocess.run(
        [PYTHON, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    return [line for line in result.stdout.splitlines() if line.startswith("ok")]


def test_keras_reads_our_fixtures(tmp_path):
    for name in architectures.NAMES:
        common.write_all(tmp_path, name)
    assert len(run(CHECK, tmp_path)) == 3 * len(architectures.NAMES)


def test_keras_reads_every_layer(tmp_path):
    zoo.write("hornbeam", tmp_path)
    assert len(run(CHECK, tmp_path)) == len(list(tmp_path.glob("*.keras"))) * 2 - 1


def test_every_layer_of_keras_is_read(tmp_path):
    run(common.FIXTURES / "zoo.py", "keras", tmp_path)
    files = [path for path in sorted(tmp_path.iterdir()) if path.suffix in (".keras", ".h5")]
    for path in files:
        record = np.load(path.with_suffix(".npz"))
        model = keras.models.load_model(path)
        inputs = {k.partition(":")[2]: record[k] for k in record.files if k.startswith("in:")}
        for key, value in common.outputs(model, architectures.as_arguments(inputs)).items():
            expected = record[f"out:{key}"]
            np.testing.assert_allclose(
                np.asarray(value, "f4"), expected, rtol=1e-4, atol=2e-5, err_msg=path.name
            )
        np.testing.assert_array_equal(common.flat(model.get_weights()), record["weights"])
    assert len(files) > 150


def test_keras_reads_every_optimizer(tmp_path):
    o = keras.optimizers
    rate = o.schedules.ExponentialDecay(0.05, 2, 0.9)
    for name, optimizer in {
        "sgd": o.SGD(0.05, weight_decay=0.01),
        "momentum": o.SGD(rate, momentum=0.9, nesterov=True, clipnorm=0.5),
        "rmsprop": o.RMSprop(0.05, momentum=0.5, centered=True),
        "adam": o.Adam(rate, amsgrad=True, global_clipnorm=1.0),
        "adamw": o.AdamW(0.05, use_ema=True, ema_momentum=0.9),
        "nadam": o.Nadam(0.05),
        "adamax": o.Adamax(0.05),
        "adagrad": o.Adagrad(0.05),
        "adadelta": o.Adadelta(0.05),
        "ftrl": o.Ftrl(0.05, l1_regularization_strength=0.01),
        "lion": o.Lion(0.05, clipvalue=0.5),
        "lamb": o.Lamb(0.05),
        "accumulated": o.Adam(0.05, gradient_accumulation_steps=2),
    }.items():
        model = architectures.build(keras, "mlp")
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        for _ in range(3):
            model.train_on_batch(*common.data("mlp"))
        common.write(tmp_path, name, model, *architectures.data("mlp"))
    (tmp_path / "lamb.h5").unlink()  # Keras does not know it by its name
    assert len(run(CHECK, tmp_path)) == 25
