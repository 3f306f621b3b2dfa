"""cond, while_loop, scan: eager and compiled agree, in values and gradients."""

import numpy as np
import pytest

from hornbeam import backend, ops
from hornbeam.backend import GradientTape, Variable, function

R = np.random.default_rng(0)


def both_ways(f, *args, rtol=1e-5):
    eager = [np.asarray(t) for t in backend.tree.flatten(f(*args))]
    traced = [np.asarray(t) for t in backend.tree.flatten(function(f)(*args))]
    for a, b in zip(eager, traced, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)
    return eager


def tensor(*shape):
    return backend.convert_to_tensor(R.standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_cond_and_its_gradient(value):
    w = Variable([2.0, 3.0])

    def f(x):
        with GradientTape() as tape:
            tape.watch(x)
            y = ops.cond(ops.sum(x) > 0, lambda: ops.sum(x * x * w), lambda: ops.sum(ops.exp(x)))
        gx, gw = tape.gradient(y, [x, w], unconnected_gradients="zero")
        return y, gx, gw

    x = np.array([value, value], np.float32)
    y, gx, gw = both_ways(f, backend.convert_to_tensor(x))
    if value > 0:
        np.testing.assert_allclose(gx, 2 * x * [2, 3])
        np.testing.assert_allclose(gw, x * x)
    else:
        np.testing.assert_allclose(gx, np.exp(x), rtol=1e-6)


def test_cond_refuses_branches_that_differ():
    with pytest.raises(ValueError, match="both branches must return the same"):
        function(lambda x: ops.cond(x > 0, lambda: x, lambda: ops.cast(x, "int32")))(np.float32(1))


def test_switch():
    def f(i, x):
        return ops.switch(i, [lambda x: x, lambda x: x * 2, lambda x: x * 3], x)

    for i, k in [(0, 1), (1, 2), (2, 3), (9, 3), (-4, 1)]:
        assert float(both_ways(f, np.int32(i), backend.convert_to_tensor(5.0))[0]) == 5 * k


def test_while_loop_with_captured_values():
    limit = Variable(50.0)

    def f(x):
        return ops.while_loop(lambda i, y: y < limit, lambda i, y: (i + 1, y * x), (0, x))

    i, y = both_ways(f, backend.convert_to_tensor(3.0))
    assert (int(i), float(y)) == (3, 81.0)


def test_while_loop_with_a_bound():
    def f(x):
        return ops.while_loop(lambda v: v > -1, lambda v: v + 1, x, maximum_iterations=7)

    assert float(both_ways(f, backend.convert_to_tensor(0.0))[0]) == 7


def test_while_loop_gradient_needs_a_bound():
    def f(x, bound):
        with GradientTape() as tape:
            tape.watch(x)
            y = ops.while_loop(lambda v: v < 10, lambda v: v * x, x, maximum_iterations=bound)
        return tape.gradient(y, x)

    x = backend.convert_to_tensor(2.0)
    assert float(function(f)(x, 20)) == pytest.approx(4 * 2.0**3)
    with pytest.raises(ValueError, match="maximum_iterations"):
        function(f)(x, None)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_values_and_gradients(reverse):
    w = Variable(R.standard_normal((3, 3)).astype(np.float32) * 0.5)

    def f(h0, xs):
        with GradientTape() as tape:
            tape.watch([h0, xs])

            def step(h, x):
                h = ops.tanh(ops.matmul(h, w) + x)
                return h, ops.sum(h * h)

            h, ys = ops.scan(step, h0, xs, reverse=reverse)
            loss = ops.sum(h) + ops.sum(ys * ops.cast(ops.arange(6), "float32"))
        return h, ys, *tape.gradient(loss, [h0, xs, w])

    both_ways(f, tensor(2, 3), tensor(6, 2, 3), rtol=1e-4)


def test_second_derivative_of_a_scan():
    def f(x):
        with GradientTape() as outer:
            outer.watch(x)
            with GradientTape() as inner:
                inner.watch(x)
                y, _ = ops.scan(lambda c, _: (c * x, None), x, length=3)
                y = ops.sum(y)
            g = inner.gradient(y, x)
            total = ops.sum(g)
        return y, g, outer.gradient(total, x)

    x = np.array([1.5, -2.0], np.float32)
    y, g, gg = both_ways(f, backend.convert_to_tensor(x), rtol=1e-4)
    np.testing.assert_allclose(g, 4 * x**3, rtol=1e-5)
    np.testing.assert_allclose(gg, 12 * x**2, rtol=1e-5)


def test_scan_keeps_no_history_without_a_gradient():
    def f(x):
        return ops.scan(lambda c, x: (c + x, None), x[0], x)[0]

    concrete = function(f).concrete(np.ones((5, 4), np.float32))
    plan = concrete.program.describe()
    scan_line = next(line for line in plan.splitlines() if "= scan(" in line)
    assert scan_line.split(" = ")[0].count("%") == 1


def test_scan_in_scan():
    def f(xs):
        def outer(c, x):
            inner, _ = ops.scan(lambda d, y: (d * 0.5 + y * ops.sum(c), None), c, x)
            return inner, ops.sum(inner)

        with GradientTape() as tape:
            tape.watch(xs)
            c, ys = ops.scan(outer, ops.ones((2,)), xs)
            loss = ops.sum(ys)
        return ys, tape.gradient(loss, xs)

    both_ways(f, tensor(3, 4, 2) * 0.3, rtol=1e-4)


def test_a_changing_carry_is_refused():
    with pytest.raises(ValueError, match="keep its shape and dtype"):
        function(lambda x: ops.scan(lambda c, _: (ops.concatenate([c, c]), None), x, length=2))(
            np.ones(2, np.float32)
        )


def test_assigning_in_a_body_is_refused():
    v = Variable(0.0)

    def step(c, _):
        v.assign_add(1.0)
        return c, None

    with pytest.raises(RuntimeError, match="make it a loop value"):
        function(lambda x: ops.scan(step, x, length=2))(np.float32(1))


def test_fori_map_and_associative_scan():
    def f(x):
        a = ops.fori_loop(0, 5, lambda i, v: v + ops.cast(i, "float32"), ops.sum(x))
        b = ops.map(lambda r: ops.sum(r * r), x)
        c = ops.associative_scan(ops.add, x)
        d = ops.associative_scan(ops.multiply, x, reverse=True)
        return a, b, c, d

    x = R.standard_normal((7, 2)).astype(np.float32)
    a, b, c, d = both_ways(f, backend.convert_to_tensor(x))
    np.testing.assert_allclose(a, x.sum() + 10, rtol=1e-5)
    np.testing.assert_allclose(b, (x * x).sum(1), rtol=1e-5)
    np.testing.assert_allclose(c, np.cumsum(x, 0), rtol=1e-4)
    np.testing.assert_allclose(d, np.cumprod(x[::-1], 0)[::-1], rtol=1e-4)
