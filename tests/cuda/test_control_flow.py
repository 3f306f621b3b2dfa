"""Loops and conditions run on the device; only what decides how they go on is fetched."""

import numpy as np
import pytest

import hornbeam
from hornbeam import backend, ops

RNG = np.random.default_rng(12)
X = RNG.normal(size=(7, 5)).astype("float32")
W = (RNG.normal(size=(5, 5)) / 4).astype("float32")


def compiled(device, f, *args):
    """Results of several runs, and the plan."""
    with hornbeam.device(device):
        g = backend.function(f)
        runs = [
            [np.array(v) for v in hornbeam.tree.flatten(g(*(a * k for a in args)))]
            for k in (1, 2, 1, 2, 1)
        ]
        return runs, g.concrete(*args).program.describe()


def check(cuda, f, *args, kind, on_device=True):
    got, text = compiled(cuda, f, *args)
    expected, _ = compiled("cpu:0", f, *args)
    for a, b in zip(got, expected, strict=True):
        for g, e in zip(a, b, strict=True):
            np.testing.assert_allclose(g, e, rtol=2e-4, atol=1e-5)
    lines = [line for line in text.splitlines() if f" = {kind}(" in line]
    assert lines, text
    for line in lines:
        assert ("on cuda:0 = " in line) == on_device, line
    return text


def test_while(cuda):
    def f(x, w):
        return ops.while_loop(
            lambda i, y: ops.logical_and(i < 9, ops.max(y) < 50),
            lambda i, y: (i + 1, ops.tanh(ops.matmul(y, w)) + y * 1.5),
            (0, x),
        )

    text = check(cuda, f, X, W, kind="while_loop")
    # x, w and the counter's start go there, nothing comes back in the middle
    assert "cuda:0 to cpu:0" not in text, text


@pytest.mark.parametrize("steps", [0, 1, 6])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan(steps, reverse, cuda):
    xs = RNG.normal(size=(steps, 3, 5)).astype("float32")  # slices of 60 bytes: not aligned

    def f(c, w, xs):
        def step(c, x):
            c = ops.tanh(ops.matmul(c, w) + x)
            return c, ops.sum(c, axis=0) * 2

        return ops.scan(step, c, xs, reverse=reverse)

    text = check(cuda, f, X[:3], W, xs, kind="scan")
    assert "cuda:0 to cpu:0" not in text, text


@pytest.mark.parametrize("sign", [1, -1])
def test_cond(sign, cuda):
    def f(x, w):
        return ops.cond(
            ops.sum(ops.abs(x)) * sign > 0,
            lambda: ops.softmax(ops.matmul(x, w)),
            lambda: ops.exp(x) * 2,
        )

    text = check(cuda, f, X, W, kind="cond")
    assert text.count("cuda:0 to cpu:0") == 1, text  # the predicate


def test_branches_without_operands(cuda):
    def f(x):
        return ops.cond(ops.sum(x) > 1e9, lambda: ops.ones((3,)), lambda: ops.zeros((3,)) + 4)

    got, _ = compiled(cuda, f, X)
    np.testing.assert_array_equal(got[0][0], np.full(3, 4))


def test_nested(cuda):
    def f(x, w):
        def outer(i, y):
            y, sums = ops.scan(lambda c, r: (c + ops.tanh(r), ops.sum(c)), y[0], ops.matmul(y, w))
            y = ops.cond(y[0] > 0, lambda: x + y, lambda: x - y * ops.mean(sums))
            return i + 1, y

        return ops.while_loop(lambda i, y: i < 4, outer, (0, x))[1]

    check(cuda, f, X, W, kind="while_loop")


def test_a_body_that_needs_the_processor_stays_there(cuda):
    def f(x, w):
        def step(i, y):
            return i + 1, ops.matmul(y, ops.inv(w + 2 * ops.eye(5)))

        return ops.while_loop(lambda i, y: i < 3, step, (0, ops.tanh(x)))[1]

    check(cuda, f, X, W, kind="while_loop", on_device=False)


def test_gradients(cuda):
    def f(x, w):
        with backend.GradientTape() as tape:
            tape.watch([x, w])
            c, ys = ops.scan(
                lambda c, r: (ops.tanh(ops.matmul(c, w)) + r, ops.sum(c * c)), ops.zeros((5,)), x
            )
            y = ops.while_loop(
                lambda y: ops.sum(ops.abs(y)) < 9, lambda y: y * 1.5, (c,), maximum_iterations=6
            )[0]
            y = ops.cond(ops.sum(y) > 0, lambda: y * y, lambda: ops.exp(y))
            loss = ops.sum(y) + ops.sum(ys)
        return loss, *tape.gradient(loss, [x, w])

    check(cuda, f, X, W, kind="scan")


def test_bodies_are_replayed(cuda, monkeypatch):
    """Values alternate between two places: the body of a loop is recorded for each and replayed."""
    from hornbeam.backend import executor

    children = []
    lower = executor.lower

    def keep(graph):
        children.append(lower(graph))
        return children[-1]

    monkeypatch.setattr(executor, "lower", keep)
    with hornbeam.device(cuda):
        f = backend.function(
            lambda x, w: ops.scan(lambda c, r: (ops.tanh(ops.matmul(c, w)) + r, r * 2), x[0:1], x)
        )
        xs = RNG.normal(size=(40, 5)).astype("float32")
        f(xs, W)
    assert max(c.replay_counts[2] for c in children) >= 30, [c.describe() for c in children]


def test_random_numbers_and_state_in_a_loop(cuda):
    found = []
    for device in (cuda, "cpu:0"):
        with hornbeam.device(device):
            seed = hornbeam.random.SeedGenerator(3)

            @backend.function
            def f(x, seed=seed):
                noise = hornbeam.random.uniform((6, *x.shape), seed=seed)
                return ops.scan(lambda c, n: (c * 0.5 + n, c[0]), x, noise)

            found.append([np.array(v) for _ in range(3) for v in f(X)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
