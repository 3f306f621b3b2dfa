"""GradientTape, eager and inside compiled functions: the same answers."""

import numpy as np
import pytest

from hornbeam import backend, ops
from hornbeam.backend import GradientTape, Variable, custom_gradient, function, remat


def both_ways(f, *args):
    """f(*args) eagerly and compiled, as NumPy arrays; they must agree."""
    eager = [np.asarray(t) for t in backend.tree.flatten(f(*args))]
    traced = [np.asarray(t) for t in backend.tree.flatten(function(f)(*args))]
    for a, b in zip(eager, traced, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    return eager


X = np.array([0.5, -1.5, 2.0], np.float32)


def test_first_derivative():
    def f(x):
        with GradientTape() as tape:
            tape.watch(x)
            y = ops.sum(ops.exp(x) * x)
        return tape.gradient(y, x)

    (g,) = both_ways(f, backend.convert_to_tensor(X))
    np.testing.assert_allclose(g, np.exp(X) * (1 + X), rtol=1e-6)


def test_third_derivative_by_nested_tapes():
    def f(x):
        with GradientTape() as a:
            a.watch(x)
            with GradientTape() as b:
                b.watch(x)
                with GradientTape() as c:
                    c.watch(x)
                    y = ops.sum(x**5)
                d1 = c.gradient(y, x)
                s1 = ops.sum(d1)
            d2 = b.gradient(s1, x)
            s2 = ops.sum(d2)
        return d1, d2, a.gradient(s2, x)

    d1, d2, d3 = both_ways(f, backend.convert_to_tensor(X))
    np.testing.assert_allclose(d1, 5 * X**4, rtol=1e-5)
    np.testing.assert_allclose(d2, 20 * X**3, rtol=1e-5)
    np.testing.assert_allclose(d3, 60 * X**2, rtol=1e-5)


def test_variables_are_watched_and_structures_kept():
    v, frozen = Variable([2.0, 3.0]), Variable([1.0, 1.0], trainable=False)
    with GradientTape() as tape:
        y = ops.sum(v * v * frozen)
    grads = tape.gradient(y, {"v": v, "frozen": frozen, "other": Variable(0.0)})
    np.testing.assert_allclose(grads["v"], [4, 6])
    assert grads["frozen"] is None and grads["other"] is None


def test_a_variable_assigned_inside_the_tape():
    v = Variable(3.0)

    def f():
        with GradientTape() as tape:
            y = v * v
            v.assign(10.0)
            y = y + v * 0.0
        return tape.gradient(y, v)

    assert float(f()) == 6.0
    v.assign(3.0)


def test_persistent_tape_and_output_gradients():
    x = backend.convert_to_tensor(X)
    with GradientTape(persistent=True) as tape:
        tape.watch(x)
        y, z = x * x, ops.exp(x)
    weights = np.array([1, 0, 2], np.float32)
    np.testing.assert_allclose(tape.gradient(y, x, output_gradients=weights), 2 * X * weights)
    np.testing.assert_allclose(tape.gradient(z, x), np.exp(X), rtol=1e-6)
    np.testing.assert_allclose(tape.gradient([y, z], x), 2 * X + np.exp(X), rtol=1e-6)


def test_a_tape_is_used_once():
    x = backend.convert_to_tensor(X)
    with GradientTape() as tape:
        tape.watch(x)
        y = x * x
    tape.gradient(y, x)
    with pytest.raises(RuntimeError, match="persistent"):
        tape.gradient(y, x)


def test_integers_are_refused():
    with GradientTape() as tape, pytest.raises(ValueError, match="floats"):
        tape.watch(backend.convert_to_tensor([1, 2]))


def test_stop_gradient():
    def f(x):
        with GradientTape() as tape:
            tape.watch(x)
            y = ops.sum(x * ops.stop_gradient(x))
        return tape.gradient(y, x)

    np.testing.assert_allclose(both_ways(f, backend.convert_to_tensor(X))[0], X)


def test_unconnected_gradients():
    x = backend.convert_to_tensor(X)
    with GradientTape() as tape:
        tape.watch(x)
        y = ops.sum(ops.ones((3,)))
    np.testing.assert_array_equal(tape.gradient(y, x, unconnected_gradients="zero"), [0, 0, 0])


def test_custom_gradient_eager_and_traced():
    @custom_gradient
    def doubled(x):
        return x * 1.0, lambda upstream: upstream * 2.0

    def f(x):
        with GradientTape() as tape:
            tape.watch(x)
            y = ops.sum(doubled(x) * x)
        return y, tape.gradient(y, x)

    y, g = both_ways(f, backend.convert_to_tensor(X))
    np.testing.assert_allclose(y, (X * X).sum(), rtol=1e-6)
    np.testing.assert_allclose(g, X + 2 * X, rtol=1e-6)


def test_remat_gives_the_same_gradients_and_recomputes():
    v = Variable(X)

    def inside(x):
        return ops.tanh(ops.exp(x) * v)

    def gradients(f):
        def g(x):
            with GradientTape() as tape:
                tape.watch(x)
                y = ops.sum(f(x) * x)
            return tape.gradient(y, [x, v])

        return function(g)

    plain, again = gradients(inside), gradients(remat(inside))
    for a, b in zip(plain(X), again(X), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    text = str(again.concrete(X).graph)
    assert text.count("= tanh(") == 2 and text.count("barrier") >= 1


def test_gradient_through_a_compiled_function():
    v = Variable(2.0)

    @function
    def f(x):
        return x * v

    with GradientTape() as tape:
        y = f(backend.convert_to_tensor(3.0))
    assert float(tape.gradient(y, v)) == 3.0
