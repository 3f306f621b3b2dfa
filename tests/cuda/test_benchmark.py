"""benchmarks/gpu.py runs from end to end, in its small shapes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def test_every_case_runs(emulated, cuda):
    if not SCRIPT.exists():
        pytest.skip("needs the repository")
    env = os.environ | {"HORNBEAM_CUDA_EMULATED": str(emulated)}
    command = [sys.executable, str(SCRIPT), "--impl", "hornbeam", "--tiny"]
    result = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    first, *rows = map(json.loads, result.stdout.splitlines())
    assert "device" in first and len(rows) > 50
    assert [r for r in rows if "error" in r] == []
    assert all(r["rate"] > 0 and (r.get("check", 1) > 0) for r in rows)
