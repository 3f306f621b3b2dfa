"""The order of the nodes of a program, and the memory that it takes."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import ops
from hornbeam.backend import passes
from hornbeam.backend.passes import schedule
from hornbeam.backend.passes.lifetimes import Flow

LAYERS, WIDTH, BATCH = 6, 128, 4


def step_program():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((WIDTH,))]
        + [keras.layers.Dense(WIDTH, activation="relu") for _ in range(LAYERS)]
    )
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    data = np.ones((BATCH, WIDTH), "float32"), np.ones((BATCH, WIDTH), "float32")
    model._prepare(data, training=True)
    return model._step_function("train", True).concrete(data)


def test_gradients_die_as_soon_as_their_variable_is_updated():
    concrete = step_program()
    weight = WIDTH * WIDTH * 4
    # one or two gradients of weights at a time, and the activations
    assert concrete.program.arena_bytes < 3.5 * weight + 4 * LAYERS * BATCH * WIDTH * 4 + 65536


def test_the_estimate_is_what_the_plan_needs():
    concrete = step_program()
    flow = Flow(passes.optimize(concrete.graph))
    need = max(flow.usage(flow.steps()))
    assert need <= concrete.program.arena_bytes  # without scratch and the table of operands


def test_new_values_of_variables_wait_for_the_readers_of_the_old_ones():
    v = keras.Variable(np.ones((64, 64), "float32"))
    big = np.ones((64, 64), "float32")

    @keras.function
    def run(x):
        old = v + 0.0
        gradient = ops.matmul(x, x)
        readers = [ops.matmul(old * k, x) for k in range(1, 8)]
        v.assign(v - gradient)  # could run before the readers
        return sum(ops.sum(r) for r in readers) + ops.sum(v)

    total = run(big)
    np.testing.assert_allclose(float(total), 28 * 64.0**3 + (1 - 64) * 64.0**2)
    np.testing.assert_allclose(v.numpy(), 1 - 64)
    assert "copy" not in run.concrete(big).program.describe()


def test_an_order_that_saves_nothing_is_left_alone():
    @keras.function
    def run(x):
        for k in range(12):
            x = ops.matmul(x, x) * (0.01 + k)
        return x

    graph = passes.optimize(run.concrete(np.ones((8, 8), "float32")).graph)
    before = list(graph.nodes)
    assert schedule.run(graph).nodes == before


@pytest.mark.parametrize("seed", range(20))
def test_every_order_computes_the_same(seed, monkeypatch):
    r = np.random.default_rng(seed)
    xs = [r.normal(size=(16, 16)).astype("float32") for _ in range(3)]
    variables = [keras.Variable(r.normal(size=(16, 16)).astype("float32")) for _ in range(3)]
    start = [v.numpy() for v in variables]
    choices = r.integers(0, 1 << 30, size=60)

    def run(*xs):
        values = [ops.convert_to_tensor(x) for x in xs]
        for c in choices:
            a, b = values[c % len(values)], values[(c >> 8) % len(values)]
            v = variables[(c >> 16) % 3]
            kind = (c >> 20) % 5
            if kind == 0:
                values.append(ops.tanh(ops.matmul(a, b)))
            elif kind == 1:
                values.append(a * 0.5 + b)
            elif kind == 2:
                values.append(ops.tanh(v) + a)
            elif kind == 3:
                v.assign(ops.tanh(a) - v * 0.5)
            else:
                values.append(ops.transpose(a))
        return values[-1], values[len(values) // 2]

    def results():
        for v, value in zip(variables, start, strict=True):
            v.assign(value)
        out = keras.function(run)(*xs)
        return [x.numpy() for x in (*out, *variables)]

    mine = results()
    monkeypatch.setattr(schedule, "run", lambda graph: graph)
    for a, b in zip(mine, results(), strict=True):
        np.testing.assert_array_equal(a, b)
