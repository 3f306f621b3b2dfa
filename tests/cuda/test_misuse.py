"""What is asked of a GPU that it cannot do: a clear error or a correct slower way, and nothing lost."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import hornbeam
from hornbeam import backend, layers, ops

RNG = np.random.default_rng(8)


def python(emulated, code, **variables):
    env = {k: v for k, v in os.environ.items() if not k.startswith("HORNBEAM_")}
    env |= {"HORNBEAM_CUDA_EMULATED": str(emulated)} | variables
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert out.returncode == 0, out.stderr
    return out.stdout


def test_ops_in_python_in_the_middle_of_a_step(cuda):
    """What lies before and behind them is recorded; state and gradients are right."""
    x = RNG.normal(size=(6, 4)).astype("float32")
    found = []
    for device in (cuda, "cpu:0"):
        with hornbeam.device(device):
            w = hornbeam.Variable(np.eye(4, dtype="float32") + 0.1)

            @backend.function
            def step(x, w=w):
                with backend.GradientTape() as tape:
                    tape.watch(w.value)
                    y = ops.tanh(ops.matmul(x, w)) * 2
                    y = ops.matmul(y, ops.inv(ops.matmul(ops.transpose(y), y) + ops.eye(4)))
                    loss = ops.sum(ops.exp(y) * ops.softmax(y))
                w.assign_sub(0.01 * tape.gradient(loss, w.value))
                return loss, y

            losses = [float(step(x * k)[0]) for k in (1, 2, 3, 1, 2, 3)]
            found.append((losses, np.array(w)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_such_a_step_is_recorded_in_parts(cuda):
    x = RNG.normal(size=(5, 5)).astype("float32") + 4 * np.eye(5, dtype="float32")
    with hornbeam.device(cuda):
        f = backend.function(
            lambda x: ops.sum(ops.softmax(ops.matmul(x, ops.inv(ops.softmax(ops.matmul(x, x))))))
        )
        kept = [float(f(x * k)) for k in (1, 2, 1, 2, 1)]
        program = f.concrete(x).program
    text = program.describe()
    assert " = host(" in text and text.count("recording: ") == 2, text
    assert "cannot be recorded" not in text and program.replay_counts[2] == 8, text
    np.testing.assert_allclose(kept, 5, rtol=1e-4)


def test_training_goes_on_with_a_smaller_batch_after_out_of_memory(emulated):
    code = """
import numpy as np, hornbeam
from hornbeam import layers, ops
model = hornbeam.Sequential([layers.Input((1024,)), layers.Dense(2, "relu"), layers.Dense(1)])
model.compile(hornbeam.optimizers.SGD(1e-4), "mse")
x, y = np.ones((40000, 1024), "float32"), np.ones((40000, 1), "float32")
model.fit(x[:8], y[:8], batch_size=4, verbose=0)
before = [np.array(w) for w in model.weights]
try:
    model.fit(x, y, batch_size=20000, verbose=0)
except MemoryError as e:
    print(e)
for w, b in zip(model.weights, before):
    assert np.array_equal(np.array(w), b)
with hornbeam.device("cpu:0"):
    print("cpu", float(ops.sum(ops.ones(5))))
history = model.fit(x[:32], y[:32], batch_size=4, epochs=2, verbose=0).history["loss"]
assert np.isfinite(history).all() and history[1] < history[0], history
print("trained", hornbeam.memory_stats("cuda:0")["limit"] >= hornbeam.memory_stats("cuda:0")["reserved"])
"""
    out = python(
        emulated,
        code,
        HORNBEAM_DEVICE="cuda:0",
        HORNBEAM_CUDA_MEMORY_LIMIT=str(72 << 20),
    )
    error, cpu, trained = out.splitlines()
    assert error.startswith("cuda:0: out of memory: ") and "try a smaller batch" in error
    assert "are needed" in error and "largest block" in error
    assert (cpu, trained) == ("cpu 5.0", "trained True")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_has_the_processor_and_the_parent_loses_nothing(emulated):
    code = """
import os, sys, numpy as np, hornbeam
from hornbeam import ops
x = ops.ones(6).to("cuda:0")
assert float(ops.sum(x)) == 6
pid = os.fork()
if pid == 0:
    print("child", float(ops.sum(ops.ones((300, 300)) @ ops.ones((300, 3)))))
    for use in (lambda: ops.sum(x), lambda: ops.ones(3).to("cuda:0"), lambda: x + 1):
        try:
            use()
            print("no error")
        except RuntimeError as e:
            print("child:", str(e)[:51])
    del x
    sys.stdout.flush()
    os._exit(0)
status = os.waitpid(pid, 0)[1]
print("parent", status, float(ops.sum(x + 1)))
"""
    lines = python(emulated, code).splitlines()
    assert lines[0] == "child 270000.0"
    assert lines[1:4] == ["child: CUDA was started before this process was forked; st"] * 3, lines
    assert lines[4] == "parent 0 12.0"


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_an_interrupt_in_the_middle_of_an_epoch(cuda):
    """Steps that were begun count; the model goes on from there."""
    x = RNG.normal(size=(4000, 8)).astype("float32")
    with hornbeam.device(cuda):
        model = hornbeam.Sequential([layers.Input((8,)), layers.Dense(4), layers.Dense(1)])
        model.compile(hornbeam.optimizers.SGD(1e-4), "mse")
        model.fit(x[:8], x[:8, :1], batch_size=2, verbose=0)
        started = int(model.optimizer.iterations)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in range(1000):  # goes on until the signal comes
                model.fit(x, x[:, :1], batch_size=2, shuffle=False, verbose=0)
        timer.join()
        steps = int(model.optimizer.iterations)
        assert steps > started
        assert all(np.isfinite(np.array(w)).all() for w in model.weights)
        expected = np.array(
            ops.matmul(ops.matmul(x[:6], model.weights[0]) + model.weights[1], model.weights[2])
            + model.weights[3]
        )
        np.testing.assert_allclose(model.predict(x[:6], verbose=0), expected, rtol=1e-4, atol=1e-5)
        model.fit(x[:8], x[:8, :1], batch_size=2, verbose=0)
        assert int(model.optimizer.iterations) == steps + 4
