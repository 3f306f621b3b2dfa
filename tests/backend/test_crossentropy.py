"""A cross entropy and its gradient in one node: the numbers of the two."""

import numpy as np
import pytest

from hornbeam import ops
from hornbeam.backend import GradientTape, function, passes
from hornbeam.backend.passes import crossentropy

R = np.random.default_rng(0)
ROWS, CLASSES = 37, 213
X = (3 * R.standard_normal((ROWS, CLASSES))).astype("float32")
LABELS = R.integers(0, CLASSES, ROWS).astype("int32")
TARGETS = R.random((ROWS, CLASSES)).astype("float32")
WEIGHTS = R.random(ROWS).astype("float32")


def names(graph):
    return [n.op.name for n in graph.nodes]


def step(kind, read_after=False):
    """Logits, labels, weights → loss, its gradient for the logits."""

    def f(x, t, w):
        with GradientTape() as tape:
            tape.watch(x)
            logits = x * 1.5
            loss = getattr(ops, kind)(t, logits, from_logits=True)
            total = ops.sum(loss * w) / ROWS
        results = [loss, tape.gradient(total, x)]
        return [*results, ops.argmax(logits, axis=-1)] if read_after else results

    return f


CASES = [
    ("sparse_categorical_crossentropy", LABELS),
    ("categorical_crossentropy", TARGETS),
]


@pytest.mark.parametrize("kind, labels", CASES)
@pytest.mark.parametrize("read_after", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_same_numbers_as_apart(kind, labels, read_after, dtype, monkeypatch):
    x, w = ops.cast(X, dtype), ops.cast(WEIGHTS, dtype)
    together = [np.asarray(ops.cast(y, "float64")) for y in run(kind, read_after, x, labels, w)]
    monkeypatch.setattr(crossentropy, "run", lambda graph: graph)
    apart = [np.asarray(ops.cast(y, "float64")) for y in run(kind, read_after, x, labels, w)]
    tolerance = 0 if labels is LABELS else 1e-3 if "16" in dtype else 1e-6  # multiply-adds
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance / 100)


def run(kind, read_after, *operands):
    return function(step(kind, read_after))(*operands)


@pytest.mark.parametrize("kind, labels", CASES)
def test_one_node(kind, labels):
    graph = function(step(kind)).concrete(X, labels, WEIGHTS).graph
    assert [n for n in names(passes.optimize(graph)) if "softmax" in n] == [
        f"{'sparse_' * (labels is LABELS)}softmax_crossentropy_both"
    ]


@pytest.mark.parametrize("kind, labels", CASES)
def test_against_float64(kind, labels):
    loss, gradient = run(kind, False, X, labels, WEIGHTS)
    logits = 1.5 * X.astype("float64")
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = np.eye(CLASSES)[labels] if labels is LABELS else labels.astype("float64")
    np.testing.assert_allclose(loss, -(targets * log_p).sum(-1), rtol=2e-6)
    expected = np.exp(log_p) * targets.sum(-1, keepdims=True) - targets
    expected *= 1.5 * WEIGHTS[:, None].astype("float64") / ROWS
    np.testing.assert_allclose(gradient, expected, rtol=3e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_metrics_come_before_the_logits_are_written_over(dtype):
    w = ops.cast(R.standard_normal((8, 100)), dtype)
    x, labels = ops.cast(R.standard_normal((4, 512, 8)), dtype), R.integers(0, 100, (4, 512))

    def f(x, t, metric):
        with GradientTape() as tape:
            tape.watch(x)
            logits = ops.matmul(x, w)
            wide = ops.cast(logits, "float32")
            loss = ops.mean(ops.sparse_categorical_crossentropy(t, wide, from_logits=True))
        gradient = tape.gradient(loss, x)
        if not metric:
            return loss, gradient
        hits = ops.equal(ops.argmax(ops.reshape(logits, (2048, 100)), axis=-1), ops.reshape(t, -1))
        return loss, gradient, ops.sum(ops.cast(hits, "int32"))

    one = function(lambda x, t: f(x, t, False)).concrete(x, labels)
    two = function(lambda x, t: f(x, t, True)).concrete(x, labels)
    for a, b in zip(one.run([x, labels]), two.run([x, labels]), strict=False):
        np.testing.assert_array_equal(ops.cast(a, "float32"), ops.cast(b, "float32"))
    logits = np.asarray(ops.cast(ops.matmul(x, w), "float32"))
    assert int(two.run([x, labels])[2]) == (logits.argmax(-1) == labels).sum()
    size = 2048 * 100 * (2 if dtype == "bfloat16" else 4)
    assert two.program.arena_bytes < one.program.arena_bytes + size // 4


@pytest.mark.parametrize("dtype, unit", [("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
@pytest.mark.parametrize("kind, labels", CASES)
def test_logits_of_16_bits_are_read_and_their_gradient_is_written_as_such(
    kind, labels, dtype, unit
):
    x, w = ops.cast(X, dtype), ops.convert_to_tensor(WEIGHTS)

    def f(x, t, w):
        with GradientTape() as tape:
            tape.watch(x)
            loss = getattr(ops, kind)(t, ops.cast(x, "float32"), from_logits=True)
            total = ops.sum(loss * w)
        return loss, tape.gradient(total, x)

    graph = passes.optimize(function(f).concrete(x, labels, w).graph)
    (node,) = [n for n in graph.nodes if n.op.name.endswith("_both")]
    assert [v.dtype for v in (node.inputs[0], *node.outputs)] == [dtype, dtype, "float32"]
    assert "cast" not in names(graph)
    loss, gradient = function(f)(x, labels, w)
    logits = np.asarray(ops.cast(x, "float64"))
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = np.eye(CLASSES)[labels] if labels is LABELS else labels.astype("float64")
    np.testing.assert_allclose(loss, -(targets * log_p).sum(-1), rtol=2e-6)
    expected = np.exp(log_p) * targets.sum(-1, keepdims=True) - targets
    expected *= WEIGHTS[:, None].astype("float64")
    np.testing.assert_allclose(ops.cast(gradient, "float64"), expected, rtol=1.02 * unit, atol=1e-6)


def test_apart_where_the_gradient_waits_for_the_loss():
    def f(x, t):
        with GradientTape() as tape:
            tape.watch(x)
            loss = ops.sparse_categorical_crossentropy(t, x, from_logits=True)
            total = ops.sum(ops.square(loss))
        return loss, tape.gradient(total, x)

    got = names(passes.optimize(function(f).concrete(X, LABELS).graph))
    assert "sparse_softmax_crossentropy" in got and "sparse_softmax_crossentropy_grad" in got
    loss, gradient = function(f)(X, LABELS)
    p = np.exp(X.astype("float64"))
    p /= p.sum(-1, keepdims=True)
    expected = (p - np.eye(CLASSES)[LABELS]) * 2 * np.asarray(loss, "float64")[:, None]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_two_losses_of_which_one_weighs_the_other():
    def f(x, t):
        with GradientTape(persistent=True) as tape:
            tape.watch(x)
            first = ops.sparse_categorical_crossentropy(t, x, from_logits=True)
            second = ops.sparse_categorical_crossentropy(t, x * 2.0, from_logits=True)
            total = ops.sum(first * ops.stop_gradient(second)) + ops.sum(
                second * ops.stop_gradient(first)
            )
        return tape.gradient(total, x)

    graph = passes.optimize(function(f).concrete(X, LABELS).graph)
    assert sum(n.endswith("_both") for n in names(graph)) == 1  # both would wait in a circle

    def parts(scale):
        e = np.exp(scale * X.astype("float64"))
        p = e / e.sum(-1, keepdims=True)
        hot = np.eye(CLASSES)[LABELS]
        return -np.log((p * hot).sum(-1, keepdims=True)), scale * (p - hot)

    (a, da), (b, db) = parts(1.0), parts(2.0)
    np.testing.assert_allclose(function(f)(X, LABELS), da * b + db * a, rtol=1e-4, atol=1e-6)


def test_labels_out_of_range():
    bad = LABELS.copy()
    bad[3] = CLASSES
    with pytest.raises(Exception, match="out of range"):
        run("sparse_categorical_crossentropy", False, X, bad, WEIGHTS)


def test_a_logit_that_is_not_a_number_stays_in_its_row():
    x = X.copy()
    x[5, 100] = np.nan
    results = run("sparse_categorical_crossentropy", False, x, LABELS, WEIGHTS)
    loss, gradient = (np.asarray(y) for y in results)
    rows = np.arange(ROWS) == 5
    np.testing.assert_array_equal(np.isnan(loss), rows)
    np.testing.assert_array_equal(np.isnan(gradient).all(-1), rows)
    np.testing.assert_array_equal(np.isnan(gradient).any(-1), rows)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_logits_stay_narrow(dtype, monkeypatch):
    """Mixed precision: a loss in float32 of logits of 16 bits."""
    w = ops.cast(X[:8].T, dtype)

    def f(x, t):
        with GradientTape() as tape:
            tape.watch(x)
            logits = ops.matmul(x, w)
            loss = ops.sparse_categorical_crossentropy(
                t, ops.cast(logits, "float32"), from_logits=True
            )
            total = ops.mean(loss)
        return loss, ops.cast(tape.gradient(total, x), "float32")

    x, t = ops.cast(X, dtype), LABELS % 8
    graph = passes.optimize(function(f).concrete(x, t).graph)
    (node,) = (n for n in graph.nodes if n.op.name.endswith("_both"))
    assert node.inputs[0].dtype == dtype
    assert [v.dtype for v in node.outputs] == [dtype, "float32"]
    together = function(f)(x, t)
    monkeypatch.setattr(crossentropy, "run", lambda graph: graph)
    for a, b in zip(together, function(f)(x, t), strict=True):
        np.testing.assert_array_equal(a, b)
