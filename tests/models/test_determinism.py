"""The same seed gives the same bits: run after run, for one thread and for two."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib
import numpy as np
import hornbeam as keras

keras.utils.set_random_seed(7)
L = keras.layers
image = keras.Input((12, 12, 2))
x = L.Conv2D(8, 3, padding="same")(image)
x = L.BatchNormalization()(x)
x = L.Activation("relu")(x)
x = L.MaxPooling2D(2)(x)
x = L.DepthwiseConv2D(3)(x)
x = L.Flatten()(x)
tokens = keras.Input((9,), dtype="int32")
t = L.Embedding(50, 16)(tokens)
t = t + L.MultiHeadAttention(2, 8)(L.LayerNormalization()(t), t)
t = L.Bidirectional(L.LSTM(8))(t)
y = L.Dense(5)(L.Dropout(0.3)(L.Concatenate()([x, t])))
model = keras.Model([image, tokens], y)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
r = np.random.default_rng(0)
data = [r.standard_normal((150, 12, 12, 2), dtype=np.float32), r.integers(0, 50, (150, 9))]
history = model.fit(data, r.integers(0, 5, 150), epochs=2, batch_size=32, verbose=0)
digest = hashlib.sha256()
for w in model.get_weights():
    digest.update(w.tobytes())
digest.update(model.predict(data, verbose=0).tobytes())
print(digest.hexdigest(), repr(history.history))
"""


def run(threads):
    env = dict(os.environ, HORNBEAM_NUM_THREADS=str(threads), PYTHONHASHSEED=str(threads))
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=300
    )
    assert out.returncode == 0, out.stderr
    return out.stdout


@pytest.mark.slow
def test_same_bits_for_any_number_of_threads():
    results = {run(1), run(2), run(3), run(2)}
    assert len(results) == 1, results
