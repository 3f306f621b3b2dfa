"""What a device can do alone is recorded and replayed, with the same bits (csrc/runtime/replays.h)."""

import os
import subprocess
import sys

import numpy as np
import pytest

import hornbeam
from hornbeam import backend, ops
from hornbeam.backend import _core

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 5)).astype("float32")


def step_with_state(device):
    """A compiled step with random numbers and state; its Concrete, and what it returns."""
    with hornbeam.device(device):
        w = hornbeam.Variable(np.eye(5, dtype="float32"))
        seed = hornbeam.random.SeedGenerator(3)

        @backend.function
        def step(x):
            y = hornbeam.random.dropout(ops.softmax(ops.matmul(x, w)), 0.5, seed=seed)
            w.assign_add(0.1 * ops.matmul(ops.transpose(x), y))
            return ops.sum(y), ops.max(y, axis=0)

    return step, w


def test_replays_have_the_bits_of_single_instructions(cuda):
    """Batches, random state and the step count change from step to step: none is in the recording."""
    batches = RNG.normal(size=(9, 6, 5)).astype("float32")
    replayed, w = step_with_state(cuda)
    program = replayed.concrete(batches[0]).program
    got = [[v.numpy() for v in replayed(x)] for x in batches]
    counts = program.replay_counts
    assert counts[1] >= 1 and counts[2] >= 5, (counts, program.describe())
    single, v = step_with_state(cuda)
    _core.start_profile()  # a profile runs instructions one by one
    try:
        expected = [[v.numpy() for v in single(x)] for x in batches]
    finally:
        _core.stop_profile()
    assert single.concrete(batches[0]).program.replay_counts == (0, 0, 0)
    for a, b in zip(got, expected, strict=True):
        for g, e in zip(a, b, strict=True):
            np.testing.assert_array_equal(g, e)
    np.testing.assert_array_equal(np.array(w), np.array(v))


def test_one_recording_holds_the_whole_step(cuda):
    step, _ = step_with_state(cuda)
    text = step.concrete(X).program.describe()
    assert text.count("recording: ") == 1, text


def test_results_that_are_kept_do_not_stop_replays(cuda):
    step, _ = step_with_state(cuda)
    kept = [step(X) for _ in range(12)]
    assert step.concrete(X).program.replay_counts[2] >= 8
    assert len({float(total) for total, _ in kept}) > 6  # each has its own memory


def test_another_address_is_recorded_again(cuda):
    """A variable that a reader still holds moves; the old recording must not write to the old place."""
    step, w = step_with_state(cuda)
    for _ in range(4):
        step(X)
    before = step.concrete(X).program.replay_counts
    held = w.value  # from now on the variable is written elsewhere
    old = np.array(held).copy()
    for _ in range(4):
        step(X)
    after = step.concrete(X).program.replay_counts
    np.testing.assert_array_equal(np.array(held), old)
    assert not np.array_equal(np.array(w), old)
    assert after[0] > before[0] and after[1] > before[1] and after[2] > before[2]


def test_a_loop_splits_the_recording(cuda):
    def f(x):
        y = ops.softmax(ops.matmul(x, ops.transpose(x)))
        y = ops.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, y * 2), (0, y))[1]
        return ops.sum(ops.exp(ops.matmul(y, y)), axis=0)

    def several(device):
        with hornbeam.device(device):
            g = backend.function(f)
            return [g(X * k).numpy() for k in (0.1, 0.2, 0.3, 0.4, 0.5)], g.concrete(X).program

    got, program = several(cuda)
    expected, _ = several("cpu:0")
    assert program.replay_counts[2] > 0, program.describe()
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=2e-5)


def test_memory_is_flat_over_many_replays(cuda):
    step, _ = step_with_state(cuda)
    for _ in range(6):
        step(X)
    before = hornbeam.memory_stats(cuda)
    for _ in range(300):
        step(X)
    after = hornbeam.memory_stats(cuda)
    assert (after["reserved"], after["peak"]) == (before["reserved"], before["peak"])
    assert after["current"] <= before["current"] + 4096  # the last results


@pytest.mark.parametrize("variables", [{"HORNBEAM_CUDA_GRAPHS": "0"}, {}])
def test_recordings_can_be_turned_off(emulated, variables):
    code = """
import numpy as np, hornbeam
from hornbeam import backend, ops
with hornbeam.device("cuda:0"):
    f = backend.function(lambda x: ops.sum(ops.softmax(ops.matmul(x, x)), axis=0))
    for _ in range(5):
        f(np.eye(3, dtype="float32"))
    print(f.concrete(np.eye(3, dtype="float32")).program.replay_counts)
"""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HORNBEAM_")}
    env |= {"HORNBEAM_CUDA_EMULATED": str(emulated)} | variables
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert out.returncode == 0, out.stderr
    assert (out.stdout.strip() == "(0, 0, 0)") == bool(variables), out.stdout
