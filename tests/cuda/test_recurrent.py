"""The recurrent kernels on CUDA against those of the CPU, under every setting."""

import numpy as np
import pytest

import hornbeam
from hornbeam import backend, layers, ops
from hornbeam.ops import recurrent

from .test_kernels import on
from .test_op_cases import kernels_of

#: name: (function, gates, states, has a bias)
KINDS = {
    "simple": (recurrent.simple_sequence, 1, 1, False),
    "lstm": (recurrent.lstm_sequence, 4, 2, False),
    "gru": (recurrent.gru_sequence, 3, 1, True),
    "gru_before": (recurrent.gru_before_sequence, 3, 1, False),
}
SETTINGS = [
    {},
    {"batch_first": True, "reverse": True},
    {"activation": "relu", "recurrent_activation": "hard_sigmoid", "reverse": True},
    {"activation": "linear", "recurrent_activation": "sigmoid", "batch_first": True},
]


def arrays_of(kind, steps, batch, units, dtype, batch_first):
    _, gates, states, bias = KINDS[kind]
    rng = np.random.default_rng(steps + units)
    lead = (batch, steps) if batch_first else (steps, batch)
    shapes = [(*lead, gates * units), *[(batch, units)] * states, (units, gates * units)]
    shapes += [(gates * units,)] * bias
    return [0.5 * rng.normal(size=s).astype(dtype) for s in shapes], lead


def run(kind, arrays, device, settings, **optional):
    """Outputs and gradients of all inputs."""
    function = KINDS[kind][0]

    def f(*xs):
        with backend.GradientTape() as tape:
            for x in xs:
                tape.watch(x)
            y = backend.tree.flatten(function(*xs, **optional, **settings))
            hidden = y[:2] if kind == "lstm" else y[:1]
            loss = sum(ops.sum(ops.sin(h * (i + 1.0))) for i, h in enumerate(hidden))
        return [*hidden, *tape.gradient(loss, list(xs))]

    return on(device, f, *arrays)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_values_and_gradients(kind, dtype, dropped, masked, settings, cuda):
    steps, batch, units = 5, 19, 21
    arrays, lead = arrays_of(kind, steps, batch, units, dtype, settings.get("batch_first"))
    rng, optional = np.random.default_rng(1), {}
    if masked:
        optional["mask"] = rng.random(lead) < 0.6
    if dropped:
        optional["drop"] = ((rng.random((batch, units)) < 0.7) / 0.7).astype(dtype)
    tolerance = 3e-5 if dtype == "float32" else 1e-12
    got = run(kind, arrays, cuda, settings, **optional)
    for a, b in zip(got, run(kind, arrays, "cpu:0", settings, **optional), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))


@pytest.mark.parametrize("kind", list(KINDS))
def test_tall_blocks(kind, cuda):
    """From a batch of this size on, a thread has four rows."""
    arrays, _ = arrays_of(kind, 2, 1060, 130, "float32", False)
    got = run(kind, arrays, cuda, {})
    for a, b in zip(got, run(kind, arrays, "cpu:0", {}), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-5 * max(1, np.abs(b).max()))


@pytest.mark.parametrize(
    "layer", [layers.SimpleRNN, layers.LSTM, layers.GRU, lambda n: layers.GRU(n, reset_after=False)]
)
def test_layers_stay_on_the_device(layer, cuda):
    with hornbeam.device(cuda):
        model = layer(4)
        x = ops.ones((2, 3, 5))
        model.build(x.shape)
        assert any("sequence" in k for k in kernels_of(cuda, model, [x]))


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_order_of_threads_does_not_matter(kind, cuda, monkeypatch):
    arrays, _ = arrays_of(kind, 3, 18, 33, "float32", False)
    expected = run(kind, arrays, cuda, {})
    monkeypatch.setenv("HORNBEAM_EMULATE_ORDER", "reverse")
    for a, b in zip(run(kind, arrays, cuda, {}), expected, strict=True):
        np.testing.assert_array_equal(a, b)
