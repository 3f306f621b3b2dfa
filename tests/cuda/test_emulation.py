"""The emulation finds the mistakes that it is for."""

import os
import pathlib
import subprocess
import sys

import pytest

from .conftest import CSRC, RUNTIME, build_emulated, compiler

CODE = """
import sys, numpy as np
from hornbeam.backend import _core, devices
assert devices.list_devices() == ["cpu:0", "cuda:0"]
spec = ("float32", (64,))
step = (sys.argv[1], [0], [1], {}, [], None, "")
program = _core.Program([spec] * 2, [0], [], [], [step], [1], [], ["cuda:0"] * 2)
x = np.arange(64, dtype="float32")
(y,) = program.run([_core.Tensor.from_numpy(x, "float32", True).to("cuda:0")])
print("right" if np.array_equal(y.array(), x[::-1]) else "wrong")
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    if not CSRC.is_dir() or compiler() is None:
        pytest.skip("needs the sources and a C++ compiler")
    here = pathlib.Path(__file__).parent
    return build_emulated([here / "faulty.cu", *RUNTIME], tmp_path_factory.mktemp("faulty"))


def run(faulty, op, order=""):
    env = os.environ | {"HORNBEAM_CUDA_EMULATED": str(faulty), "HORNBEAM_EMULATE_ORDER": order}
    env.pop("HORNBEAM_DEVICE", None)
    return subprocess.run(
        [sys.executable, "-c", CODE, op], capture_output=True, text=True, env=env, check=False
    )


@pytest.mark.parametrize("order", ["", "reverse"])
def test_a_right_kernel(faulty, order):
    assert run(faulty, "right", order).stdout == "right\n"


def test_a_missing_barrier_gives_wrong_results(faulty):
    assert run(faulty, "no_barrier").stdout == "wrong\n"


def test_a_barrier_that_not_all_threads_reach(faulty):
    error = run(faulty, "barrier_of_some").stderr
    assert "__syncthreads: 24 of 64 threads have ended without it" in error


def test_a_warp_function_with_a_lane_missing(faulty):
    assert "warp function: lane 5 of its mask has ended" in run(faulty, "lane_missing").stderr


def test_the_host_cannot_read_memory_of_the_device(faulty):
    assert run(faulty, "host_pointer").returncode < 0  # a signal
