"""The profiler counts what ran, with the right costs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import hornbeam as keras
from hornbeam.backend import function


def test_rows_and_costs():
    a = np.ones((32, 64), np.float32)

    @function
    def f(a):
        return keras.ops.exp(keras.ops.matmul(a, a.T)) + 1

    f(a)
    with keras.profiler.profile() as p:
        for _ in range(3):
            f(a)
    f(a)  # not recorded any more
    rows = {r.name.split("/")[0]: r for r in p.rows()}
    assert rows["matmul"].calls == 3 and rows["elementwise"].calls == 3
    matmul = next(e for e in p.events if e[0].startswith("matmul"))
    assert matmul[5] == 2 * 32 * 32 * 64
    assert matmul[6] == 4 * (2 * 32 * 64 + 32 * 32)
    assert __file__.rstrip("c") in matmul[1]
    assert "exp add" in p.table()
    assert sum(r.share for r in p.rows()) == pytest.approx(1)


def test_environment_variable_writes_a_trace(tmp_path):
    path = tmp_path / "trace.json"
    code = "import hornbeam as k; k.ops.add(k.ops.ones(3), 1.0)"
    env = dict(os.environ, HORNBEAM_PROFILE=str(path))
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert out.returncode == 0 and "GFLOP/s" in out.stderr, out.stderr
    events = json.loads(path.read_text())["traceEvents"]
    assert any("add" in e["name"] and e["ph"] == "X" for e in events)
