"""Memory stays flat: thousands of predictions, hundreds of models built, trained and deleted."""

import gc
import os
import sys

import numpy as np
import pytest

import hornbeam as keras
from hornbeam.backend import _core

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/statm"),
]


def resident_bytes():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def build():
    model = keras.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(4),
        ]
    )
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def test_ten_thousand_predictions():
    model = build()
    x = np.zeros((3, 20), np.float32)
    for _ in range(1000):
        model.predict(x, verbose=0)
    before = resident_bytes()
    for _ in range(10_000):
        model.predict(x, verbose=0)
    assert resident_bytes() - before < 2 << 20


def test_two_hundred_models():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 20)).astype(np.float32)
    y = rng.integers(0, 4, 64)

    def round_trip():
        model = build()
        model.fit(x, y, batch_size=32, epochs=1, verbose=0)
        model.predict(x, verbose=0)

    for _ in range(30):
        round_trip()
    gc.collect()
    before, core_before = resident_bytes(), _core.memory_in_use()
    for _ in range(200):
        round_trip()
    gc.collect()
    assert _core.memory_in_use() <= core_before + (1 << 16)
    assert resident_bytes() - before < 8 << 20


def test_a_deleted_model_gives_everything_back():
    gc.collect()
    before = _core.memory_in_use()
    model = keras.Sequential(
        [keras.Input((2048,)), keras.layers.Dense(2048), keras.layers.Dense(1)]
    )
    model.compile(optimizer="adam", loss="mse")
    x = np.ones((256, 2048), np.float32)
    model.fit(x, x[:, :1], verbose=0)
    assert _core.memory_in_use() > before + 2048 * 2048 * 4 * 3
    del model
    gc.collect()
    assert _core.memory_in_use() < before + (1 << 20)
