"""Training of small models on the device: the numbers of the CPU, and nothing left on the CPU."""

import re

import numpy as np
import pytest

import hornbeam
from hornbeam import backend, layers
from hornbeam.backend import executor


def cnn():
    x = layers.Input((12, 12, 3))
    y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    z = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(y))
    z = layers.MaxPooling2D()(layers.Add()([y, z]))
    z = layers.DepthwiseConv2D(3, strides=2, activation="relu")(z)
    z = layers.GlobalAveragePooling2D()(z)
    return hornbeam.Model(x, layers.Dense(5, activation="softmax")(z))


def transformer():
    x = layers.Input((12,), dtype="int32")
    y = layers.Embedding(40, 16)(x)
    a = layers.LayerNormalization()(y)
    y = y + layers.MultiHeadAttention(2, 8, dropout=0.1)(a, a, use_causal_mask=True)
    z = layers.Dense(32, activation="gelu")(layers.LayerNormalization()(y))
    y = layers.Dropout(0.1)(y + layers.Dense(16)(z))
    return hornbeam.Model(x, layers.Dense(40, activation="softmax")(y))


def recurrent():
    x = layers.Input((12,), dtype="int32")
    y = layers.Bidirectional(layers.LSTM(8))(layers.Embedding(40, 16)(x))
    return hornbeam.Model(x, layers.Dense(5, activation="softmax")(y))


RNG = np.random.default_rng(0)
DATA = {
    cnn: (RNG.random((32, 12, 12, 3), "float32"), RNG.integers(0, 5, 32)),
    transformer: (RNG.integers(0, 40, (32, 12)), RNG.integers(0, 40, (32, 12))),
    recurrent: (RNG.integers(0, 40, (32, 12)), RNG.integers(0, 5, 32)),
}


def train(build, device):
    x, y = DATA[build]
    hornbeam.utils.set_random_seed(3)
    with hornbeam.device(device):
        model = build()
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        loss = model.fit(x, y, batch_size=8, epochs=2, verbose=0).history["loss"]
        return loss, model.predict(x, verbose=0)


@pytest.mark.parametrize("build", list(DATA), ids=lambda f: f.__name__)
def test_training(build, cuda, monkeypatch):
    plans = []

    def compile_graph(graph, *budget, original=executor.compile_graph):
        program = original(graph, *budget)
        plans.append(program.describe())
        return program

    expected = train(build, "cpu:0")
    monkeypatch.setattr(executor, "compile_graph", compile_graph)
    got = train(build, cuda)
    np.testing.assert_allclose(got[0], expected[0], rtol=2e-4)
    np.testing.assert_allclose(got[1], expected[1], rtol=2e-3, atol=2e-4)

    on_cpu = set()
    for plan in plans:
        if f"on {cuda}" in plan:
            on_cpu |= set(re.findall(r" = (\w+)/(?!cuda)\w+", plan))
    assert on_cpu == set()
    assert backend.memory_stats(cuda)["peak"] > 0
