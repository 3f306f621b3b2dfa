"""Real Keras reads what is written here. Needs HORNBEAM_KERAS_PYTHON: a Python with Keras and JAX."""

import os
import pathlib
import subprocess

import common
import pytest
from common import architectures

PYTHON = os.environ.get("HORNBEAM_KERAS_PYTHON")
CHECK = pathlib.Path(__file__).resolve().parent / "check_with_keras.py"


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="HORNBEAM_KERAS_PYTHON is not set")
def test_keras_reads_our_files(tmp_path):
    for name in architectures.NAMES:
        common.write_all(tmp_path, name)
    result = subprocess.run(
        [PYTHON, CHECK, tmp_path],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert len([line for line in lines if line.startswith("ok")]) == 3 * len(architectures.NAMES)
