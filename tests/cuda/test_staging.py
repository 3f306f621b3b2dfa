"""Batches come to the device while it works on the one before (csrc/runtime/staging.h)."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest

import hornbeam
from hornbeam import backend, ops
from hornbeam.backend import _core

RNG = np.random.default_rng(5)

SETUP = """
import hashlib, numpy as np, hornbeam
from hornbeam import backend, layers, ops
from hornbeam.backend import _core
hornbeam.utils.set_random_seed(1)
rng = np.random.default_rng(0)
x, y = rng.normal(size=(50, 6)).astype("float32"), rng.integers(0, 3, 50)
def make():
    model = hornbeam.Sequential([layers.Input((6,)), layers.Dense(5, "tanh"),
                                 layers.Dropout(0.2), layers.Dense(3)])
    model.compile("adam", hornbeam.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=["accuracy"])
    return model
"""
TRAIN = """
digest = hashlib.sha256()
def keep(values):
    for v in values:
        digest.update(np.ascontiguousarray(v).tobytes())
model = make()
history = model.fit(x, y, batch_size=8, epochs=3, verbose=0)  # the last batch is smaller
keep(map(np.array, history.history.values()))
keep(map(np.array, model.evaluate(x, y, batch_size=8, verbose=0)))
keep([model.predict(x, batch_size=8, verbose=0)])
keep(map(np.array, model.weights))
print(digest.hexdigest())
"""


def run(emulated, code, **variables):
    env = {k: v for k, v in os.environ.items() if not k.startswith("HORNBEAM_")}
    env |= {"HORNBEAM_CUDA_EMULATED": str(emulated), "HORNBEAM_DEVICE": "cuda:0"} | variables
    out = subprocess.run(
        [sys.executable, "-c", SETUP + code], capture_output=True, text=True, env=env, check=False
    )
    assert out.returncode == 0, out.stderr
    return out.stdout


@functools.cache
def expected_bits(emulated):
    """Of the way that waits for every copy, which a profile takes."""
    code = TRAIN.replace("history =", "_core.start_profile()\nhistory =")
    return run(emulated, code + "\n_core.stop_profile()")


@pytest.mark.parametrize("order", ["lazy", "eager", "ahead"])
def test_the_bits_are_those_of_single_copies(emulated, order):
    """Whatever the streams do early or late: a fence that is missing would show."""
    assert run(emulated, TRAIN, HORNBEAM_EMULATE_STREAMS=order) == expected_bits(emulated)


def log_of(emulated, tmp_path, code, **variables):
    path = tmp_path / "log"
    run(emulated, code, HORNBEAM_EMULATE_LOG=str(path), **variables)
    return path.read_text().splitlines()


def test_the_next_batch_is_copied_before_anyone_waits_for_the_step(emulated, tmp_path):
    log = log_of(
        emulated,
        tmp_path,
        "make().fit(x[:48], y[:48], batch_size=8, epochs=1, shuffle=False, verbose=0)",
    )
    events = {"give 1 copy in": "c", "give 0 graph": "s", "host waits for stream 0": "w"}
    text = "".join(events.get(line, "") for line in log)
    text = text[text.index("c") :]
    # six batches; the first step runs instruction by instruction, which is not in the log
    assert text.startswith("cccscscscss"), text
    assert text.count("c") == 6 and text.count("s") == 5, text


def test_an_epoch_in_pieces_is_copied_ahead_as_a_whole_one(emulated, tmp_path):
    code = """
v = backend.Variable(np.zeros((8, 6), "float32"))
def step(x):
    v.assign_add(ops.tanh(ops.tanh(x) @ ops.ones((6, 6))))
batches = backend.function(step).concrete(x[:8]).batches([x], rng.permutation(50), 8, 0, 6)
for count in {}: batches.run(count)
"""
    events = {"give 1 copy in": "c", "give 0 graph": "s", "host waits for stream 0": "w"}
    texts = []
    for n, pieces in enumerate(([6], [1, 2, 3], [1] * 6)):
        (tmp_path / str(n)).mkdir()
        log = log_of(emulated, tmp_path / str(n), code.format(pieces))
        text = "".join(events.get(line, "") for line in log)
        texts.append(text[text.index("c") :])
    assert texts[0].startswith("cccscscscss"), texts
    assert texts[0] == texts[1] == texts[2]


def test_results_are_fetched_while_the_next_step_runs(emulated, tmp_path):
    log = log_of(emulated, tmp_path, "make().predict(x[:48], batch_size=8, verbose=0)")
    fetched = [i for i, line in enumerate(log) if line == "give 1 copy out"]
    assert len(fetched) == 6, log
    for this, following in zip(fetched, fetched[1:], strict=False):
        # between the fetch of one step and that of the next lies all of the next step: given to the
        # device before the host waits for the copies of the first
        between = log[this:following]
        waits = [i for i, line in enumerate(between) if line.startswith("host waits for stream")]
        assert not waits, between
        assert sum(line.startswith("give 0") for line in between) >= 1, between
    assert "give 1 copy in" in log[fetched[0] : fetched[3]]


@pytest.mark.parametrize("index", [True, False])
def test_rows_of_results(index, cuda):
    got = []
    for device in (cuda, "cpu:0"):
        rng = np.random.default_rng(3)
        x = rng.normal(size=(40, 6)).astype("float32")
        rows = np.zeros((40, 4), "float32")
        with hornbeam.device(device):
            w = hornbeam.Variable(rng.normal(size=(6, 4)).astype("float32"))
            f = backend.function(lambda x, w=w: ops.tanh(ops.matmul(x, w)))
        order = rng.permutation(40) if index else None
        for first, count in ((0, 3), (3, 1), (4, 4)):
            last = f.concrete(x[:5]).run_batches([x], order, 5, first, count, [rows])
            np.testing.assert_array_equal(last.numpy(), rows[(first + count) * 5 - 5 :][:5])
        got.append(rows)
    np.testing.assert_allclose(*got, rtol=1e-5)


def test_an_input_that_the_processor_reads_too(cuda):
    """It reads the pinned memory, which is not overwritten while the step needs it."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 4, 4)).astype("float32")
    got = []
    for device in (cuda, "cpu:0"):
        with hornbeam.device(device):
            f = backend.function(
                lambda x: ops.matmul(ops.exp(x), ops.svd(x, compute_uv=False)[..., None])
            )
            rows = np.zeros((30, 4, 1), "float32")
            f.concrete(x[:5]).run_batches([x], None, 5, 0, 6, [rows])
        got.append(rows)
    np.testing.assert_allclose(*got, rtol=1e-4)
    assert np.abs(got[0]).min() > 0


X, Y = RNG.normal(size=(48, 6)).astype("float32"), RNG.normal(size=(48, 3)).astype("float32")
FAULTS = [
    f"{function}:{n}"
    for function, calls in (
        ("cudaMemcpyAsync", (2, 9, 20, 27)),
        ("cudaEventRecord", (3, 8, 12)),
        ("cudaStreamWaitEvent", (2, 7, 9)),
        ("cudaEventSynchronize", (1, 5, 9)),
        ("cudaGraphLaunch", (1, 3)),
    )
    for n in calls
]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_in_the_middle_leaves_no_copies_behind(fault, cuda, monkeypatch):
    """The emulated device ends the process if pinned memory is given back before a copy used it."""
    if "emulated" not in _core.device_description(cuda):
        pytest.skip("faults are emulated")
    with hornbeam.device(cuda):
        f = backend.function(lambda x: ops.softmax(ops.tanh(ops.matmul(x, ops.transpose(x)))))
        concrete = f.concrete(X[:8])
        rows = np.zeros((48, 8), "float32")
        concrete.run_batches([X], None, 8, 0, 6, [rows])
        again = np.zeros_like(rows)
        monkeypatch.setenv("HORNBEAM_EMULATE_FAIL", fault)
        with pytest.raises(RuntimeError, match="CUDA: .*cudaErrorUnknown"):
            for _ in range(4):
                concrete.run_batches([X], None, 8, 0, 6, [again])
        monkeypatch.delenv("HORNBEAM_EMULATE_FAIL")
        again[:] = 0
        concrete.run_batches([X], None, 8, 0, 6, [again])
    np.testing.assert_array_equal(again, rows)


@pytest.mark.parametrize("fault", ["cudaHostAlloc:1", "cudaMalloc:1"])
def test_without_memory_for_two_batches_the_steps_wait_for_copies(fault, cuda, monkeypatch):
    if "emulated" not in _core.device_description(cuda):
        pytest.skip("faults are emulated")
    _core.release_cached(cuda)  # so that the system is asked
    with hornbeam.device(cuda):
        f = backend.function(lambda x: ops.matmul(ops.exp(x), ops.transpose(x)))
        concrete, rows = f.concrete(X[:8]), np.zeros((2, 48, 8), "float32")
        concrete.run_batches([X], None, 8, 0, 6, [rows[0]])
        _core.release_cached(cuda)
        monkeypatch.setenv("HORNBEAM_EMULATE_FAIL", fault)
        concrete.run_batches([X], None, 8, 0, 6, [rows[1]])
    assert np.abs(rows[0]).min() > 0
    np.testing.assert_array_equal(rows[1], rows[0])


def test_an_index_out_of_range_is_raised_by_the_call(cuda):
    at = np.arange(40) % 10
    at[27] = 99
    with hornbeam.device(cuda):
        table = ops.convert_to_tensor(X[:10])
        f = backend.function(lambda at: ops.exp(ops.take(table, at, axis=0)))
        rows = np.zeros((40, 6), "float32")
        with pytest.raises(RuntimeError, match="index 99 is out of range"):
            f.concrete(at[:4]).run_batches([at], None, 4, 0, 10, [rows])
        f.concrete(at[:4]).run_batches([at], None, 4, 0, 6, [rows])
    np.testing.assert_allclose(rows[:24], np.exp(X[:10])[at[:24]], rtol=1e-6)
