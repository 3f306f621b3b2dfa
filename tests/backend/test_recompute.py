"""Element-wise values that the backward part computes again: same bits, less memory."""

import numpy as np
import pytest

from hornbeam import ops
from hornbeam.backend import GradientTape, Variable, function, passes
from hornbeam.backend.graph import Graph
from hornbeam.backend.passes import recompute

R = np.random.default_rng(0)
X = R.standard_normal((256, 512)).astype("float32")
W = (R.standard_normal((512, 512)) / 22).astype("float32")


def step(activation, dtype="float32"):
    w = Variable(W, dtype=dtype)

    def f(x):
        with GradientTape() as tape:
            y = activation(ops.matmul(x, w))
            total = ops.sum(ops.square(ops.matmul(y, w)))
        return tape.gradient(total, w)

    return f


def clusters(f, *arrays):
    graph = passes.optimize(function(f).concrete(*arrays).graph)
    return [n for n in graph.nodes if n.op.elementwise or n.op.name == "elementwise"]


@pytest.mark.parametrize("name", ["silu", "mish", "tanh", "elu", "hard_silu", "softsign", "gelu"])
def test_same_bits_in_no_more_memory(name, monkeypatch):
    f = step(getattr(ops, name))
    again = function(f).concrete(X)
    monkeypatch.setattr(recompute, "plan", lambda *a: None)
    stored = function(f).concrete(X)
    np.testing.assert_array_equal(again.run([X]), stored.run([X]))
    assert again.program.arena_bytes <= stored.program.arena_bytes
    if name in ("silu", "mish"):
        assert again.program.arena_bytes <= stored.program.arena_bytes - X.nbytes // 2


def test_the_sigmoid_of_silu_is_not_kept():
    first = clusters(step(ops.silu), X)[0]
    assert first.attrs["fns"] == ("sigmoid", "multiply") and len(first.outputs) == 1


def test_small_values_are_kept():
    w = Variable(W[:, :4])

    def f(x):
        with GradientTape() as tape:
            total = ops.sum(ops.matmul(ops.silu(ops.matmul(x, w)), ops.transpose(w)))
        return tape.gradient(total, w)

    assert len(clusters(f, X[:8])[0].outputs) == 2


def test_what_is_rounded_when_stored_is_kept():
    x, f = ops.cast(X, "bfloat16"), step(ops.silu, "bfloat16")
    again = np.asarray(ops.cast(function(f)(x), "float32"))
    assert any(len(n.outputs) > 1 for n in clusters(f, x))
    assert np.isfinite(again).all()


@pytest.mark.parametrize("seed", range(25))
def test_random_graphs(seed, monkeypatch):
    """Clusters around products and sums, where all that pays or not may be computed again."""
    monkeypatch.setattr(recompute, "_LEAST_BYTES", 0)
    monkeypatch.setattr(recompute, "_COST", 0.0)
    monkeypatch.setattr(recompute, "_DEAR_COST", 0.5)
    x = R.standard_normal((6, 6)).astype("float32")

    def f(x):
        rng = np.random.default_rng(seed)
        values = [x, x * 0.5]
        for _ in range(40):
            a, b = (values[i] for i in rng.integers(max(0, len(values) - 9), len(values), 2))
            kind = rng.integers(7)
            if kind == 0:
                new = ops.matmul(a, b) * 0.2
            elif kind == 1:
                new = ops.sum(a, axis=0, keepdims=True) * 0.1 + b
            elif kind == 2:
                new = ops.where(a > 0, a, b)
            else:
                new = (ops.sigmoid(a), ops.tanh(a) * b, a - b, ops.exp(-ops.square(a)))[kind - 3]
            values.append(new)
        return values[-4:]

    calls = []
    prune = recompute._prune
    monkeypatch.setattr(recompute, "_prune", lambda *a: calls.append(prune(*a)))
    with Graph() as g:
        g.outputs = f(g.input(x.shape, "float32"))
    passes.optimize(g)
    again = function(f)(x)
    COUNT.append(len(calls))
    monkeypatch.setattr(recompute, "plan", lambda *a: None)
    for a, b in zip(again, function(f)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)  # multiply-adds


COUNT: list[int] = []


def test_random_graphs_were_rewritten():
    assert sum(COUNT) > 20 or not COUNT
