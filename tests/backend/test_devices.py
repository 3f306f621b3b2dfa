"""Placement, transfers and errors, on virtual devices of the CPU."""

import contextlib

import numpy as np
import pytest

import hornbeam
from hornbeam import backend, layers, ops
from hornbeam.backend import devices


@pytest.fixture(autouse=True)
def virtual_devices(monkeypatch):
    monkeypatch.setattr(devices, "in_use", False)
    devices.set_cpu_devices(3)


def copies(program):
    return [line for line in program.describe().splitlines() if " copy[" in line]


def test_scope_decides_where_tensors_live():
    with hornbeam.device("cpu:1"):
        x = ops.ones((2, 3))
        y = ops.exp(x) + 1
        v = hornbeam.Variable([1.0, 2.0])
        with hornbeam.device("CPU"):
            assert ops.ones(2).device == "cpu:0"
    assert (x.device, y.device, v.device, v.value.device) == ("cpu:1",) * 4
    np.testing.assert_allclose(y, np.full((2, 3), np.e + 1), rtol=1e-6)


def test_computation_follows_its_data():
    x = ops.ones(3).to("cpu:2")
    assert (x * 2).device == "cpu:2"
    assert (ops.ones(3) + x).device == "cpu:2"  # what is on the CPU comes along
    assert ops.sort(x).device == "cpu:2"
    assert x.to("cpu:2") is x
    assert x.to("cpu:0").device == "cpu:0"
    assert x.numpy().tolist() == [1.0] * 3


def test_tensors_on_different_devices():
    x, y = ops.ones(3).to("cpu:1"), ops.ones(3).to("cpu:2")
    with pytest.raises(ValueError, match=r"add: expected tensors on one device, got cpu:1, cpu:2"):
        x + y
    with hornbeam.device("cpu:1"):  # a scope moves them
        assert (x + y).device == "cpu:1"


def test_no_such_device():
    with pytest.raises(ValueError, match=r"device: expected one of .*'cpu:2'.*, got 'cpu:7'"):
        ops.ones(2).to("cpu:7")
    with pytest.raises(ValueError, match=r"got 'tpu:0'"), hornbeam.device("tpu:0"):
        pass


def test_one_copy_for_each_value_that_crosses():
    @backend.function
    def f(x):
        with hornbeam.device("cpu:1"):
            a = ops.matmul(x, x)
            b = ops.matmul(a, x)
        with hornbeam.device("cpu:2"):
            c = ops.matmul(b, a)
        return ops.sum(c), b

    x = np.eye(4, dtype="float32") * 2
    concrete = f.concrete(x)
    total, b = f(x)
    assert (total.device, b.device) == ("cpu:2", "cpu:1")
    assert float(total) == 4 * 32
    assert len(copies(concrete.program)) == 3  # x to cpu:1; a and b to cpu:2
    assert concrete.program.describe().count("constant") == 0


def test_constants_are_moved_when_compiled():
    w = ops.ones((4, 4))

    @backend.function
    def f(x):
        return ops.matmul(x, w)

    x = ops.ones((4, 4)).to("cpu:1")
    assert f(x).device == "cpu:1"
    assert not copies(f.concrete(x).program)


def test_state_stays_on_its_device():
    v = hornbeam.Variable(np.zeros(3, "float32"))

    @backend.function
    def f(x):
        v.assign_add(x)
        return v * 2

    x = ops.ones(3).to("cpu:1")
    assert f(x).device == "cpu:1"
    assert v.device == "cpu:0"
    assert v.numpy().tolist() == [1.0] * 3
    v.assign(x)
    assert v.device == "cpu:0"


def test_signatures_tell_devices_apart():
    f = backend.function(lambda x: x + 1)
    x = ops.ones(3)
    assert f(x).device == "cpu:0"
    assert f(x.to("cpu:1")).device == "cpu:1"
    with hornbeam.device("cpu:2"):
        assert f(x).device == "cpu:2"
    assert f.cache_info().traces == 3


def test_control_flow_runs_on_the_cpu_and_comes_back():
    @backend.function
    def f(x, n):
        return ops.while_loop(lambda i, y: i < n, lambda i, y: (i + 1, y * 2.0), (0, x))[1]

    x = ops.ones(3).to("cpu:1")
    y = f(x, np.int32(4))
    assert y.device == "cpu:1"
    assert y.numpy().tolist() == [16.0] * 3


def test_gradients():
    x = ops.convert_to_tensor([1.0, 2.0]).to("cpu:1")
    with backend.GradientTape() as tape:
        tape.watch(x)
        y = ops.sum(x * x)
    dx = tape.gradient(y, x)
    assert dx.device == "cpu:1"
    assert dx.numpy().tolist() == [2.0, 4.0]


def test_training_gives_the_same_numbers_on_any_device():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 8)), rng.integers(0, 3, 64)

    def train(name):
        hornbeam.utils.set_random_seed(1)
        with hornbeam.device(name):
            model = hornbeam.Sequential(
                [
                    layers.Input((8,)),
                    layers.Dense(16, activation="relu"),
                    layers.BatchNormalization(),
                    layers.Dropout(0.2),
                    layers.Dense(3),
                ]
            )
            loss = hornbeam.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("adam", loss, metrics=["accuracy"])
            history = model.fit(x, y, batch_size=16, epochs=2, verbose=0).history
            held = {v.device for v in [*model.variables, *model.optimizer.variables]}
        assert held == {name}
        return history, model.predict(x, verbose=0), model.get_weights()

    (h0, p0, w0), (h1, p1, w1) = train("cpu:0"), train("cpu:1")
    assert h0 == h1
    np.testing.assert_array_equal(p0, p1)
    for a, b in zip(w0, w1, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scope", [None, "cpu:1", "cpu:2"])
def test_state_of_training_goes_to_where_the_weights_are(scope):
    """Outside of their scope too, so that no step copies it; another scope decides for itself."""
    x, y = np.random.default_rng(0).normal(size=(2, 40, 3)).astype("float32")

    def train(places):
        """Numbers, and where the state was after the first epoch."""
        hornbeam.utils.set_random_seed(7)
        optimizer = hornbeam.optimizers.Adam(0.01)
        metric = hornbeam.metrics.MeanAbsoluteError()
        seen = backend.function(lambda: metric.result() + 0)
        dropout = layers.Dropout(0.5)
        seen()
        with hornbeam.device("cpu:1"):
            layers_ = [hornbeam.Input((3,)), layers.Dense(4), dropout, layers.Dense(3)]
            model = hornbeam.Sequential(layers_)
        model.compile(optimizer, "mse", metrics=[metric, "mse"])
        with hornbeam.device(places) if places else contextlib.nullcontext():
            history = model.fit(x, y, batch_size=10, epochs=3, verbose=0).history
            changes = devices.moves
            model.fit(x, y, batch_size=10, verbose=0)
            found = model.evaluate(x, y, verbose=0)
        assert devices.moves == changes  # once
        assert float(seen()) == pytest.approx(found[1])  # compiled while the metric was elsewhere
        state = [*model.variables, *optimizer.variables]
        state += [v for m in model.metrics for v in m.variables]
        return history, found, {v.device for v in state}, model

    history, found, held, model = train(scope)
    assert held == {"cpu:1"} if scope != "cpu:2" else "cpu:0" in held
    expected = train("cpu:1")
    assert history == expected[0]
    assert found == expected[1]
    if scope is None:
        program = model._step_function("train", True).concrete((x[:10], y[:10])).program
        assert len(copies(program)) == 2, program.describe()  # x and y


@pytest.mark.parametrize("call", ["predict", "call", "function"])
def test_compiled_calls_know_the_device_and_the_settings(call):
    """Each way to a compiled program finds another one in another scope, and the old one after it."""
    model = hornbeam.Sequential([hornbeam.Input((3,)), layers.Dense(2)])
    function = backend.function(lambda x: model.layers[0](x))
    x = np.ones((4, 3), "float32")
    caches = {
        "predict": lambda: model._predictor._programs,
        "call": lambda: model._compiled_call._programs,
        "function": lambda: function._cache,
    }
    run = {"predict": lambda: model.predict(x, verbose=0), "call": lambda: model(x)}
    run = run.get(call, lambda: function(x))
    with hornbeam.device("cpu:1"):  # from here on, devices are part of the keys
        pass
    run()
    assert len(caches[call]()) == 1
    hornbeam.config.set_memory_budget(1 << 30)
    run()
    assert len(caches[call]()) == 2
    hornbeam.config.set_memory_budget(None)
    with hornbeam.device("cpu:2"):
        moved = run()
        assert len(caches[call]()) == 3
    assert call == "predict" or moved.device == "cpu:2"
    run()
    assert len(caches[call]()) == 3
