"""Test files that also run as scripts: once for each instruction-set level and number of threads."""

import os
import pathlib
import subprocess
import sys

import pytest

from hornbeam.backend import _core

LEVELS = ["baseline", "avx2", "avx512"]


def bits(script, level, threads):
    """What the script's `report` printed, run at this level with so many threads."""
    path = os.pathsep.join(filter(None, [_TESTS, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {
        "HORNBEAM_ISA": level,
        "HORNBEAM_NUM_THREADS": str(threads),
        "PYTHONPATH": path,
    }
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found_level, found_threads, digest = done.stdout.split()
    assert (found_level, int(found_threads)) == (level, threads)
    return digest


def check_same_bits(script, level):
    """The script passes at this level, with the same bits for one thread and for three."""
    machine = _core.machine_isa_level()
    if machine != "amx" and LEVELS.index(level) > LEVELS.index(machine):
        pytest.skip(f"this machine has {machine}")
    assert len({bits(script, level, threads) for threads in (1, 3)}) == 1


def report(digest):
    """The last line of such a script."""
    print(_core.isa_level(), _core.num_threads(), digest)


_TESTS = str(pathlib.Path(__file__).resolve().parents[1])
