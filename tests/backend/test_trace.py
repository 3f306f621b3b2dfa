"""Compiled functions: signatures, state, errors."""

import gc
import weakref
import xml.etree.ElementTree

import numpy as np
import pytest

from hornbeam import backend, ops
from hornbeam.backend import Variable, function


def test_one_trace_per_signature():
    calls = []

    @function
    def f(x, scale):
        calls.append(x.shape)
        return x * scale

    a = np.ones((2, 3), np.float32)
    f(a, 2)
    f(a + 1, 2)
    assert len(calls) == 1 and f.cache_info().hits == 1
    f(a, 3)  # Python numbers count by value
    f(np.ones((4, 3), np.float32), 2)
    f(a.astype(np.float64), 2)
    assert f.cache_info().traces == 4
    np.testing.assert_array_equal(f(a, 3), a * 3)


def test_the_cache_is_bounded_and_says_so_once():
    @function(maxsize=2)
    def f(x):
        return x + 1

    with pytest.warns(UserWarning, match="shapes of its arguments keep changing"):
        for n in range(1, 6):
            f(np.ones(n, np.float32))
    assert f.cache_info().size == 2


def test_structures_and_other_results_come_back():
    @function
    def f(d):
        return {"sum": d["a"] + d["b"], "name": "x", "nothing": None, "pair": (d["a"], [d["b"]])}

    out = f({"b": np.float32(2), "a": np.float32(1)})
    assert float(out["sum"]) == 3 and out["name"] == "x" and out["nothing"] is None
    assert float(out["pair"][1][0]) == 2


def test_state_is_updated_in_place_and_old_values_stay():
    v = Variable([1.0, 2.0])

    @function
    def step(x):
        v.assign_add(x)
        return v.value * 10

    before = v.value
    np.testing.assert_array_equal(step(np.ones(2, np.float32)), [20, 30])
    np.testing.assert_array_equal(v.numpy(), [2, 3])
    np.testing.assert_array_equal(before, [1, 2])


def test_the_old_value_of_a_variable_can_be_returned():
    v = Variable(np.ones(4, np.float32))

    @function
    def f(x):
        old, view = v.value, ops.reshape(v.value, (2, 2))
        v.assign(v.value * x)
        return old, view, v.value

    for expected in (1, 3):
        old, view, new = f(np.float32(3))
        np.testing.assert_array_equal(old, [expected] * 4)
        np.testing.assert_array_equal(view, [[expected] * 2] * 2)
        np.testing.assert_array_equal(new, [3 * expected] * 4)


def test_variables_can_be_swapped_and_shared():
    a, b, c = Variable(1.0), Variable(2.0), Variable(0.0)

    @function
    def swap():
        x, y = a.value, b.value
        a.assign(y)
        b.assign(x)
        c.assign(y)

    swap()
    assert (float(a), float(b), float(c)) == (2.0, 1.0, 2.0)
    swap()
    assert (float(a), float(b), float(c)) == (1.0, 2.0, 1.0)


def test_a_view_assigned_to_a_variable():
    v, w = Variable(np.zeros((2, 3), np.float32)), Variable(np.zeros(6, np.float32))

    @function
    def f(x):
        y = x * 2
        v.assign(y)
        w.assign(ops.reshape(y, (6,)))
        return y

    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(f(x), 2 * x)
    np.testing.assert_array_equal(v.numpy(), 2 * x)
    np.testing.assert_array_equal(w.numpy(), 2 * x.ravel())


@pytest.mark.parametrize(
    "use",
    [bool, float, int, np.asarray, lambda x: x.numpy()],
    ids=["bool", "float", "int", "numpy", "numpy()"],
)
def test_python_that_needs_values_says_what_to_do(use):
    with pytest.raises(TypeError, match="symbolic while the function is compiled"):
        function(lambda x: use(ops.sum(x)))(np.ones(3, np.float32))


def test_values_that_leak_out_of_a_trace_are_refused():
    kept = []

    @function
    def f(x):
        kept.append(x * 2)
        return x

    f(np.ones(2, np.float32))
    with pytest.raises(ValueError, match="outside of the function that made it"):
        ops.add(kept[0], 1.0)
    with pytest.raises(ValueError, match="outside of the function that made it"):
        function(lambda x: x + kept[0])(np.ones(2, np.float32))


def test_programs_die_with_their_function():
    @function
    def f(x):
        return x * 2

    program = weakref.ref(f.concrete(np.ones((64, 64), np.float32)))
    f.cache_clear()
    gc.collect()
    assert program() is None


def test_batches_run_without_python_in_between():
    total = Variable(np.zeros(2, np.float32))

    @function
    def step(x, y):
        total.assign_add(ops.sum(x, axis=0) * ops.sum(y))
        return x * 2

    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    y = np.ones(10, np.float32)
    concrete = step.concrete(x[:5], y[:5])
    out = np.zeros_like(x)
    index = np.arange(10)[::-1].copy()
    concrete.run_batches([x, y], index, 5, 0, 2, [out])
    np.testing.assert_array_equal(out, 2 * x[::-1])
    np.testing.assert_array_equal(total.numpy(), 5 * x.sum(0))
    with pytest.raises(backend.ExecutionError, match="outside of 10 samples"):
        concrete.run_batches([x, y], index + 5, 5, 0, 2)
    with pytest.raises(backend.ExecutionError, match="rows"):
        concrete.run_batches([x.astype(np.float64), y], index, 5, 0, 2)


def test_graph_prints_and_draws():
    graph = function(lambda x: ops.exp(x) + 1).concrete(np.ones(3, np.float32)).graph
    assert "exp(" in str(graph) and "float32[3]" in str(graph)
    assert graph.to_dot().startswith("digraph")
    picture = xml.etree.ElementTree.fromstring(graph.to_svg())
    assert len(picture.findall("{http://www.w3.org/2000/svg}g")) == len(graph.nodes)


def test_methods_are_compiled_per_instance():
    class Scaled:
        def __init__(self, k):
            self.k = k

        @function
        def __call__(self, x):
            return x * self.k

    a, b = Scaled(2.0), Scaled(3.0)
    assert float(a(np.float32(1))) == 2 and float(b(np.float32(1))) == 3


def test_an_error_while_running_names_the_users_line_and_the_layer():
    import hornbeam as keras

    model = keras.Sequential([keras.Input((2,), dtype="int32"), keras.layers.Embedding(10, 3)])
    with pytest.raises(
        backend.ExecutionError, match=r"test_trace\.py:\d+, in sequential.*/embedding"
    ):
        model.predict(np.full((1, 2), 10), verbose=0)


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_with_state_do_what_they_do_eagerly(seed):
    """Plans write over memory wherever nobody reads it any more; nobody may notice."""
    shapes = [(4, 6), (4, 6), (24,), (6, 4)]
    start = [np.random.default_rng(seed).uniform(0.5, 1.5, s).astype(np.float32) for s in shapes]

    def program(variables, x):
        rng = np.random.default_rng(seed)
        values = [x]

        def pick():
            kind = rng.integers(3)
            if kind == 0:
                return ops.reshape(variables[rng.integers(4)].value, (4, 6))
            return values[rng.integers(len(values))]

        for _ in range(25):
            kind = rng.integers(6)
            if kind == 0:
                values.append(ops.tanh(pick() + pick()))
            elif kind == 1:
                values.append(pick() * 0.5 - pick())
            elif kind == 2:
                values.append(ops.matmul(pick(), ops.transpose(pick())) @ pick() * 0.1)
            elif kind == 3:
                values.append(pick() - ops.mean(pick(), axis=0))
            else:
                v = variables[rng.integers(4)]
                v.assign(ops.reshape(pick(), v.shape))
        chosen = [values[i] for i in rng.integers(0, len(values), 3)]
        return [*chosen, pick(), pick()]

    def run(compiled):
        variables = [Variable(s) for s in start]
        f = function(lambda x: program(variables, x)) if compiled else None
        results = []
        for k in range(2):
            x = start[0] * (k + 1)
            out = f(x) if compiled else program(variables, ops.convert_to_tensor(x))
            results += [t.numpy() for t in out] + [v.numpy() for v in variables]
        return results

    for a, b in zip(run(False), run(True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_afterwards_as_before(enabled):
    inside = []

    @function
    def f(x, fails):
        inside.append(gc.isenabled())
        if fails:
            raise ZeroDivisionError
        return x + 1

    try:
        if not enabled:
            gc.disable()
        f(np.ones(2, np.float32), False)
        assert gc.isenabled() == enabled
        with pytest.raises(ZeroDivisionError):
            f(np.ones(2, np.float32), True)
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert inside == [False, False]
