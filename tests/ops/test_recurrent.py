"""LSTM and GRU over a whole sequence against the loops they stand for: values and gradients."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import ops
from hornbeam.ops import recurrent


def lstm_loop(projected, h, c, kernel):
    hs, cs = [], []
    for t in range(projected.shape[0]):
        z = projected[t] + ops.matmul(h, kernel)
        i, f, g, o = ops.split(z, 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        hs.append(h)
        cs.append(c)
    return ops.stack(hs), ops.stack(cs)


def gru_loop(projected, h, kernel, bias):
    hs = []
    for t in range(projected.shape[0]):
        x_z, x_r, x_n = ops.split(projected[t], 3, axis=-1)
        h_z, h_r, h_n = ops.split(ops.matmul(h, kernel) + bias, 3, axis=-1)
        z = ops.sigmoid(x_z + h_z)
        n = ops.tanh(x_n + ops.sigmoid(x_r + h_r) * h_n)
        h = z * h + (1 - z) * n
        hs.append(h)
    return (ops.stack(hs),)


def arguments(gates, steps=4, batch=3, units=2):
    r = np.random.default_rng(0)
    state, n = (batch, units), gates * units
    shapes = [(steps, batch, n), state]
    shapes += [state, (units, n)] if gates == 4 else [(units, n), (n,)]
    return [ops.convert_to_tensor(r.normal(size=s)) for s in shapes]


def loss(fn, xs, outputs):
    results = fn(*xs)
    return sum(ops.sum(ops.sin(results[k] * (k + 1.0))) for k in outputs)


LSTM = (recurrent.lstm_sequence, lstm_loop, 4)
GRU = (recurrent.gru_sequence, gru_loop, 3)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind,outputs", [(LSTM, (0,)), (LSTM, (1,)), (LSTM, (0, 1)), (GRU, (0,))])
def test_a_sequence_is_the_loop(compiled, kind, outputs):
    xs = arguments(kind[2])

    def values(fn):
        def run(*xs):
            with keras.GradientTape() as tape:
                for x in xs:
                    tape.watch(x)
                value = loss(fn, xs, outputs)
            return [value, *tape.gradient(value, list(xs))]

        return (keras.function(run) if compiled else run)(*xs)

    for mine, theirs in zip(values(kind[0]), values(kind[1]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", [LSTM, GRU], ids=["lstm", "gru"])
def test_second_derivatives(kind):
    xs = arguments(kind[2], steps=2, batch=1)
    kernel = xs[3 if kind[2] == 4 else 2]

    def second(fn):
        with keras.GradientTape() as outer:
            outer.watch(kernel)
            with keras.GradientTape() as inner:
                inner.watch(kernel)
                value = loss(fn, xs, (0,))
            first = inner.gradient(value, kernel)
            total = ops.sum(ops.square(first))
        return outer.gradient(total, kernel)

    np.testing.assert_allclose(second(kind[0]), second(kind[1]), rtol=1e-8, atol=1e-10)
