"""What has no public name: batch norm in training, kernels against their compositions."""

import numpy as np
import pytest
from support.gradcheck import gradcheck

from hornbeam import backend, ops
from hornbeam.backend.registry import REGISTRY
from hornbeam.ops import nn

RNG = np.random.default_rng(0)


def normal(*shape, dtype="float64"):
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_norm_train(axis, dtype):
    x = normal(6, 4, 5, dtype=dtype) * 3 + 100
    n = x.shape[axis]
    gamma, beta = normal(n, dtype=dtype), normal(n, dtype=dtype)
    y, mean, var = nn._batch_norm_train(x, gamma, beta, axis=axis, epsilon=1e-3)
    wide = np.moveaxis(x.astype("float64"), axis, -1)
    rows = wide.reshape(-1, n)
    expected = (wide - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-3) * gamma + beta
    tol = 1e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(mean, rows.mean(0), rtol=tol)
    np.testing.assert_allclose(var, rows.var(0), rtol=tol)
    np.testing.assert_allclose(np.moveaxis(np.asarray(y), axis, -1), expected, rtol=tol, atol=tol)


@pytest.mark.parametrize("axis", [-1, 1])
def test_batch_norm_gradient(axis):
    x = normal(3, 4, 5)
    n = x.shape[axis]
    gradcheck(
        lambda x, g, b: nn._batch_norm_train(x, g, b, axis=axis)[0],
        [x, normal(n), normal(n)],
        rtol=1e-5,
    )


def test_variance_of_a_large_mean_keeps_its_digits():
    x = (normal(5000, 3) + 1e4).astype("float32")
    one, zero = np.ones(3, "float32"), np.zeros(3, "float32")
    var = nn._batch_norm_last(x, one, zero, 0.0)[2]
    np.testing.assert_allclose(var, x.astype("float64").var(0), rtol=1e-4)


def test_gradients_flow_through_a_second_derivative():
    def first(x):
        with backend.GradientTape() as tape:
            tape.watch(x)
            y = ops.sum(ops.layer_normalization(x, epsilon=1e-2) ** 3)
        return tape.gradient(y, x)

    gradcheck(first, [normal(2, 4)], rtol=1e-4)


COMPOSITIONS = [
    (nn._softmax, [(5, 7)], ()),
    (nn._log_softmax, [(5, 7)], ()),
    (nn._softmax_grad, [(5, 7)] * 2, ()),
    (nn._log_softmax_grad, [(5, 7)] * 2, ()),
    (nn._layer_norm, [(5, 7), (7,), (7,)], (1e-3,)),
    (nn._layer_norm_grad, [(5, 7), (7,), (5, 7)], (1e-3,)),
    (nn._rms_norm, [(5, 7), (7,)], (1e-3,)),
    (nn._rms_norm_grad, [(5, 7), (7,), (5, 7)], (1e-3,)),
    (nn._batch_norm_last, [(50, 7), (7,), (7,)], (1e-3,)),
    (nn._softmax_crossentropy, [(5, 7)] * 2, ()),
    (nn._softmax_crossentropy_grad, [(5, 7), (5, 7), (5,)], ()),
]


@pytest.mark.parametrize(
    ("op", "shapes", "attrs"), COMPOSITIONS, ids=[c[0].node_op.name for c in COMPOSITIONS]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kernel_does_what_its_composition_says(op, shapes, attrs, dtype):
    assert op.node_op.has_kernel([backend.Spec((), dtype)])
    assert REGISTRY[op.node_op.name] is op.node_op
    xs = [backend.convert_to_tensor(normal(*s, dtype=dtype)) for s in shapes]
    tol = 2e-5 if dtype == "float32" else 1e-12
    got, expected = op(*xs, *attrs), op.function(*xs, *attrs)
    for g, e in zip(backend.tree.flatten(got), backend.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(g, e, rtol=tol, atol=tol)


def test_gradient_of_top_k():
    x = RNG.permutation(24).reshape(4, 6).astype("float64")
    gradcheck(lambda x: ops.top_k(x, 3)[0], [x])


def test_embedding_gradients_are_the_same_bits_for_repeated_ids():
    table, ids = normal(50, 16, dtype="float32"), RNG.integers(0, 50, 4000)
    dy = normal(4000, 16, dtype="float32")

    def gradient():
        t = backend.convert_to_tensor(table)
        with backend.GradientTape() as tape:
            tape.watch(t)
            y = ops.sum(ops.take(t, ids, axis=0) * dy)
        return np.asarray(tape.gradient(y, t))

    got = gradient()
    np.testing.assert_array_equal(got, gradient())
    expected = np.zeros((50, 16))
    np.add.at(expected, ids, dy.astype("float64"))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
