"""The forward cases again at each lower instruction-set level, in a process of its own."""

import os
import pathlib
import subprocess
import sys

import pytest

from hornbeam.backend import _core

LEVELS = ["baseline", "avx2", "avx512", "amx"]


@pytest.mark.parametrize("level", LEVELS[: LEVELS.index(_core.isa_level())])
def test_level(level):
    folder = pathlib.Path(__file__).parent
    names = [
        "test_forward.py::test_values",
        "test_accuracy.py",
        "test_recurrent.py",
        "test_pooling.py",
    ]
    tests = [f"{folder}/{name}" for name in names]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        env=os.environ | {"HORNBEAM_ISA": level},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
