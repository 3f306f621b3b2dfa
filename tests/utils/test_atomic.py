"""Old or new, never neither: `atomic_write` with every one of its system calls failing."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from hornbeam.utils import atomic

OLD, NEW = b"old contents", b"new contents, and longer ones"


class Faulty:
    """The module `os`, of which the n-th call that can fail does."""

    COUNTED = ("open", "fsync", "replace", "fdopen", "listdir", "write")

    def __init__(self, fail_at, code=errno.EIO):
        self.fail_at, self.code, self.calls = fail_at, code, []

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
            raise OSError(self.code, os.strerror(self.code))


class FaultyFile:
    def __init__(self, file, faults):
        self.file, self.faults = file, faults

    def write(self, data):
        self.faults.count("write")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


def write(path):
    with atomic.atomic_write(path) as f:
        f.write(NEW[:5])
        f.write(NEW[5:])


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "f"
    write(path)
    assert path.read_bytes() == NEW
    path.write_bytes(OLD)
    path.chmod(0o640)
    write(path)
    assert path.read_bytes() == NEW
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["f"]


def test_follows_a_symbolic_link(tmp_path):
    (tmp_path / "real").write_bytes(OLD)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == NEW


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_every_system_call_may_fail(tmp_path, monkeypatch, exists, code):
    """The SQLite method: fail the first call, then the second, … until none is left to fail."""
    path = tmp_path / "f"
    n = 0
    while True:
        n += 1
        if exists:
            path.write_bytes(OLD)
        elif path.exists():
            path.unlink()
        faults = Faulty(n, code)
        monkeypatch.setattr(atomic, "os", faults)
        try:
            write(path)
        except OSError as error:
            assert error.errno == code
            if not path.exists() or path.read_bytes() == OLD:
                assert str(path) in str(error)
                assert ("the old file is unchanged" in str(error)) == exists
        monkeypatch.undo()
        if len(faults.calls) < n:
            break
        replaced = "replace" in faults.calls[:-1]
        if replaced:
            assert path.read_bytes() == NEW
        else:
            assert (path.read_bytes() == OLD) if exists else not path.exists()
        assert os.listdir(tmp_path) == (["f"] if path.exists() else [])
    assert path.read_bytes() == NEW
    assert set(faults.calls) == set(Faulty.COUNTED), "a call that should be able to fail is unused"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), MemoryError()])
def test_an_error_of_the_writer_passes_through(tmp_path, error):
    path = tmp_path / "f"
    path.write_bytes(OLD)
    with pytest.raises(type(error)):
        with atomic.atomic_write(path) as f:
            f.write(NEW)
            raise error
    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["f"]


def test_says_how_much_room_is_missing(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(OLD)
    with pytest.raises(OSError, match=r"about \d{19} bytes needed, \d+ bytes free; the old file"):
        with atomic.atomic_write(path, size=10**18 * 2):
            raise AssertionError("not reached")
    assert path.read_bytes() == OLD


def test_a_full_disk(tmp_path):
    """/dev/full's sibling for whole files: a limit on the size of files of this process."""
    pytest.importorskip("resource")
    path = tmp_path / "f"
    path.write_bytes(OLD)
    script = f"""
import resource, signal
from hornbeam.utils.atomic import atomic_write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with atomic_write({str(path)!r}) as f:
        f.write(bytes(10_000_000))
except OSError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "File too large" in out.stdout and "the old file is unchanged" in out.stdout
    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_leftovers_of_a_killed_writer_go_with_the_next_write(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(OLD)
    script = f"""
import time
from hornbeam.utils.atomic import atomic_write
with atomic_write({str(path)!r}) as f:
    f.write(b"half"); f.flush(); print("writing", flush=True); time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        write(path)  # the other writer is alive: its file is left alone
        assert len(os.listdir(tmp_path)) == 2
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while len(os.listdir(tmp_path)) == 2 and time.monotonic() < deadline:
        write(path)
    assert os.listdir(tmp_path) == ["f"]
    assert path.read_bytes() == NEW


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="expected a file, got a folder"):
        write(tmp_path)
    assert os.listdir(tmp_path) == []
