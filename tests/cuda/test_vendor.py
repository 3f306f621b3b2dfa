"""Products by cuBLASLt, convolutions by cuDNN: libraries that only have their names show when they are
opened, used, refuse, fail."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from ops import test_matmul_conv_kernels as products
from support import kernels

import hornbeam
from hornbeam import backend

from .conftest import compiler
from .test_epilogues import CONVOLUTIONS

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


CONVOLVE = """
import sys
import numpy as np, hornbeam
from hornbeam import backend, ops
rng = np.random.default_rng(0)
x = rng.normal(size=(2, 6, 5, 8)).astype("float32")
w = rng.normal(size=(3, 3, 8, 4)).astype("float32")
f = lambda x, w: ops.relu(ops.conv(x, w, padding="same"))
expected = np.array(f(x, w))
with hornbeam.device("cuda:0"):
    for g in (backend.function(f), backend.function(lambda x, w: f(x, w) * 2)):
        got = np.array(g(x, w))
np.testing.assert_allclose(got, 2 * expected, atol=1e-4)
print("right")
"""
GONE = """
import gc
import numpy as np
from hornbeam import backend
from hornbeam.backend import _core
assert backend.list_devices("cuda")
rng = np.random.default_rng(0)
for op, shapes, out, attrs in [
    ("conv", [(1, 4, 4, 8), (1, 1, 8, 8)], (1, 4, 4, 8),
     dict(strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1)),
    ("matmul", [(8, 8), (8, 8)], (8, 8), {}),
]:
    tensors = [_core.Tensor.from_numpy(rng.normal(size=s).astype("float32"), "float32", True)
               for s in shapes]
    a, b = (np.array(t.array()) for t in tensors)
    tensors = [t.to("cuda:0") for t in tensors]
    slots = [("float32", s) for s in (*shapes, out)]
    program = _core.Program(slots, [0, 1], [], [], [(op, [0, 1], [2], attrs, [], None, "")], [2],
                            [], ["cuda:0"] * 3)
    result = program.run(tensors)[0]
    del program
    gc.collect()
    got = np.array(result.to("cpu:0").array())
    np.testing.assert_allclose(got, (a.reshape(-1, 8) @ b.reshape(8, 8)).reshape(out), rtol=1e-4,
                               atol=1e-4)
print("right")
"""
TYPES = {"float32": 0, "float16": 2, "bfloat16": 9}
CASES = [
    *CONVOLUTIONS,
    (1, (9, 9), 8, 16, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    (1, (4, 5, 6), 8, 8, (3, 2, 1), (2, 1, 1), (1, 0, 1, 1, 0, 0), (1, 1, 1), 2),
    (1, (5, 5), 5, 3, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
]


def build(folder, source, name, *options):
    command = [compiler(), "-std=c++20", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    source = pathlib.Path(__file__).parent / source
    subprocess.run([*command, *options, str(source), "-o", str(folder / name)], check=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where libraries of those names are found."""
    folder = tmp_path_factory.mktemp("libraries")
    build(folder, "fake_cublaslt.cc", "libcublasLt.so.13")
    build(folder, "fake_cudnn.cc", "libcudnn.so.9")
    return folder


def run(emulated, folder, code=CODE, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("HORNBEAM_")}
    tests = pathlib.Path(__file__).parents[1]
    env["PYTHONPATH"] = os.pathsep.join([str(tests), *filter(None, [env.get("PYTHONPATH")])])
    env |= {"HORNBEAM_CUDA_EMULATED": str(emulated), "HORNBEAM_CUDA_COMPILE": "0"}
    env |= {"HORNBEAM_CUBLASLT": str(folder), "HORNBEAM_CUDNN": str(folder), **environment}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )


def used(result, library="cublaslt"):
    assert result.stdout.endswith("right\n"), result.stderr
    return len(re.findall(f"^{library}\\b", result.stderr, re.MULTILINE))


def test_it_is_used_where_it_is_asked_for(emulated, folder):
    assert used(run(emulated, folder)) == 0
    # of four shapes, one has two axes of batches; (transposed, transposed) of dense matrices is one
    # that only they can do; each runs twice, and once with a skip connection
    assert used(run(emulated, folder, HORNBEAM_CUDA_PRODUCTS="cublaslt")) > 72
    assert used(run(emulated, folder, HORNBEAM_CUDA_PRODUCTS="cublaslt,cudnn")) > 72
    assert used(run(emulated, folder, HORNBEAM_CUDA_PRODUCTS="cudnn")) == 0


def test_measured_shapes_keep_the_faster_one(emulated, folder):
    # four runs for every kind of product to be measured
    assert used(run(emulated, folder, HORNBEAM_CUDA_PRODUCTS="measure")) > 48


def test_a_shape_that_it_declines_is_ours(emulated, folder):
    environment = {"HORNBEAM_CUDA_PRODUCTS": "cublaslt", "FAKE_CUBLASLT_DECLINES": "1"}
    assert used(run(emulated, folder, **environment)) == 0


def test_errors(emulated, folder, tmp_path):
    asked = {"HORNBEAM_CUDA_PRODUCTS": "cublaslt"}
    error = run(emulated, tmp_path, **asked).stderr
    assert f"cuBLASLt was not found: {tmp_path}/libcublasLt.so.13: cannot open" in error
    error = run(emulated, folder, FAKE_CUBLASLT_VERSION="110805", **asked).stderr
    assert "cuBLASLt 110805 is too old; expected 12.0 or newer" in error
    error = run(emulated, folder, HORNBEAM_CUDA_PRODUCTS="best").stderr
    assert "expected own, measure, cublaslt, cudnn or cublaslt,cudnn, got best" in error


def test_a_program_may_go_before_its_work_is_done(emulated, folder):
    for choice in ("cublaslt,cudnn", "measure"):
        result = run(emulated, folder, GONE, HORNBEAM_CUDA_PRODUCTS=choice)
        assert used(result, "cudnn") and used(result, "cublaslt")


# ----------------------------------------------------------------- convolutions


@pytest.fixture
def cudnn(cuda, folder, monkeypatch):
    """The emulated device, whose convolutions are cuDNN's."""
    if "emulated" not in backend._core.device_description(cuda):
        pytest.skip("the library is for the emulated device")
    monkeypatch.setenv("HORNBEAM_CUDNN", str(folder))
    monkeypatch.setenv("HORNBEAM_CUDA_PRODUCTS", "cudnn")
    return cuda


def can_say(case):
    """Whether padding in front is also right behind."""
    _, spatial, _, _, kernel, strides, padding, dilation, _ = case
    for i, (n, k, s, d) in enumerate(zip(spatial, kernel, strides, dilation, strict=True)):
        reach = (k - 1) * d + 1
        lo, hi = padding[2 * i : 2 * i + 2]
        if (n + 2 * lo - reach) // s != (n + lo + hi - reach) // s:
            return False
    return True


@pytest.mark.parametrize("dtype", products.FLOATS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions(case, dtype, cudnn, capfd):
    with kernels.on(cudnn):
        products.check_conv(case, dtype, twice=can_say(case))
    lines = set(re.findall("^cudnn .*", capfd.readouterr().err, re.MULTILINE))
    if dtype == "float64" or not can_say(case):
        assert not lines
        return
    math = 3 if dtype == "float32" else 1
    how = f"type {TYPES[dtype]} math {math} algorithm 1"
    assert lines == {f"cudnn {part} {how}" for part in ("forward", "input", "filter")}


def test_most_cases_can_be_said():
    assert sum(map(can_say, CASES)) == 8


@pytest.mark.parametrize("precision, math", [("highest", 3), ("high", None), ("medium", 0)])
def test_precision_of_float32(precision, math, cudnn, capfd):
    before = hornbeam.config.matmul_precision()
    hornbeam.config.set_matmul_precision(precision)
    x, w = np.ones((1, 4, 4, 8), "float32"), np.ones((1, 1, 8, 8), "float32")
    attrs = {"strides": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    try:
        with kernels.on(cudnn):
            outputs = [("float32", (1, 4, 4, 8))]
            (y,) = kernels.run("conv", [x, w], ["float32"] * 2, outputs, **attrs)
    finally:
        hornbeam.config.set_matmul_precision(before)
    np.testing.assert_array_equal(y, 8)
    found = re.findall("math ([0-9])", capfd.readouterr().err)
    assert set(found) == (set() if math is None else {str(math)})


def test_what_cudnn_refuses_is_ours(cudnn, monkeypatch, capfd):
    case = CASES[1]
    for name, value in [
        ("FAKE_CUDNN_REFUSES", "3000"),  # version 9: not supported
        ("FAKE_CUDNN_REFUSES", "3002"),  # version 9: not supported, for the shape
        ("FAKE_CUDNN_REFUSES", "9"),  # version 8
        ("FAKE_CUDNN_WORKSPACE", str(33 << 20)),  # more than it gets
    ]:
        with monkeypatch.context() as m:
            m.setenv(name, value)
            with kernels.on(cudnn):
                products.check_conv(case, "float32")
        assert "cudnn" not in capfd.readouterr().err
    monkeypatch.setenv("FAKE_CUDNN_FORWARD", "0")  # the other algorithm
    monkeypatch.setenv("FAKE_CUDNN_WORKSPACE", "0")
    with kernels.on(cudnn):
        products.check_conv(case, "float32")
    assert "forward type 0 math 3 algorithm 0" in capfd.readouterr().err


def test_convolutions_are_measured_once_for_all_kernels_of_a_shape(emulated, folder):
    result = run(emulated, folder, CONVOLVE, HORNBEAM_CUDA_PRODUCTS="measure")
    # four runs to measure, none or one more in the program that comes later
    assert used(result, "cudnn forward") in (4, 5)
    assert used(run(emulated, folder, CONVOLVE, HORNBEAM_CUDA_PRODUCTS="cudnn"), "cudnn") == 2


def test_cudnn_that_cannot_be_used(emulated, folder, tmp_path):
    old, part = tmp_path / "old", tmp_path / "part"
    part.mkdir()
    build(part, "fake_cudnn.cc", "libcudnn.so.8", "-DWITHOUT_FORWARD")
    for where, environment, problem in [
        (old, {}, f"cuDNN was not found: {old}: cannot open"),
        (tmp_path, {}, f"cuDNN was not found: {tmp_path}/libcudnn.so.9: cannot open"),
        (part, {}, "cuDNN has no cudnnConvolutionForward"),
        (folder, {"FAKE_CUDNN_VERSION": "8005"}, "cuDNN 8005 is too old; expected 8.1 or newer"),
        (folder, {"FAKE_CUDNN_START": "1001"}, "cuDNN cannot start: CUDNN_STATUS_NOT_INITIALIZED"),
    ]:
        asked = run(emulated, where, CONVOLVE, HORNBEAM_CUDA_PRODUCTS="cudnn", **environment)
        assert asked.returncode and f"HORNBEAM_CUDA_PRODUCTS: {problem}" in asked.stderr
        # where it is not asked for, ours is what runs, and why can be seen
        environment |= {"HORNBEAM_CUDA_PRODUCTS": "measure", "HORNBEAM_DEBUG": "plan"}
        measured = run(emulated, where, CONVOLVE, **environment)
        assert used(measured, "cudnn") == 0
        assert measured.stderr.count(f"measure: not measured: {problem}") == 1


def test_a_failure_of_cudnn_is_an_error(emulated, folder):
    for name, value in [("FAKE_CUDNN_STATUS", "5000"), ("FAKE_CUDNN_REFUSES", "5000")]:
        environment = {"HORNBEAM_CUDA_PRODUCTS": "cudnn", name: value}
        result = run(emulated, folder, CONVOLVE, **environment)
        assert result.returncode
        assert re.search(r"cuDNN: \w+: CUDNN_STATUS_EXECUTION_FAILED \(5000\)", result.stderr)
