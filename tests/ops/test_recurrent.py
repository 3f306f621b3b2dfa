"""The whole-sequence LSTM against the loop it stands for, values and gradients."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import ops
from hornbeam.ops import recurrent


def loop(projected, h, c, kernel):
    hs, cs = [], []
    for t in range(projected.shape[0]):
        z = projected[t] + ops.matmul(h, kernel)
        i, f, g, o = ops.split(z, 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        hs.append(h)
        cs.append(c)
    return ops.stack(hs), ops.stack(cs)


def arguments(steps=4, batch=3, units=2):
    r = np.random.default_rng(0)
    shapes = (steps, batch, 4 * units), (batch, units), (batch, units), (units, 4 * units)
    return [ops.convert_to_tensor(r.normal(size=s)) for s in shapes]


def loss(fn, xs, outputs):
    results = fn(*xs)
    return sum(ops.sum(ops.sin(results[k] * (k + 1.0))) for k in outputs)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("outputs", [(0,), (1,), (0, 1)])
def test_lstm_sequence_is_the_loop(compiled, outputs):
    xs = arguments()

    def both(fn):
        def run(*xs):
            with keras.GradientTape() as tape:
                for x in xs:
                    tape.watch(x)
                value = loss(fn, xs, outputs)
            return [value, *tape.gradient(value, list(xs))]

        return (keras.function(run) if compiled else run)(*xs)

    for mine, theirs in zip(both(recurrent.lstm_sequence), both(loop), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-11)


def test_lstm_sequence_has_second_derivatives():
    xs = arguments(steps=2, batch=1)

    def second(fn):
        with keras.GradientTape() as outer:
            outer.watch(xs[3])
            with keras.GradientTape() as inner:
                inner.watch(xs[3])
                value = loss(fn, xs, (0,))
            first = inner.gradient(value, xs[3])
            total = ops.sum(ops.square(first))
        return outer.gradient(total, xs[3])

    mine, theirs = second(recurrent.lstm_sequence), second(loop)
    np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-10)
