"""Products by cuBLASLt: a library that only has its names shows when it is opened, used, declined."""

import os
import pathlib
import subprocess
import sys

import pytest

from .conftest import compiler

CODE = """
import numpy as np, hornbeam
from hornbeam import backend, ops
rng = np.random.default_rng(0)
shapes = [((20, 30), (30, 10)), ((3, 20, 30), (3, 30, 10)), ((3, 20, 30), (30, 10)), ((2, 3, 4, 5), (2, 1, 5, 6))]
for a, b in shapes:
    for ta, tb in ((0, 0), (0, 1), (1, 0), (1, 1)):
        for dtype in ("float32", "float64", "bfloat16"):
            x, y = (ops.cast(rng.integers(-3, 4, s).astype("float32"), dtype) for s in (a, b))
            bias = ops.cast(rng.integers(-3, 4, b[-1]).astype("float32"), dtype)
            expected = np.maximum(np.array(ops.cast(x, "float32")) @ np.array(ops.cast(y, "float32"))
                                  + np.array(ops.cast(bias, "float32")), 0)
            swap = lambda v, t: ops.swapaxes(v, -1, -2) if t else v
            f = lambda x, y, bias: ops.relu(ops.matmul(swap(x, ta), swap(y, tb)) + bias)
            with hornbeam.device("cuda:0"):
                f = backend.function(f)
                for _ in range(2):
                    got = f(swap(x, ta), swap(y, tb), bias)
            np.testing.assert_array_equal(np.array(ops.cast(got, "float32")), expected)
            skip = ops.cast(rng.integers(-3, 4, expected.shape).astype("float32"), dtype)
            f = lambda x, y, skip: ops.matmul(swap(x, ta), swap(y, tb)) + skip
            with hornbeam.device("cuda:0"):
                f = backend.function(f)
                got = f(swap(x, ta), swap(y, tb), skip)
            expected = np.array(ops.cast(x, "float32")) @ np.array(ops.cast(y, "float32"))
            np.testing.assert_array_equal(np.array(ops.cast(got - skip, "float32")), expected)
print("right")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a library of that name is found."""
    folder = tmp_path_factory.mktemp("cublaslt")
    source = pathlib.Path(__file__).parent / "fake_cublaslt.cc"
    command = [compiler(), "-std=c++20", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, str(source), "-o", str(folder / "libcublasLt.so.13")], check=True)
    return folder


def run(emulated, folder, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("HORNBEAM_")}
    env |= {"HORNBEAM_CUDA_EMULATED": str(emulated), "LD_LIBRARY_PATH": str(folder), **environment}
    return subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=env, check=False
    )


def used(result):
    assert result.stdout == "right\n", result.stderr
    return result.stderr.count("cublaslt\n")


def test_it_is_used_where_it_is_asked_for(emulated, folder):
    assert used(run(emulated, folder)) == 0
    # of four shapes, one has two axes of batches; (transposed, transposed) of dense matrices is one
    # that only they can do; each runs twice, and once with a skip connection
    assert used(run(emulated, folder, HORNBEAM_CUDA_PRODUCTS="cublaslt")) > 72


def test_measured_shapes_keep_the_faster_one(emulated, folder):
    assert used(run(emulated, folder, HORNBEAM_CUDA_PRODUCTS="measure")) > 48


def test_a_shape_that_it_declines_is_ours(emulated, folder):
    environment = {"HORNBEAM_CUDA_PRODUCTS": "cublaslt", "FAKE_CUBLASLT_DECLINES": "1"}
    assert used(run(emulated, folder, **environment)) == 0


def test_errors(emulated, folder, tmp_path):
    asked = {"HORNBEAM_CUDA_PRODUCTS": "cublaslt"}
    error = run(emulated, tmp_path, **asked).stderr
    assert "cuBLASLt was not found: libcublasLt.so.12: cannot open" in error
    error = run(emulated, folder, FAKE_CUBLASLT_VERSION="110805", **asked).stderr
    assert "cuBLASLt 110805 is too old; expected 12.0 or newer" in error
    error = run(emulated, folder, HORNBEAM_CUDA_PRODUCTS="best").stderr
    assert "expected own, cublaslt or measure, got best" in error
