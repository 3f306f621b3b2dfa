"""Programs under a memory budget: what is computed again has the same bits, and memory falls."""

import warnings

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import ops
from hornbeam.backend import devices, settings


@pytest.fixture(autouse=True)
def no_budget_afterwards():
    before = keras.config.memory_budget()
    keras.config.set_memory_budget(None)
    yield
    keras.config.set_memory_budget(before)


def dense_chain():
    layers = [keras.layers.Dense(256, activation="gelu") for _ in range(12)]
    return keras.Sequential([keras.Input((256,)), *layers, keras.layers.Dense(1)]), (128, 256)


def with_dropout():
    layers = keras.layers
    blocks = []
    for _ in range(6):
        blocks += [layers.Dense(256), layers.Dropout(0.3), layers.Activation("swish")]
    blocks += [layers.GaussianNoise(0.1), layers.Dense(1)]
    return keras.Sequential([keras.Input((256,)), *blocks]), (128, 256)


def residual_convolutions():
    layers = keras.layers
    inputs = x = keras.Input((16, 16, 8))
    for _ in range(5):
        y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
        y = layers.Activation("relu")(layers.BatchNormalization()(y))
        y = layers.Conv2D(8, 3, padding="same")(y)
        x = layers.Activation("relu")(layers.Add()([x, layers.LayerNormalization()(y)]))
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(x))), (16, 16, 16, 8)


def recurrent():
    layers = keras.layers
    x = inputs = keras.Input((20, 8))
    for _ in range(3):
        x = layers.Bidirectional(layers.GRU(16, return_sequences=True, dropout=0.2))(x)
        x = layers.LSTM(16, return_sequences=True, activation="elu")(x)  # a loop
    return keras.Model(inputs, layers.Dense(1)(x[:, -1])), (16, 20, 8)


def attention():
    layers = keras.layers
    x = inputs = keras.Input((32, 32))
    for _ in range(4):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 16, dropout=0.1)(y, y)])
        x = layers.Add()([x, layers.Dense(32)(layers.Dense(128, activation="gelu")(x))])
    return keras.Model(inputs, layers.Dense(1)(x[:, 0])), (8, 32, 32)


MODELS = [dense_chain, with_dropout, residual_convolutions, recurrent, attention]


def trained(build, budget, steps=3):
    """Arena of the training step, and all that training changes."""
    keras.config.set_memory_budget(budget)
    keras.utils.set_random_seed(3)
    model, shape = build()
    model.compile(keras.optimizers.Adam(1e-2), "mse", metrics=["mae"])
    r = np.random.default_rng(0)
    data = r.normal(size=shape).astype("float32"), r.normal(size=(shape[0], 1)).astype("float32")
    model._prepare(data, training=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        arena = model._step_function("train", True).concrete(data).program.arena_bytes
        history = model.fit(*data, batch_size=shape[0], epochs=steps, verbose=0).history
    weights = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    return arena, [*weights, *history.values()], [str(w.message) for w in caught]


@pytest.mark.parametrize("build", MODELS)
def test_results_have_the_same_bits_and_memory_falls(build):
    free, exact, said = trained(build, None)
    assert not said
    least = free
    for share in (0.8, 0.5, 0.01):
        arena, values, said = trained(build, int(free * share))
        for mine, theirs in zip(values, exact, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert arena <= free * share or "set_memory_budget" in said[0]
        least = min(least, arena)
    assert least < 0.75 * free


def test_a_budget_that_is_met_says_nothing_and_changes_nothing():
    free, _, _ = trained(dense_chain, None)
    arena, _, said = trained(dense_chain, free)
    assert arena == free and not said


def test_the_warning_names_peak_budget_and_what_dominates():
    free, _, _ = trained(dense_chain, None)
    arena, _, said = trained(dense_chain, 1000)
    assert f"needs {arena} bytes" in said[0] and "budget is 1000" in said[0]
    assert f"from {free} bytes" in said[0] and "Largest at the peak" in said[0]
    assert "test_memory_budget.py" in said[0]  # the user's line


def test_functions_in_python_run_once():
    calls = []

    @keras.function
    def run(x):
        with keras.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in range(6):
                # SVD is computed by NumPy; the values are read again in the gradient
                y = ops.tanh(ops.matmul(y, x)) * ops.svd(y, compute_uv=False)[:, None]
            total = ops.sum(y * y)
        return total, tape.gradient(total, x)

    x = np.random.default_rng(0).normal(size=(24, 24)).astype("float32") * 0.1
    exact = [t.numpy() for t in run(x)]
    free = run.concrete(x).program
    keras.config.set_memory_budget(free.arena_bytes // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tight = run.concrete(x).program
        for mine, theirs in zip(run(x), exact, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert tight.describe().count("host") == free.describe().count("host")
    assert not calls


def test_a_new_budget_compiles_anew():
    @keras.function
    def run(x):
        return ops.sum(ops.tanh(ops.matmul(x, x)))

    x = np.ones((64, 64), "float32")
    run(x)
    keras.config.set_memory_budget(1 << 30)
    run(x)
    assert run.cache_info().traces == 2
    keras.config.set_memory_budget(None)
    run(x)
    assert run.cache_info().traces == 2


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1"])
def test_what_is_no_budget_is_refused(value):
    with pytest.raises(ValueError, match="set_memory_budget"):
        keras.config.set_memory_budget(value)


def test_the_environment_gives_the_first_value(monkeypatch):
    monkeypatch.setenv("HORNBEAM_MEMORY_BUDGET", "123456")
    assert settings._from_environment() == 123456
    monkeypatch.setenv("HORNBEAM_MEMORY_BUDGET", "")
    assert settings._from_environment() is None
    monkeypatch.setenv("HORNBEAM_MEMORY_BUDGET", "1GB")
    with pytest.raises(ValueError, match="HORNBEAM_MEMORY_BUDGET"):
        settings._from_environment()


def test_programs_on_several_devices_say_that_the_budget_is_not_theirs(monkeypatch):
    monkeypatch.setattr(devices, "in_use", False)
    devices.set_cpu_devices(2)
    with keras.device("cpu:1"):
        x = ops.ones((64, 64))
    keras.config.set_memory_budget(1000)

    @keras.function
    def run(x):
        return ops.matmul(ops.tanh(ops.matmul(x, x)), x)

    with pytest.warns(UserWarning, match="set_memory_budget: a program on several devices"):
        assert run(x).shape == (64, 64)
