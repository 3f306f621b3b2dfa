"""Without CUDA: the core does not need it, and says why there is none."""

import os
import shutil
import subprocess
import sys

import pytest

from hornbeam.backend import _core


def python(code, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("HORNBEAM_")} | environment
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf")
def test_the_core_links_to_no_cuda_library():
    out = subprocess.run(
        ["readelf", "-d", _core.__file__], capture_output=True, text=True, check=True
    ).stdout
    needed = [line for line in out.splitlines() if "NEEDED" in line]
    assert needed
    assert not [line for line in needed if "cuda" in line.lower() or "nv" in line.lower()]


def test_import_opens_no_cuda_library():
    code = "import hornbeam; hornbeam.ops.ones(2) + 1; print(open('/proc/self/maps').read())"
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert "_core" in result.stdout
    assert "libcuda" not in result.stdout and "_cuda" not in result.stdout


def test_no_device_says_why():
    code = "import hornbeam\nwith hornbeam.device('cuda:0'): pass"
    result = python(code, HORNBEAM_DEVICE="cpu")
    assert "ValueError: device: expected one of ['cpu:0'], got 'cuda:0'; no CUDA device: " in (
        result.stderr
    )
    assert "HORNBEAM_DEVICE=cpu" in result.stderr
    result = python(code, HORNBEAM_CUDA_EMULATED="/nowhere/_cuda.so")
    assert "no CUDA device: /nowhere/_cuda.so: cannot open" in result.stderr


def test_the_default_device_must_exist():
    code = "import hornbeam; hornbeam.ops.ones(2)"
    result = python(code, HORNBEAM_DEVICE="cuda:7")
    assert "got 'cuda:7'" in result.stderr


def test_default_device(emulated):
    code = "import hornbeam; x = hornbeam.ops.ones(2); print(x.device, (x + 1).device)"
    result = python(code, HORNBEAM_DEVICE="gpu", HORNBEAM_CUDA_EMULATED=str(emulated))
    assert result.stdout.split() == ["cuda:0", "cuda:0"], result.stderr
    result = python(code, HORNBEAM_CUDA_EMULATED=str(emulated))
    assert result.stdout.split() == ["cpu:0", "cpu:0"], result.stderr


def test_automatic_placement(emulated):
    code = """
import numpy as np, hornbeam
from hornbeam import layers
model = hornbeam.Sequential([layers.Input((3,)), layers.Dense(2)])
model.compile("sgd", "mse")
model.fit(np.ones((4, 3)), np.ones((4, 2)), batch_size=2, verbose=0)
print((hornbeam.ops.ones(2) + 1).device, *{v.value.device for v in model.weights})
"""
    found = {"HORNBEAM_DEVICE": "auto", "HORNBEAM_CUDA_EMULATED": str(emulated)}
    result = python(code, **found)
    assert result.stdout.split() == ["cuda:0", "cuda:0"], result.stderr
    result = python(code, **found, HORNBEAM_EMULATE_FAULT="no_device")
    assert result.stdout.split() == ["cpu:0", "cpu:0"], result.stderr
    result = python(code, **(found | {"HORNBEAM_DEVICE": "cpu"}))
    assert result.stdout.split() == ["cpu:0", "cpu:0"], result.stderr


def test_wrong_index(emulated):
    code = "import hornbeam; hornbeam.device('cuda:3').__enter__()"
    result = python(code, HORNBEAM_CUDA_EMULATED=str(emulated))
    assert "expected one of ['cpu:0', 'cuda:0'], got 'cuda:3'" in result.stderr
