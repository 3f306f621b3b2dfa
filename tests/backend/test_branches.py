"""Independent loops and small recurrent kernels run side by side, and compute the same bits."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib
import numpy as np
import hornbeam as keras
from hornbeam import profiler

keras.utils.set_random_seed(7)
L = keras.layers
inputs = x = keras.Input((40, 64))
x = L.Bidirectional(L.GRU(64, return_sequences=True))(x)
x = L.Bidirectional(L.LSTM(64, return_sequences=True, dropout=0.2))(x)
x = L.Bidirectional(L.LSTM(48, return_sequences=True, activation="elu"))(x)  # loops
model = keras.Model(inputs, L.Dense(1)(x))
model.compile("adam", "mse")
r = np.random.default_rng(0)
x, y = r.normal(size=(4, 40, 64)).astype("float32"), r.normal(size=(4, 40, 1)).astype("float32")
digest = hashlib.sha256()
for _ in range(3):
    model.train_on_batch(x, y)
with profiler.profile() as profile:
    digest.update(model.predict(x, verbose=0).tobytes())
assert "gru_sequence" in profile.table()
for w in model.get_weights():
    digest.update(w.tobytes())
model._prepare((x, y), True)
program = model._step_function("train", False).concrete((x, y)).program
print(digest.hexdigest(), program.describe().count("side by side"))
"""


def run(threads):
    env = dict(os.environ, HORNBEAM_NUM_THREADS=str(threads))
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=300
    )
    assert out.returncode == 0, out.stderr
    return out.stdout.split()


@pytest.mark.slow
def test_two_directions_run_side_by_side_with_the_same_bits():
    bits, alone = run(1)
    assert alone == "0"
    for threads in (2, 5):
        mine, together = run(threads)
        assert mine == bits
        assert together == "12"  # both directions of three layers, forward and backward
