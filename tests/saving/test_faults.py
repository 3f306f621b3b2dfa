"""Saving fails at every point where it can, and is killed: the old file is whole all the same."""

import errno
import os
import random
import signal
import subprocess
import sys
import time

import common
import numpy as np
import pytest

import hornbeam as keras
from hornbeam import backend, layers
from hornbeam.saving import weights
from hornbeam.utils import atomic


class Faulty:
    """The module `os` for `atomic`: its n-th call that writes, syncs or renames fails."""

    COUNTED = ("open", "fsync", "replace", "fdopen", "write", "read", "truncate")

    def __init__(self, fail_at, error):
        self.fail_at, self.error, self.calls = fail_at, error, []

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in self.COUNTED:
            return real

        def counted(*args, **kwargs):
            self.count(name)
            result = real(*args, **kwargs)
            return FaultyFile(result, self) if name == "fdopen" else result

        return counted

    def count(self, name):
        self.calls.append(name)
        if len(self.calls) == self.fail_at:
            raise self.error


class FaultyFile:
    def __init__(self, file, faults):
        self.file, self.faults = file, faults

    def __getattr__(self, name):
        if name in ("write", "read", "truncate"):
            self.faults.count(name)
        return getattr(self.file, name)


def model(value):
    made = keras.Sequential([layers.Input((4,)), layers.Dense(8), layers.Dense(2)])
    made.compile("adam", "mse")
    made.optimizer.build(made.trainable_variables)
    for w in made.weights:
        w.assign(np.full(w.shape, value))
    return made


FORMATS = {
    "m.keras": lambda m, path: m.save(path),
    "m.h5": lambda m, path: m.save(path),
    "m.weights.h5": lambda m, path: m.save_weights(path),
}


def value_in(path):
    """The one value of all weights in a file; a mixture of two files would show."""
    made = model(0.0)
    made.load_weights(path)
    values = {float(v) for w in made.get_weights() for v in np.ravel(w)}
    assert len(values) == 1
    return values.pop()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("m.keras", errno.ENOSPC),
        ("m.keras", errno.EIO),
        ("m.h5", errno.ENOSPC),
        ("m.weights.h5", errno.ENOSPC),
    ],
)
def test_every_call_fails_once(tmp_path, monkeypatch, name, code):
    old, new = model(1.0), model(2.0)
    path = tmp_path / name
    FORMATS[name](old, path)
    n = replaced = 0
    while True:
        n += 1
        faults = Faulty(n, OSError(code, os.strerror(code)))
        monkeypatch.setattr(atomic, "os", faults)
        error = None
        try:
            FORMATS[name](new, path)
        except OSError as e:
            error = e
        monkeypatch.undo()
        if len(faults.calls) < n:
            assert error is None
            break
        assert os.listdir(tmp_path) == [name], faults.calls
        assert error is not None, faults.calls
        assert error.errno == code
        if "replace" in faults.calls[:-1]:
            assert value_in(path) == 2.0
            replaced += 1
        else:
            assert "the old file is unchanged" in str(error), (str(error), faults.calls)
            assert value_in(path) == 1.0
        FORMATS[name](old, path)  # nothing was left behind in libhdf5 either
    assert value_in(path) == 2.0
    assert n > 15 and replaced >= 1
    assert set(faults.calls) <= set(Faulty.COUNTED)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), RuntimeError("no")])
@pytest.mark.parametrize("name", FORMATS)
def test_every_array_fails_once(tmp_path, monkeypatch, name, error):
    """Copying the n-th variable out of the engine fails: no memory, Ctrl-C, anything."""
    old, new = model(1.0), model(2.0)
    path = tmp_path / name
    FORMATS[name](old, path)
    n = 0
    while True:
        n += 1
        calls = 0
        real = backend.convert_to_numpy

        def convert(x, real=real, n=n):
            nonlocal calls
            calls += 1
            if calls == n:
                raise error
            return real(x)

        monkeypatch.setattr(backend, "convert_to_numpy", convert)
        failed = False
        try:
            FORMATS[name](new, path)
        except type(error):
            failed = True
        monkeypatch.undo()
        if not failed:
            break
        assert os.listdir(tmp_path) == [name]
        assert value_in(path) == 1.0
    assert calls < n and n > 4
    assert value_in(path) == 2.0


def test_a_full_disk_is_noticed_first(tmp_path, monkeypatch):
    path = tmp_path / "m.keras"
    model(1.0).save(path)
    usage = os.statvfs(tmp_path)
    free = usage.f_bavail * usage.f_frsize
    monkeypatch.setattr(weights, "size_of", lambda model: free + (64 << 30))
    with pytest.raises(
        OSError, match=r"about \d+ bytes needed, \d+ bytes free; the old file is un"
    ):
        model(2.0).save(path)
    assert value_in(path) == 1.0


def test_the_estimate_is_about_right(tmp_path):
    for made in (model(1.0), common.trained("attention"), common.trained("lstm")):
        made.save_weights(tmp_path / "m.weights.h5")
        size = (tmp_path / "m.weights.h5").stat().st_size
        assert 0.5 * size < weights.size_of(made) < 3 * size


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_killed_while_saving(tmp_path):
    """Thirty times a process that saves over and over is killed at a random moment."""
    script = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_faults import kill_savers
kill_savers({str(tmp_path)!r}, 30)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def kill_savers(folder, rounds):
    paths = [os.path.join(folder, name) for name in FORMATS]
    models = [model(1.0), model(2.0)]
    for path in paths:
        FORMATS[os.path.basename(path)](models[0], path)
    random.seed(0)
    seen, leftovers = set(), 0
    for done in range(10 * rounds):
        if done >= rounds and leftovers and len(seen) == 2:
            break  # on a slow disk it takes longer to see both
        child = os.fork()
        if child == 0:
            try:
                for step in range(10_000):
                    for path in paths:
                        FORMATS[os.path.basename(path)](models[step % 2], path)
            finally:
                os._exit(1)
        time.sleep(random.random() * 0.2)
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        leftovers += len(os.listdir(folder)) > len(paths)
        seen |= {value_in(path) for path in paths}
    assert seen == {1.0, 2.0}
    assert leftovers, "no process was killed in the middle of a file"
    for path in paths:
        FORMATS[os.path.basename(path)](models[1], path)
        assert value_in(path) == 2.0
    assert sorted(os.listdir(folder)) == sorted(FORMATS)
