"""Gradients of embedding tables stay rows: the same bits as through a dense gradient."""

import subprocess
import sys

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import backend, ops, optimizers
from hornbeam.backend import passes
from hornbeam.backend.passes import sparse

rng = np.random.default_rng(0)


def has_dense_gradient(program):
    """Whether the step makes a sum of rows as a tensor."""
    return "segment_reduce" in program.describe()


def train(ids, loss, shape, make=lambda: optimizers.Adam(0.1), steps=3, extra=()):
    """(values of all variables after some steps, the program)."""
    table = keras.Variable(np.random.default_rng(1).normal(size=shape), dtype="float32")
    table.is_embedding = True
    others = [keras.Variable(e, dtype="float32") for e in extra]
    optimizer = make()
    optimizer.build([table, *others])

    def step(ids):
        with backend.GradientTape() as tape:
            value = loss(table, ids, *others)
        optimizer.apply(tape.gradient(value, [table, *others]), [table, *others])

    step = backend.function(step)
    for k in range(steps):
        step(ops.convert_to_tensor(np.roll(ids + 0, k) if k < 2 else ids))
    program = step.concrete(ops.convert_to_tensor(ids)).program
    return [v.numpy() for v in (table, *others, *optimizer.variables)], program


def both(monkeypatch, *args, expect_sparse=True, **kwargs):
    got, program = train(*args, **kwargs)
    assert has_dense_gradient(program) != expect_sparse
    with monkeypatch.context() as m:
        m.setattr(sparse, "run", lambda graph: graph)
        want, program = train(*args, **kwargs)
    assert has_dense_gradient(program)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def one_gather(table, ids):
    rows = ops.take(table, ids, axis=0)
    return ops.sum(ops.square(rows) * ops.cos(rows))


IDS = {
    "distinct": np.array([3, 0, 11, 7], "int32"),
    "duplicates": np.array([5, 5, 2, 5, 12, 2, 0, 12], "int32"),
    "one": np.array([12], "int64"),
    "from the end": np.array([-1, 12, -13, 0], "int32"),
    "of rank 2": np.array([[1, 1, 4], [4, 0, 1]], "int32"),
}


@pytest.mark.parametrize("inner", [(1,), (3,), (16,), (5, 7), (1500,)])
@pytest.mark.parametrize("ids", IDS)
def test_rows_give_the_bits_of_the_dense_gradient(monkeypatch, ids, inner):
    both(monkeypatch, IDS[ids], one_gather, (13, *inner))


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.SGD(0.1),
        lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda: optimizers.AdamW(0.1, weight_decay=0.1),
        lambda: optimizers.RMSprop(0.1),
        lambda: optimizers.Adagrad(0.1),
        lambda: optimizers.Lion(0.1),
        lambda: optimizers.Adam(0.1, clipvalue=0.1),
        lambda: optimizers.Adam(0.1, use_ema=True),
        lambda: optimizers.Adam(0.1, gradient_accumulation_steps=2),
        lambda: optimizers.Adam(0.1, loss_scale_factor=8.0),
    ],
)
def test_every_optimizer_takes_rows(monkeypatch, make):
    ids = rng.integers(0, 300, 150).astype("int32")
    both(monkeypatch, ids, one_gather, (300, 12), make)


def test_a_gradient_with_other_readers_is_dense(monkeypatch):
    def make():
        return optimizers.LossScaleOptimizer(optimizers.Adam(0.1))

    both(monkeypatch, IDS["duplicates"], one_gather, (13, 4), make, expect_sparse=False)


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("ids", IDS)
def test_the_norm_of_a_gradient_is_that_of_its_rows(monkeypatch, ids, lazy, clip):
    def make():
        return optimizers.SGD(0.1, momentum=0.9, lazy_embeddings=lazy, **{clip: 0.5})

    def loss(table, ids, w):
        return one_gather(table, ids) + ops.sum(ops.square(w))

    args = (IDS[ids], loss, (13, 4), make)
    got, program = train(*args, extra=[np.ones(3)])
    assert not has_dense_gradient(program) and "segment_sums" in program.describe()
    monkeypatch.setattr(sparse, "run", lambda graph: graph)
    want, program = train(*args, extra=[np.ones(3)])
    assert has_dense_gradient(program)
    for a, b in zip(got, want, strict=True):  # a sum of squares in another order
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    unclipped = train(IDS[ids], loss, (13, 4), lambda: optimizers.SGD(0.1, 0.9), extra=[np.ones(3)])
    assert abs(unclipped[0][0] - got[0]).max() > 1e-2  # the bound was reached


def test_sums_at_the_first_place_of_a_segment():
    from hornbeam.backend.registry import REGISTRY

    for count, segments in ((1, 5), (700, 3), (1500, 400)):  # sums over many tasks, some dropped
        ids = rng.integers(-2, segments + 2, count).astype("int32")
        data = rng.normal(size=(count, 2, 3)).astype("float32")
        wanted = np.zeros_like(data)
        by_segment = np.where((ids >= 0) & (ids < segments), ids, segments)
        order = np.argsort(by_segment, kind="stable")
        for s in range(segments):
            (places,) = np.nonzero(by_segment[order] == s)
            for k in places:  # one after the other: the same bits
                wanted[places[0]] += data[order[k]]
        keys = REGISTRY["segment_order"](
            ops.convert_to_tensor(ids), num_segments=segments, wrap=False
        )
        got = REGISTRY["segment_sums"](ops.convert_to_tensor(data), *keys, num_segments=segments)
        np.testing.assert_array_equal(got.numpy(), wanted)


def test_one_table_read_by_two_gathers(monkeypatch):
    def loss(table, ids):
        return one_gather(table, ids) + ops.sum(ops.exp(ops.take(table, ids[:3] - 1, axis=0)))

    both(monkeypatch, IDS["duplicates"], loss, (13, 4))


def test_a_table_that_is_a_matrix_too(monkeypatch):
    def loss(table, ids, w):
        rows = ops.take(table, ids, axis=0) @ w
        return ops.sum(ops.square(rows @ ops.transpose(table)))

    both(monkeypatch, IDS["duplicates"], loss, (13, 4), extra=[np.eye(4)])


def test_a_regularizer_adds_to_the_rows(monkeypatch):
    def loss(table, ids):
        return one_gather(table, ids) + 0.1 * ops.sum(ops.square(table))

    both(monkeypatch, IDS["duplicates"], loss, (13, 4))


@pytest.mark.parametrize(
    "count, shape, rows", [(40, (5, 3), False), (13, (13, 900), False), (40, (13, 900), True)]
)
def test_many_rows_for_a_small_table_are_summed_first(monkeypatch, count, shape, rows):
    ids = rng.integers(0, shape[0], count).astype("int32")
    both(monkeypatch, ids, one_gather, shape, expect_sparse=rows)


def test_layers_that_share_a_table_and_masks():
    def model():
        keras.utils.set_random_seed(3)
        table = keras.layers.Embedding(50, 6, mask_zero=True)
        a, b = keras.Input((5,), dtype="int32"), keras.Input((5,), dtype="int32")
        x = keras.layers.LSTM(4)(table(a)) + keras.layers.GRU(4)(table(b))
        m = keras.Model([a, b], keras.layers.Dense(1)(x))
        m.compile(optimizers.Adam(0.01), "mse")
        return m

    x = [rng.integers(0, 50, (8, 5)).astype("int32") for _ in range(2)]
    y = rng.normal(size=(8, 1)).astype("float32")
    weights = []
    for k in range(2):
        m = model()
        with pytest.MonkeyPatch.context() as p:
            if k:
                p.setattr(sparse, "run", lambda graph: graph)
            m.fit(x, y, batch_size=4, epochs=2, verbose=0)
        weights.append(m.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_pass_leaves_no_sum_behind():
    table = keras.Variable(np.zeros((20, 4)), dtype="float32")

    def step(ids):
        with backend.GradientTape() as tape:
            value = one_gather(table, ids)
        table.assign_sub(0.1 * tape.gradient(value, table))

    graph = passes.optimize(backend.function(step).concrete(IDS["distinct"]).graph)
    names = [node.op.name for node in graph.nodes]
    assert "segment_order" in names and "segment_reduce" not in names


LAZY = {"lazy_embeddings": True}


@pytest.mark.parametrize("inner", [(1,), (3,), (16,), (5, 7), (1500,)])
@pytest.mark.parametrize("ids", IDS)
def test_lazy_rows_give_the_bits_of_a_choice_among_all_rows(monkeypatch, ids, inner):
    both(monkeypatch, IDS[ids], one_gather, (13, *inner), lambda: optimizers.Adam(0.1, **LAZY))


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.SGD(0.1, **LAZY),
        lambda: optimizers.SGD(0.1, momentum=0.9, **LAZY),
        lambda: optimizers.AdamW(0.1, weight_decay=0.1, **LAZY),
        lambda: optimizers.RMSprop(0.1, **LAZY),
        lambda: optimizers.Adagrad(0.1, **LAZY),
        lambda: optimizers.Nadam(0.1, **LAZY),
    ],
)
def test_every_optimizer_can_be_lazy(monkeypatch, make):
    ids = rng.integers(0, 600, 290).astype("int32")
    both(monkeypatch, ids, one_gather, (600, 12), make)


@pytest.mark.parametrize(
    "options, rows",
    [
        ({"clipvalue": 0.1}, True),
        ({"use_ema": True}, True),
        ({"use_ema": True, "ema_overwrite_frequency": 2}, False),
        ({"gradient_accumulation_steps": 2}, True),
        ({"loss_scale_factor": 4.0}, True),
    ],
)
def test_lazy_with_other_options(monkeypatch, options, rows):
    def make():
        return optimizers.Adam(0.1, **LAZY, **options)

    both(monkeypatch, IDS["duplicates"], one_gather, (13, 4), make, expect_sparse=rows)


@pytest.mark.parametrize(
    "options, rows_alone",
    [
        ({}, True),
        ({"clipvalue": 0.1}, True),
        ({"clipnorm": 0.5}, True),
        ({"global_clipnorm": 0.5}, True),
        ({"weight_decay": 0.1}, True),
        ({"use_ema": True}, True),
        ({"use_ema": True, "global_clipnorm": 0.5}, True),
        ({"loss_scale_factor": 4.0}, True),
        ({"use_ema": True, "ema_overwrite_frequency": 2}, False),
        ({"gradient_accumulation_steps": 2}, False),
    ],
)
def test_what_visits_only_the_rows_of_the_batch(options, rows_alone):
    table = keras.Variable(np.zeros((20, 4)), dtype="float32")
    table.is_embedding = True
    optimizer = optimizers.Adam(0.1, **LAZY, **options)
    optimizer.build([table])

    def step(ids):
        with backend.GradientTape() as tape:
            value = one_gather(table, ids)
        optimizer.apply([tape.gradient(value, table)], [table])

    graph = passes.optimize(backend.function(step).concrete(IDS["distinct"]).graph)
    assert any("lazy" in node.attrs for node in graph.nodes) == rows_alone


@pytest.mark.parametrize("options", [{"clipnorm": 0.7}, {"global_clipnorm": 0.7}])
def test_lazy_rows_with_a_clipped_norm(options):
    def loss(table, ids, w):
        return ops.sum(ops.square(ops.take(table, ids, axis=0)) / 2) + ops.sum(w)

    def make():
        return optimizers.SGD(0.1, momentum=0.9, **LAZY, **options)

    ids = IDS["duplicates"]
    (table, w, *_), program = train(ids, loss, (13, 4), make, extra=[np.ones(3)])
    assert not has_dense_gradient(program)
    want, other = np.random.default_rng(1).normal(size=(13, 4)), np.ones(3)
    velocity, velocity_other = np.zeros((13, 4)), np.zeros(3)
    for k in range(3):
        counts = np.bincount(np.roll(ids, k) if k < 2 else ids, minlength=13)
        g, g_other = want * counts[:, None], np.ones(3)
        squares = [np.sum(g**2), np.sum(g_other**2)]
        norms = np.sqrt(squares if "clipnorm" in options else [sum(squares)] * 2)
        assert (norms > 0.7).all()
        g, g_other = g * 0.7 / norms[0], g_other * 0.7 / norms[1]
        rows = counts > 0
        velocity[rows] = 0.9 * velocity[rows] - 0.1 * g[rows]
        want[rows] += velocity[rows]
        velocity_other = 0.9 * velocity_other - 0.1 * g_other
        other = other + velocity_other
    np.testing.assert_allclose(table, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(w, other, rtol=1e-5)


@pytest.mark.parametrize("traced", [False, True])
def test_lazy_rows_without_gradient_stand_still(traced):
    lr, b1, b2, eps = 0.1, 0.9, 0.999, 1e-7
    start = rng.normal(size=(9, 3)).astype("float32")
    table = keras.Variable(start)
    other = keras.Variable(start)  # no table: moves
    table.is_embedding = True
    optimizer = optimizers.Adam(lr, **LAZY)
    optimizer.build([table, other])

    def step(g):
        optimizer.apply([g, g], [table, other])

    step = backend.function(step) if traced else step
    w, m, v = start.astype("float64"), np.zeros((9, 3)), np.zeros((9, 3))
    for t in range(1, 5):
        g = rng.normal(size=(9, 3)) * (rng.random((9, 1)) < 0.4)
        rows = (g != 0).any(axis=1)
        m[rows] += (g[rows] - m[rows]) * (1 - b1)
        v[rows] += (g[rows] ** 2 - v[rows]) * (1 - b2)
        rate = lr * np.sqrt(1 - b2**t) / (1 - b1**t)
        w[rows] -= rate * m[rows] / (np.sqrt(v[rows]) + eps)
        step(ops.convert_to_tensor(g, dtype="float32"))
    np.testing.assert_allclose(table.numpy(), w, rtol=1e-4, atol=1e-5)
    assert np.array_equal(table.numpy() == start, w == start)
    assert not np.array_equal(other.numpy(), table.numpy())


def test_a_row_whose_gradients_cancel_stands_still():
    # also where the engine sees only the rows of the batch
    def loss(table, ids):
        rows = ops.take(table, ids, axis=0)
        return ops.sum(rows[0] - rows[1]) + ops.sum(rows[2])

    start = np.random.default_rng(1).normal(size=(13, 4)).astype("float32")
    ids = np.array([4, 4, 7], "int32")
    (table, *_), program = train(ids, loss, (13, 4), lambda: optimizers.Adam(0.1, **LAZY), steps=1)
    assert not has_dense_gradient(program)
    assert np.flatnonzero((table != start).any(axis=1)).tolist() == [7]


def test_lazy_is_in_the_configuration_only_if_set():
    assert "lazy_embeddings" not in optimizers.Adam().get_config()
    again = optimizers.Adam.from_config(optimizers.Adam(**LAZY).get_config())
    assert again.lazy_embeddings
    with pytest.raises(ValueError, match="must be True or False; got 'yes'"):
        optimizers.Adam(lazy_embeddings="yes")
    with pytest.raises(ValueError, match="lazy_embeddings of the inner optimizer"):
        optimizers.LossScaleOptimizer(optimizers.Adam(), **LAZY)


def test_embedding_layers_mark_their_tables():
    layer = keras.layers.Embedding(5, 3)
    layer.build()
    assert layer.embeddings.is_embedding
    dense = keras.layers.Dense(3)
    dense.build((None, 5))
    assert not dense.kernel.is_embedding


SCRIPT = """
import sys, numpy as np, hornbeam as keras
keras.utils.set_random_seed(0)
i = keras.Input((), dtype="int32")
m = keras.Model(i, keras.layers.Dense(1)(keras.layers.Embedding(20000, 17)(i)))
m.compile(keras.optimizers.Adam(0.01, **eval(sys.argv[1])), "mse")
x = np.random.default_rng(0).integers(0, 3000, 4000).astype("int32")
m.fit(x, np.ones((4000, 1), "f4"), batch_size=2000, epochs=2, verbose=0)
import hashlib
print(hashlib.sha256(b"".join(w.tobytes() for w in m.get_weights())).hexdigest())
"""


@pytest.mark.parametrize(
    "options",
    ["{}", "{'lazy_embeddings': True}", "{'lazy_embeddings': True, 'global_clipnorm': 0.01}"],
)
def test_same_bits_for_any_number_of_threads(options, monkeypatch):
    digests = set()
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("HORNBEAM_NUM_THREADS", threads)
        command = [sys.executable, "-c", SCRIPT, options]
        digests.add(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_sums_of_rows_fill_tables_beyond_the_cache(dtype):
    segments, inner = {"float32": 66_000, "float64": 33_000, "int8": 260_000}[dtype], 33
    ids = np.array([0, 5, 5, 3, segments - 1, 31_000, -1, segments], "int32")
    data = rng.integers(-9, 9, (len(ids), inner)).astype(dtype)
    expected = np.zeros((segments, inner), dtype)
    kept = (ids >= 0) & (ids < segments)
    np.add.at(expected, ids[kept], data[kept])
    got = ops.segment_sum(ops.convert_to_tensor(data), ids, num_segments=segments)
    np.testing.assert_array_equal(got.numpy(), expected)


def test_order_of_segments():
    from hornbeam.backend.registry import REGISTRY

    for count in (1, 100, 5000):  # one radix for few rows, another for many
        ids = rng.integers(-20, 70_020, count).astype("int64")
        keys, order = REGISTRY["segment_order"](
            ops.convert_to_tensor(ids), num_segments=70_000, wrap=False
        )
        wanted = np.where((ids >= 0) & (ids < 70_000), ids, 70_000)
        np.testing.assert_array_equal(order.numpy(), np.argsort(wanted, kind="stable"))
        np.testing.assert_array_equal(keys.numpy(), np.sort(wanted))
