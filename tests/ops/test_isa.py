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
    tests = [f"{folder}/test_forward.py::test_values", f"{folder}/test_accuracy.py"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        env=os.environ | {"HORNBEAM_ISA": level},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
