"""What only a GPU can show (marker gpu): large shapes, the same bits twice, memory over many steps.

On a machine with a GPU every test of this folder has the marker: `pytest -m gpu tests/cuda`.
"""

import numpy as np
import pytest
from ops import test_matmul_conv_kernels as products
from support import kernels

import hornbeam
from hornbeam import backend, layers, ops
from hornbeam.backend import _core, devices

from .test_epilogues import CONVOLUTIONS
from .test_kernels import on
from .test_models import DATA, train

pytestmark = pytest.mark.gpu
RNG = np.random.default_rng(31)


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    monkeypatch.setattr(devices, "in_use", False)
    if not backend.list_devices("cuda"):
        pytest.skip("no NVIDIA GPU here: " + (devices._load_cuda() or "none was found"))
    if "emulated" in _core.device_description("cuda:0"):
        pytest.skip("no NVIDIA GPU here: cuda:0 is emulated")
    return "cuda:0"


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("build", list(DATA), ids=lambda f: f.__name__)
def test_training_gives_the_same_bits_twice(build, policy, gpu):
    before = hornbeam.config.dtype_policy()
    hornbeam.config.set_dtype_policy(policy)
    try:
        (loss, y), (again, z) = train(build, gpu), train(build, gpu)
    finally:
        hornbeam.config.set_dtype_policy(before)
    assert loss == again and np.isfinite(loss).all()
    np.testing.assert_array_equal(np.asarray(y), np.asarray(z))


def test_memory_is_flat_over_a_thousand_steps(gpu):
    x, y = RNG.normal(size=(32, 64)).astype("float32"), RNG.integers(0, 10, 32)
    with hornbeam.device(gpu):
        model = hornbeam.Sequential([layers.Dense(128, activation="relu"), layers.Dense(10)])
        loss = hornbeam.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        for _ in range(10):
            model.train_on_batch(x, y)
        start = backend.memory_stats(gpu)
        for _ in range(1000):
            model.train_on_batch(x, y)
        end = backend.memory_stats(gpu)
    assert end["in_use"] <= start["in_use"] and end["reserved"] <= start["reserved"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions_by_cudnn(case, dtype, gpu, monkeypatch):
    monkeypatch.setenv("HORNBEAM_CUDA_PRODUCTS", "cudnn")
    try:
        with kernels.on(gpu):
            first, again = (products.check_conv(case, dtype, twice=True) for _ in range(2))
    except RuntimeError as error:
        if "cuDNN was not found" not in str(error):
            raise
        pytest.skip(str(error))
    for x, y in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("m, k, n", [(2048, 2048, 2048), (4093, 1027, 515), (128, 50257, 768)])
def test_large_products(m, k, n, dtype, gpu):
    a, b = RNG.normal(size=(m, k)), RNG.normal(size=(k, n))
    a, b = (backend.convert_to_tensor(v, dtype) for v in (a, b))
    expected = np.asarray(ops.cast(a, "float64")) @ np.asarray(ops.cast(b, "float64"))
    got = on(gpu, lambda a, b: ops.cast(ops.matmul(a, b), "float64"), a, b)
    rounding = {"float32": 0, "float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    sums = 2.0**-22 * np.sqrt(k)  # of random signs
    np.testing.assert_allclose(
        got, expected, rtol=rounding, atol=(8 * sums + rounding * 1e-2) * np.sqrt(k)
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_large_attention(dtype, causal, gpu):
    q, k, v, dy = (RNG.normal(size=(2, 2000, 4, 64)).astype("float32") for _ in range(4))

    def f(*arrays):
        q, k, v, dy = (ops.cast(x, dtype) for x in arrays)
        with backend.GradientTape() as tape:
            for x in (q, k, v):
                tape.watch(x)
            y = ops.dot_product_attention(q, k, v, is_causal=causal)
            total = ops.sum(ops.cast(y * dy, "float32"))
        return [ops.cast(x, "float32") for x in (y, *tape.gradient(total, [q, k, v]))]

    tolerance = 1e-4 if dtype == "float32" else 3e-2
    for a, b in zip(on(gpu, f, q, k, v, dy), on("cpu:0", f, q, k, v, dy), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def test_large_order_and_places(gpu):
    x = RNG.normal(size=3_000_017).astype("float32")
    at = RNG.integers(0, len(x), 100_000)

    def f(x, at):
        taken = ops.take(x, at)
        y = ops.scatter_update(x, ops.expand_dims(at, -1), taken + 1, reduction="add")
        return [ops.sort(x), ops.argsort(x), *ops.top_k(x, 100), ops.cumsum(ops.abs(x)), y]

    *exact, total, y = on(gpu, f, x, at)
    *same, total_cpu, y_cpu = on("cpu:0", f, x, at)
    for a, b in zip(exact, same, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(total, total_cpu, rtol=1e-6)
    np.testing.assert_array_equal(y, y_cpu)


def test_elements_beyond_32_bits(gpu):
    n = (1 << 31) + 5
    with hornbeam.device(gpu):
        x = ops.full((n,), 3, dtype="int8")
        y = ops.add(x, 1)
        assert int(y[-1]) == 4 and int(ops.sum(ops.cast(y[-7:], "int32"))) == 28
