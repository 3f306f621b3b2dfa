"""Equal updates of many variables are one launch on a GPU (backend/passes/launches.py)."""

import numpy as np
import pytest

import hornbeam
from hornbeam import backend, optimizers
from hornbeam.backend.executor import CLUSTER
from hornbeam.backend.passes import launches
from hornbeam.backend.registry import Spec

SHAPES = [(5, 7), (7,), (30, 40), (33,), (2, 3, 4)]


def train(optimizer, device):
    """Variables after four steps, and the plan of a step."""
    rng = np.random.default_rng(0)
    with hornbeam.device(device):
        weights = [hornbeam.Variable(rng.normal(size=s).astype("float32")) for s in SHAPES]
        optimizer.build(weights)

        @backend.function
        def step(gradients):
            optimizer.apply(gradients, weights)

        batches = [[rng.normal(size=s).astype("float32") for s in SHAPES] for _ in range(4)]
        plan = step.concrete(batches[0]).program.describe()
        for gradients in batches:
            step(gradients)
    return [np.array(v) for v in (*weights, *optimizer.variables)], plan


MAKERS = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: optimizers.Adam(0.1),
    "adamw": lambda: optimizers.AdamW(0.1, weight_decay=0.01, amsgrad=True),
    "rmsprop": lambda: optimizers.RMSprop(0.1),
    "lion": lambda: optimizers.Lion(0.1),
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_optimizer_is_one_launch_with_the_same_bits(name, cuda, monkeypatch):
    got, plan = train(MAKERS[name](), cuda)
    assert plan.count(f" x {len(SHAPES)}") == 1, plan
    monkeypatch.setattr(launches, "run", lambda graph: graph)
    expected, plan = train(MAKERS[name](), cuda)
    assert f" x {len(SHAPES)}" not in plan
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_large_ones_stay_alone(cuda, monkeypatch):
    monkeypatch.setattr(launches, "_LARGEST", 100)
    _, plan = train(optimizers.Adam(0.1), cuda)
    assert plan.count(f" x {len(SHAPES) - 1}") == 1, plan


def test_results_that_are_read_stay_alone(cuda):
    with hornbeam.device(cuda):
        a, b = (hornbeam.Variable(np.ones(n, "float32")) for n in (3, 4))

        @backend.function
        def step(x):
            a.assign(a * x + 1.0)
            b.assign(b * x + 1.0)
            return hornbeam.ops.sum(a)

        x = np.float32(2)
        assert " x 2" not in step.concrete(x).program.describe()
        assert float(step(x)) == 9.0
    np.testing.assert_array_equal(np.array(b), [3, 3, 3, 3])


def test_a_gpu_is_needed():
    """Such a cluster is made for a device; the CPU's kernel must not take it for another one."""
    x = np.ones(3, "float32")
    attrs = {
        "fns": ("add",), "arity": (2,), "args": (0, 1), "outs": (2,), "parts": 2,
        "dtypes": ("float32",), "_specs": (Spec((3,), "float32"),) * 2,
    }  # fmt: skip
    with pytest.raises(backend.ExecutionError, match="several clusters in one launch are for GPUs"):
        backend.function(lambda *xs: CLUSTER(*xs, **attrs))(x, x, x, x)


def test_parts_do_not_write_over_what_others_read(cuda):
    """a' = a + 2 b and b' = b + 2 a in one launch: both need the old values."""
    attrs = {
        "fns": ("add", "add"), "arity": (2, 2), "args": (0, 1, 2, 1), "outs": (3,), "parts": 2,
        "dtypes": ("float32", "float32"), "_specs": (Spec((1000,), "float32"),) * 2,
    }  # fmt: skip
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=1000).astype("float32") for _ in range(2))
    with hornbeam.device(cuda):
        a, b = hornbeam.Variable(x), hornbeam.Variable(y)

        @backend.function
        def step():
            new_a, new_b = CLUSTER(a.value, b.value, b.value, a.value, **attrs)
            a.assign(new_a)
            b.assign(new_b)

        @backend.function
        def through_temporaries(a, b):
            p, q = hornbeam.ops.flip(a), hornbeam.ops.flip(b)  # they end where both parts read them
            return CLUSTER(p, q, q, p, **attrs)

        step()
        got = [np.array(v) for v in through_temporaries(x, y)]
    np.testing.assert_array_equal(np.array(a), x + y + y)
    np.testing.assert_array_equal(np.array(b), y + x + x)
    np.testing.assert_array_equal(got[0], (x + y + y)[::-1])
    np.testing.assert_array_equal(got[1], (y + x + x)[::-1])
