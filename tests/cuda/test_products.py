"""Products on tensor cores (gemm_mma.cuh): tiles, parts of sums, layouts, precision, instructions.

On the emulated device every instruction of the tensor cores is carried out in software;
HORNBEAM_EMULATE_ARCHITECTURE says which GPU it is.
"""

import itertools
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

import hornbeam
from hornbeam import backend, ops

from .conftest import CSRC

ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}


@pytest.fixture
def precision():
    """Sets the precision of float32 products; put back afterwards."""
    before = hornbeam.config.matmul_precision()
    yield hornbeam.config.set_matmul_precision
    hornbeam.config.set_matmul_precision(before)


@pytest.fixture
def hopper(cuda, monkeypatch):
    """The emulated device is a Hopper GPU."""
    if "emulated" in backend._core.device_description(cuda):
        monkeypatch.setenv("HORNBEAM_EMULATE_ARCHITECTURE", "90")
    elif "compute capability 9.0" not in backend._core.device_description(cuda):
        pytest.skip("needs a Hopper GPU")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def as_tensor(x, dtype):
    return backend.convert_to_tensor(x.astype("float64") if dtype == "float64" else x, dtype)


def float64(x):
    return np.array(ops.cast(x, "float64"))


def on(device, f, *tensors):
    with hornbeam.device(device):
        return backend.tree.map_structure(float64, backend.function(f)(*tensors))


def check_product(cuda, a, b, dtype, transposed=(False, False), f=ops.matmul):
    """|error| <= rounding of the result + of a float32 sum, relative to the sum of magnitudes."""
    x, y = as_tensor(a, dtype), as_tensor(b, dtype)
    expected = float64(x) @ float64(y)
    size = np.abs(float64(x)) @ np.abs(float64(y))
    stored = [ops.swapaxes(v, -1, -2) if t else v for v, t in zip((x, y), transposed, strict=True)]

    def product(x, y):
        x, y = (
            ops.swapaxes(v, -1, -2) if t else v for v, t in zip((x, y), transposed, strict=True)
        )
        return f(x, y)

    got = on(cuda, product, *stored)
    sum_error = 4 * max(ROUNDING[dtype], 2.0**-24) if dtype != "float64" else 2.0**-52
    bound = ROUNDING[dtype] * np.abs(expected) + sum_error * np.sqrt(a.shape[-1]) * size
    if dtype in ("bfloat16", "float16"):
        bound = ROUNDING[dtype] * np.abs(expected) * 1.01 + 1e-5 * size
    assert (np.abs(got - expected) <= bound).all()
    return got


# small tiles; large ones (more than 64 rows and columns, enough of them); sums in parts; no sizes
# that are multiples of anything; widths of 16, 8, 4 and 2 bytes
SHAPES = [
    (64, 64, 64), (1, 1, 1), (65, 40, 130), (17, 130, 33), (130, 132, 34), (5, 3, 2100),
    (1536, 1100, 40), (3, 1, 9),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_values(m, n, k, dtype, cuda):
    if m * n > 1 << 20 and dtype == "float64":
        pytest.skip("has no large tile")
    check_product(cuda, normal(m, k), normal(k, n, seed=1), dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("transposed", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("sizes", [(72, 80, 48), (33, 70, 29)])
def test_layouts(sizes, transposed, dtype, cuda):
    m, n, k = sizes
    check_product(cuda, normal(m, k), normal(k, n, seed=1), dtype, transposed)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_batches_in_parts(dtype, cuda):
    """Batches that are broadcast, each with its sum in parts."""
    check_product(cuda, normal(2, 1, 20, 1100), normal(3, 1100, 24, seed=1), dtype)


@pytest.mark.parametrize("level", ["highest", "high", "medium"])
def test_precision_of_float32(level, cuda, precision):
    precision(level)
    m, n, k = 48, 40, 1000
    a, b = np.abs(normal(m, k)), np.abs(normal(k, n, seed=1))
    got = on(cuda, ops.matmul, as_tensor(a, "float32"), as_tensor(b, "float32"))
    expected = a.astype("float64") @ b
    error = np.abs(got - expected).max() / expected.max()
    running = np.zeros((m, n), "float32")
    for i in range(k):  # multiply-adds
        running = (running + a[:, i : i + 1].astype("float64") * b[i : i + 1]).astype("float32")
    multiply_adds = np.abs(running - expected).max() / expected.max()
    bound = {"highest": multiply_adds, "high": 2.0**-15, "medium": 2.0**-9}[level]
    assert error <= bound
    if level == "medium":
        assert error > 2.0**-20  # it is another kernel


def test_numbers_that_have_no_parts(cuda):
    """Infinities, NaN and numbers that bfloat16 rounds to infinity: as multiply-adds give them."""
    a, b = np.ones((70, 40), "float32"), np.ones((40, 70), "float32")
    a[3, 5], a[40, 7], a[40, 8], a[66, 0] = np.inf, np.inf, -np.inf, np.nan
    a[50, 0], b[9, 33] = 3.4e38, -np.inf
    got = on(cuda, ops.matmul, as_tensor(a, "float32"), as_tensor(b, "float32"))
    with np.errstate(invalid="ignore"):
        expected = a.astype("float64") @ b
    np.testing.assert_allclose(got, expected, rtol=1e-6)


CONVOLUTIONS = {  # x, filter, strides, padding, dilation
    "channels of chunks": ((2, 9, 8, 16), (3, 3, 16, 24), 1, "same", 1),
    "strided": ((2, 9, 8, 8), (3, 3, 8, 10), 2, "same", 1),
    "strides beyond the filter": ((2, 10, 9, 8), (2, 2, 8, 16), 3, "valid", 1),
    "three axes": ((1, 5, 6, 7, 8), (3, 2, 3, 8, 8), 2, "same", 1),
    "dilated": ((1, 11, 12, 8), (3, 3, 8, 16), 1, "valid", 2),
    "odd channels": ((2, 8, 8, 3), (5, 5, 3, 7), 2, "same", 1),
    "groups": ((1, 7, 7, 32), (3, 3, 8, 24), 1, "same", 1),
    "depthwise": ((2, 7, 7, 6), (3, 3, 1, 12), 2, "same", 1),
    "pointwise": ((2, 5, 5, 24), (1, 1, 24, 40), 1, "valid", 1),
    "long sum": ((3, 20, 20, 4), (2, 2, 4, 5), 1, "valid", 1),
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", list(CONVOLUTIONS))
def test_convolutions(name, dtype, cuda):
    shape, filter_shape, strides, padding, dilation = CONVOLUTIONS[name]
    rng = np.random.default_rng(0)  # small integers: exact in every dtype
    x, w = (
        as_tensor(rng.integers(-2, 3, s).astype("float32"), dtype) for s in (shape, filter_shape)
    )

    def f(x, w):
        with backend.GradientTape() as tape:
            tape.watch(x)
            tape.watch(w)
            y = ops.conv(x, w, strides, padding, dilation_rate=dilation)
            loss = ops.sum(y[..., ::3] - y[..., 1:2])
        return [y, *tape.gradient(loss, [x, w])]

    for got, expected in zip(on(cuda, f, x, w), on("cpu:0", f, x, w), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_order_of_threads_and_bits(dtype, cuda, monkeypatch):
    """A missing barrier shows when the last thread runs first."""
    x, y = as_tensor(normal(70, 1030), dtype), as_tensor(normal(1030, 66, seed=1), dtype)
    results = []
    for order in ("", "reverse", ""):
        monkeypatch.setenv("HORNBEAM_EMULATE_ORDER", order)
        results.append(on(cuda, ops.matmul, x, y))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_without_tensor_cores(cuda, monkeypatch):
    if "emulated" not in backend._core.device_description(cuda):
        pytest.skip("the device is what it is")
    monkeypatch.setenv("HORNBEAM_EMULATE_ARCHITECTURE", "75")
    for dtype in ("float32", "bfloat16"):
        check_product(cuda, normal(65, 40), normal(40, 70, seed=1), dtype)
    x, w = (as_tensor(v, "float32") for v in (normal(2, 6, 6, 3), normal(3, 3, 3, 5, seed=1)))
    np.testing.assert_allclose(
        *(on(d, lambda x, w: ops.conv(x, w), x, w) for d in (cuda, "cpu:0")), rtol=1e-4, atol=1e-4
    )


HOPPER = [
    # columns in tiles of 128, sums in parts; in tiles of 256; edges of tiles and of k; every layout
    (136, 128, 65600, (False, True)),
    (1544, 1416, 72, (False, False)),
    (1544, 1416, 64, (True, False)),
    (1032, 3976, 72, (False, True)),
    (1036, 3976, 72, (True, False)),  # lines of `a` are no multiples of 16 bytes: not by TMA
]


@pytest.mark.parametrize(("m", "n", "k", "transposed"), HOPPER)
def test_hopper(m, n, k, transposed, cuda, hopper):
    dtype = "float16" if k == 64 else "bfloat16"
    check_product(cuda, normal(m, k), normal(k, n, seed=1), dtype, transposed)


def test_hopper_batches(cuda, hopper):
    check_product(cuda, normal(1, 72, 40), normal(130, 40, 72, seed=1), "bfloat16")
    check_product(cuda, normal(130, 72, 40), normal(130, 40, 72, seed=1), "bfloat16")


def test_hopper_tf32(cuda, hopper, precision, monkeypatch):
    """wgmma cuts the lower bits off, mma.sync is given rounded numbers: so it shows which ran."""
    precision("medium")
    x, y = np.full((130, 72, 40), 1 + 1.5 * 2.0**-11, "float32"), np.ones((130, 72, 40), "float32")

    def f(x, y):
        return ops.matmul(x, ops.swapaxes(y, -1, -2))

    tensors = [as_tensor(v, "float32") for v in (x, y)]
    np.testing.assert_array_equal(on(cuda, f, *tensors), 40)
    if "emulated" in backend._core.device_description(cuda):
        monkeypatch.setenv("HORNBEAM_EMULATE_ARCHITECTURE", "80")
        np.testing.assert_allclose(on(cuda, f, *tensors), 40 * (1 + 2.0**-10), rtol=1e-5)


def test_hopper_order_of_threads(cuda, hopper, monkeypatch):
    x, y = normal(130, 72, 200), normal(130, 200, 72, seed=1)
    tensors = [as_tensor(v, "bfloat16") for v in (x, y)]
    results = []
    for order in ("", "reverse"):
        monkeypatch.setenv("HORNBEAM_EMULATE_ORDER", order)
        results.append(on(cuda, ops.matmul, *tensors))
    np.testing.assert_array_equal(*results)


def machine_code(source, architecture, folder):
    """SASS of a kernel file; skips, saying so, where CUDA's tools are missing."""
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    dump = shutil.which("cuobjdump") or str(pathlib.Path(nvcc).parent / "cuobjdump")
    if not (pathlib.Path(nvcc).exists() and pathlib.Path(dump).exists()):
        pytest.skip("needs nvcc and cuobjdump")
    out = folder / "kernel.cubin"
    command = [nvcc, "-std=c++20", "-O3", f"-arch={architecture}", f"-I{CSRC}", "--cubin",
               "--diag-suppress=186", str(CSRC / "ops" / source), "-o", str(out)]  # fmt: skip
    subprocess.run(command, check=True)
    return subprocess.run(
        [dump, "-sass", str(out)], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize(
    ("source", "architecture", "instructions"),
    [
        ("gemm_mma.cu", "sm_80", ("HMMA.16816.F32", "LDGSTS", "LDSM")),
        ("gemm_mma_bytes.cu", "sm_80", ("IMMA.16832.S8.S8", "LDSM.16.MT88", "STG.E.128")),
        ("softmax.cu", "sm_80", ("LDG.E.128", "STG.E.128")),
        ("batch_norm.cu", "sm_80", ("LDG.E.128", "STG.E.128")),
        ("gemm_mma_float.cu", "sm_80", ("HMMA.16816.F32.BF16", "HMMA.1688.F32.TF32", "DMMA")),
        (
            "gemm_hopper.cu",
            "sm_90a",
            (
                "HGMMA.64x256x16.F32.BF16",
                "HGMMA.64x256x8.F32.TF32",
                "UTMALDG.3D",
                "SYNCS",
                "USETMAXREG",
            ),
        ),
    ],
)
def test_machine_code(source, architecture, instructions, tmp_path):
    code = machine_code(source, architecture, tmp_path)
    for instruction in instructions:
        assert instruction in code
