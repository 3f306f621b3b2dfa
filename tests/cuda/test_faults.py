"""What goes wrong with a GPU is said in words, and the processor stays usable (emulated faults)."""

import os
import subprocess
import sys

import pytest


def python(emulated, code, **variables):
    env = {k: v for k, v in os.environ.items() if not k.startswith("HORNBEAM_")}
    env |= {"HORNBEAM_CUDA_EMULATED": str(emulated)} | variables
    code = (
        "import numpy as np, hornbeam\nfrom hornbeam import ops\n"
        f"try:\n    {code}\nexcept Exception as e:\n    print(type(e).__name__, e)\n"
        "with hornbeam.device('cpu:0'):\n    print('cpu', float(ops.sum(ops.ones(5))))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.endswith("cpu 5.0\n"), out.stdout
    return out.stdout


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("no_driver", "no NVIDIA driver on this machine"),
        ("old_driver", "driver is too old: it supports CUDA 11.4, this build needs 13.0"),
        ("no_device", "the NVIDIA driver finds no GPU"),
    ],
)
def test_no_device(emulated, fault, text):
    out = python(emulated, "ops.ones(2).to('cuda:0')", HORNBEAM_EMULATE_FAULT=fault)
    assert out.startswith("ValueError device: expected one of ['cpu:0']") and text in out


def test_wrong_index(emulated):
    out = python(emulated, "ops.ones(2).to('cuda:2')", HORNBEAM_EMULATE_DEVICES="2")
    assert "expected one of ['cpu:0', 'cuda:0', 'cuda:1'], got 'cuda:2'" in out


def test_tensors_on_two_devices(emulated):
    code = "ops.ones(2).to('cuda:0') + ops.ones(2).to('cuda:1')"
    out = python(emulated, code, HORNBEAM_EMULATE_DEVICES="2")
    assert "expected tensors on one device, got cuda:0, cuda:1; move one with x.to(" in out


def test_a_value_goes_from_one_gpu_to_another(emulated):
    code = "print(ops.arange(4).to('cuda:0').to('cuda:1').numpy().tolist())"
    assert "[0, 1, 2, 3]" in python(emulated, code, HORNBEAM_EMULATE_DEVICES="2")


def test_out_of_memory_names_needed_free_and_largest(emulated):
    code = "x = [ops.ones(2**22).to('cuda:0') for _ in range(9)]"
    out = python(emulated, code, HORNBEAM_EMULATE_MEMORY=str(100 << 20))
    assert out.startswith("MemoryError cuda:0: out of memory: 16.0 MiB are needed; "), out
    assert "of 100 MiB are free on the device" in out
    assert "largest block 0 MiB" in out and "tensors and arenas hold 96 MiB" in out


def test_the_limit_bounds_what_is_held(emulated):
    code = "x = [ops.ones(2**22).to('cuda:0') for _ in range(4)]"
    out = python(emulated, code, HORNBEAM_CUDA_MEMORY_LIMIT=str(50 << 20))
    assert "MemoryError" in out and "the limit is 50 MiB" in out
    out = python(emulated, code, HORNBEAM_CUDA_MEMORY_LIMIT="much")
    assert "HORNBEAM_CUDA_MEMORY_LIMIT: expected a number of bytes, got 'much'" in out


def test_memory_comes_back(emulated):
    code = (
        "[ops.ones(n).to('cuda:0') for n in (10**6, 3 * 10**6, 10**6, 2 * 10**6) * 20]; "
        "s = hornbeam.memory_stats('cuda:0'); assert s['current'] == 0 < s['peak'], s; "
        "assert s['largest'] == s['reserved'] or s['reserved'] <= 20 * s['peak'], s; "
        "hornbeam.backend._core.release_cached('cuda:0'); "
        "s = hornbeam.memory_stats('cuda:0'); assert s['reserved'] == s['largest'] == 0, s"
    )
    assert python(emulated, code) == "cpu 5.0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_after_start(emulated):
    code = (
        "import os; x = ops.ones(2).to('cuda:0'); x.numpy(); pid = os.fork(); "
        "exec('''if pid:\n os.waitpid(pid, 0)\nelse:\n try:\n  x.numpy()\n"
        " except Exception as e:\n  print(\"child:\", e, flush=True)\n os._exit(0)''')"
    )
    out = python(emulated, code)
    assert "child: CUDA was started before this process was forked" in out, out
