"""Simple recurrence, LSTM and GRU over a whole sequence against the loops they stand for: values and gradients."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import backend, ops
from hornbeam.ops import recurrent


def visible(mask, t, new, old):
    return new if mask is None else ops.where(ops.reshape(mask[t], (-1, 1)), new, old)


def lstm_loop(projected, h, c, kernel, mask=None):
    hs, cs = [], []
    for t in range(projected.shape[0]):
        z = projected[t] + ops.matmul(h, kernel)
        i, f, g, o = ops.split(z, 4, axis=-1)
        new = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = visible(mask, t, ops.sigmoid(o) * ops.tanh(new), h)
        c = visible(mask, t, new, c)
        hs.append(h)
        cs.append(c)
    return ops.stack(hs), ops.stack(cs)


def simple_loop(projected, h, kernel, mask=None):
    hs = []
    for t in range(projected.shape[0]):
        h = visible(mask, t, ops.tanh(projected[t] + ops.matmul(h, kernel)), h)
        hs.append(h)
    return (ops.stack(hs),)


def gru_loop(projected, h, kernel, bias, mask=None):
    hs = []
    for t in range(projected.shape[0]):
        x_z, x_r, x_n = ops.split(projected[t], 3, axis=-1)
        h_z, h_r, h_n = ops.split(ops.matmul(h, kernel) + bias, 3, axis=-1)
        z = ops.sigmoid(x_z + h_z)
        n = ops.tanh(x_n + ops.sigmoid(x_r + h_r) * h_n)
        h = visible(mask, t, z * h + (1 - z) * n, h)
        hs.append(h)
    return (ops.stack(hs),)


def gru_before_loop(projected, h, kernel, mask=None):
    hs = []
    for t in range(projected.shape[0]):
        x_z, x_r, x_n = ops.split(projected[t], 3, axis=-1)
        k_z, k_r, k_n = ops.split(kernel, 3, axis=-1)
        z, r = ops.sigmoid(x_z + ops.matmul(h, k_z)), ops.sigmoid(x_r + ops.matmul(h, k_r))
        n = ops.tanh(x_n + ops.matmul(r * h, k_n))
        h = visible(mask, t, z * h + (1 - z) * n, h)
        hs.append(h)
    return (ops.stack(hs),)


def arguments(gates, steps=4, batch=3, units=2, dtype="float64"):
    r = np.random.default_rng(0)
    state, n = (batch, units), int(gates) * units
    shapes = [(steps, batch, n), state]
    shapes += {1: [(units, n)], "3": [(units, n)], 3: [(units, n), (n,)], 4: [state, (units, n)]}[
        gates
    ]
    return [ops.convert_to_tensor(r.normal(size=s).astype(dtype)) for s in shapes]


def some_mask(xs):
    shape = xs[0].shape[:2]
    mask = np.random.default_rng(1).random(shape) < 0.6
    mask[0, 0], mask[-1, -1] = False, shape[0] == 1  # from the start, to the end
    return ops.convert_to_tensor(mask)


def loss(fn, xs, outputs, *mask):
    results = fn(*xs, *mask)
    results = results if isinstance(results, (list, tuple)) else (results,)
    return sum(ops.sum(ops.sin(results[k] * (k + 1.0))) for k in outputs)


def value_and_gradients(fn, xs, outputs, *mask):
    with keras.GradientTape() as tape:
        for x in xs:
            tape.watch(x)
        value = loss(fn, xs, outputs, *mask)
    return [value, *tape.gradient(value, list(xs))]


LSTM = (recurrent.lstm_sequence, lstm_loop, 4)
GRU = (recurrent.gru_sequence, gru_loop, 3)
# "3": three gates, but no bias of the state's part
GRU_BEFORE = (recurrent.gru_before_sequence, gru_before_loop, "3")
SIMPLE = (recurrent.simple_sequence, simple_loop, 1)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "kind,outputs",
    [(LSTM, (0,)), (LSTM, (1,)), (LSTM, (0, 1)), (GRU, (0,)), (SIMPLE, (0,)), (GRU_BEFORE, (0,))],
)
def test_a_sequence_is_the_loop(compiled, masked, kind, outputs):
    xs = arguments(kind[2])
    mask = [some_mask(xs)] if masked else []

    def values(fn):
        def run(*xs):
            return value_and_gradients(fn, xs, outputs, *mask)

        return (keras.function(run) if compiled else run)(*xs)

    for mine, theirs in zip(values(kind[0]), values(kind[1]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "kind", [LSTM, GRU, SIMPLE, GRU_BEFORE], ids=["lstm", "gru", "simple", "gru_before"]
)
def test_second_derivatives(kind, masked):
    xs = arguments(kind[2], steps=3, batch=2)
    mask = [some_mask(xs)] if masked else []
    kernel = xs[3 if kind[2] == 4 else 2]  # follows the states

    def second(fn):
        with keras.GradientTape() as outer:
            outer.watch(kernel)
            with keras.GradientTape() as inner:
                inner.watch(kernel)
                value = loss(fn, xs, (0,), *mask)
            first = inner.gradient(value, kernel)
            total = ops.sum(ops.square(first))
        return outer.gradient(total, kernel)

    np.testing.assert_allclose(second(kind[0]), second(kind[1]), rtol=1e-8, atol=1e-10)


# (steps, batch, units): one vector and less, several blocks of units with a rest, tasks of unequal
# size, sums longer than one pass of the product, one row, one step; rows that are packed with few
# shuffles; sequences larger than L2
SIZES = [(3, 2, 1), (2, 7, 16), (3, 33, 40), (5, 100, 24), (2, 9, 130), (1, 1, 33)]
SIZES += [(3, 4, 48), (2, 700, 48)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    "kind,outputs", [(LSTM, (0, 1)), (LSTM, (1,)), (GRU, (0,)), (SIMPLE, (0,))]
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype,tolerance", [("float32", 2e-5), ("float64", 1e-12)])
def test_kernels_compute_the_compositions(dtype, tolerance, masked, kind, outputs, size):
    # Gradients against those that the tape finds in the composition itself, in float64.
    sequence, _, gates = kind
    xs = arguments(gates, *size, dtype=dtype)
    mask = [some_mask(xs)] if masked else []
    mine = value_and_gradients(sequence, xs, outputs, *mask)
    wide = [ops.cast(x, "float64") for x in xs]
    for x, exact in zip(
        mine, value_and_gradients(sequence.function, wide, outputs, *mask), strict=True
    ):
        assert x.dtype == dtype
        scale = np.abs(exact.numpy()).max()
        np.testing.assert_allclose(x, exact, rtol=0, atol=tolerance * (scale + 1))
    # ... and what is kept for the gradients
    kept = backend.tree.flatten(sequence(*xs, *mask))
    for x, exact in zip(kept, backend.tree.flatten(sequence.function(*wide, *mask)), strict=True):
        np.testing.assert_allclose(x, exact, rtol=0, atol=tolerance)


ALL = pytest.mark.parametrize(
    "kind", [LSTM, GRU, SIMPLE, GRU_BEFORE], ids=["lstm", "gru", "simple", "gru_before"]
)


@pytest.mark.parametrize("size", [(3, 2, 1), (3, 33, 40), (5, 100, 24), (2, 9, 130), (4, 20, 33)])
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype,unit", [("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
@ALL
def test_kernels_in_16_bits(kind, dtype, unit, masked, dropped, size):
    # A few roundings of what is stored, none of sums: units with and without pairs.
    sequence, _, gates = kind
    half = [ops.cast(0.3 * x, dtype) for x in arguments(gates, *size, dtype="float32")]
    assert sequence.node_op.has_kernel([backend.Spec((), dtype)])
    mask, drop = (some_mask(half) if masked else None), None
    if dropped:
        keep = np.random.default_rng(5).random(size[1:]) < 0.7
        drop = ops.convert_to_tensor((keep * 1.25).astype("float32"))

    def run(function, xs, dtype):
        def call(*xs):
            scale = None if drop is None else ops.cast(drop, dtype)
            h = backend.tree.flatten(function(*xs, mask=mask, drop=scale))[0]
            return ops.cast(h, "float64")

        return value_and_gradients(call, xs, (0,))

    mine = run(sequence, half, dtype)
    exact = run(sequence.function, [ops.cast(x, "float64") for x in half], "float64")
    for x, e in zip(mine[1:], exact[1:], strict=True):
        assert x.dtype == dtype
        error = ops.cast(x, "float64").numpy() - e.numpy()
        assert np.sqrt((error**2).mean()) <= 10 * unit * np.sqrt((e.numpy() ** 2).mean())
        assert abs(error).max() <= 15 * unit * abs(e.numpy()).max()
    assert abs(float(mine[0]) - float(exact[0])) < unit * size[0] * size[1] * size[2]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@ALL
def test_rows_do_not_depend_on_the_batch(kind, dtype):
    # A row has the same bits whichever rows share its task: what makes threads invisible.
    xs = [ops.cast(x, dtype) for x in arguments(kind[2], 4, 50, 24, dtype="float32")]
    batched = 3 if kind is LSTM else 2  # inputs before the weights
    whole = [ops.cast(x, "float32") for x in backend.tree.flatten(kind[0](*xs))]
    for first, last in [(0, 1), (3, 20), (20, 50)]:
        part = [xs[0][:, first:last], *(x[first:last] for x in xs[1:batched]), *xs[batched:]]
        for mine, theirs in zip(backend.tree.flatten(kind[0](*part)), whole, strict=True):
            np.testing.assert_array_equal(ops.cast(mine, "float32"), theirs[:, first:last])


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("zero_output", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell", "SimpleRNNCell"])
def test_masked_layers_give_what_the_loop_over_the_cell_gives(
    monkeypatch, cell, backwards, zero_output, initial
):
    r = np.random.default_rng(0)
    xs = ops.convert_to_tensor(r.normal(size=(3, 6, 4)).astype("float32"))
    mask = r.random((3, 6)) < 0.6
    layer = keras.layers.RNN(
        getattr(keras.layers, cell)(5),
        return_sequences=True,
        return_state=True,
        go_backwards=backwards,
        zero_output_for_mask=zero_output,
    )
    layer.build(xs.shape)
    start = [r.normal(size=(3, 5)).astype("float32") for _ in layer.state_size]

    def run():
        with keras.GradientTape() as tape:
            tape.watch(xs)
            results = layer(xs, mask=mask, initial_state=start if initial else None)
            total = sum(ops.sum(ops.sin(x)) for x in results)
        return *results, tape.gradient(total, xs)

    whole = run()
    monkeypatch.setattr(type(layer.cell), "whole_sequence", lambda *args: None)
    for mine, theirs in zip(whole, run(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=3e-6)


SETTINGS = [
    {"batch_first": True},
    {"reverse": True},
    {"batch_first": True, "reverse": True},
    {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
    {"activation": "linear", "batch_first": True},
    {"activation": "sigmoid", "recurrent_activation": "tanh", "reverse": True},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "kind", [LSTM, GRU, SIMPLE, GRU_BEFORE], ids=["lstm", "gru", "simple", "gru_before"]
)
def test_kernels_under_every_setting(kind, masked, dropped, settings):
    # Against the composition; and its gradient rule against the tape's in the plain loop.
    size = (5, 19, 37)
    sequence, _, gates = kind
    xs = arguments(gates, *size, dtype="float32")
    xs[0] = xs[0] * 0.3
    xs[-1 if gates != 3 else -2] = xs[-1 if gates != 3 else -2] * 0.1  # relu keeps within bounds
    mask, drop = (some_mask(xs) if masked else None), None
    if settings.get("batch_first"):
        xs[0] = ops.swapaxes(xs[0], 0, 1)
        mask = None if mask is None else ops.swapaxes(mask, 0, 1)
    if dropped:
        keep = np.random.default_rng(5).random(size[1:]) < 0.7
        drop = ops.convert_to_tensor((keep / 0.7).astype("float32"))

    def run(function, xs, drop):
        def call(*xs):
            return function(*xs, mask=mask, drop=drop, **settings)

        return value_and_gradients(call, xs, (0,))

    wide = [ops.cast(x, "float64") for x in xs]
    mine = run(sequence, xs, drop)
    exact = run(sequence.function, wide, None if drop is None else ops.cast(drop, "float64"))
    for a, b in zip(mine, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-5 * (np.abs(b.numpy()).max() + 1))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "cell,settings",
    [
        ("LSTMCell", {"recurrent_dropout": 0.4}),
        ("GRUCell", {"recurrent_dropout": 0.4, "dropout": 0.2}),
        ("SimpleRNNCell", {"recurrent_dropout": 0.4, "activation": "relu"}),
        ("LSTMCell", {"recurrent_activation": "hard_sigmoid", "activation": "relu"}),
        ("GRUCell", {"activation": "linear"}),
        ("GRUCell", {"reset_after": False}),
        ("GRUCell", {"reset_after": False, "recurrent_dropout": 0.4, "activation": "relu"}),
    ],
)
def test_unusual_layers_give_what_the_loop_over_the_cell_gives(
    monkeypatch, cell, settings, backwards
):
    r = np.random.default_rng(0)
    xs = ops.convert_to_tensor(r.normal(size=(3, 6, 4)).astype("float32"))
    layer = keras.layers.RNN(
        getattr(keras.layers, cell)(5, seed=3, **settings),
        return_sequences=True,
        return_state=True,
        go_backwards=backwards,
    )
    layer.build(xs.shape)
    generator = layer.cell.seed_generator.state

    def run():
        generator.assign(ops.zeros_like(generator))
        with keras.GradientTape() as tape:
            tape.watch(xs)
            results = layer(xs, training=True)
            total = sum(ops.sum(ops.sin(x)) for x in results)
        return *results, tape.gradient(total, xs)

    whole = run()
    monkeypatch.setattr(type(layer.cell), "whole_sequence", lambda *args: None)
    for mine, theirs in zip(whole, run(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=3e-6)


def test_bidirectional_layers_turn_nothing_around():
    # The backward layer's outputs are turned around twice: by it, and by Bidirectional.
    layer = keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True))
    xs = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    layer.build(xs.shape)

    @keras.function
    def gradient(x):
        with keras.GradientTape() as tape:
            tape.watch(x)
            total = ops.sum(ops.sin(layer(x)))
        return tape.gradient(total, x)

    from hornbeam.backend import passes

    graph = passes.optimize(gradient.concrete(xs).graph)
    strides = [n.attrs["strides"] for n in graph.nodes if n.op.name in ("slice", "slice_grad")]
    assert all(s > 0 for stride in strides for s in stride)
    assert not any(n.op.name == "transpose" and n.inputs[0].shape[0] == 2 for n in graph.nodes)
