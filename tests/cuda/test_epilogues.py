"""What products and batch normalisation do on their way to memory, by the checks of the CPU's."""

import numpy as np
import pytest
from ops import test_batch_norm_kernels as batch_norms
from ops import test_matmul_conv_kernels as products
from support import kernels

import hornbeam
from hornbeam import backend, ops
from hornbeam.backend import passes

# small and large tiles, parts of sums, batches, rows that are not aligned
MATMULS = [
    ((), (), 1, 7, 5), ((), (), 13, 33, 17), ((), (), 40, 64, 24), ((), (), 5, 6, 1100),
    ((), (), 1160, 1096, 24), ((2, 3), (1, 3), 9, 10, 6), ((), (), 4, 3, 0),
]  # fmt: skip
# n, spatial, c, o, kernel, strides, padding, dilation, groups
CONVOLUTIONS = [
    (2, (11,), 16, 33, (4,), (2,), (1, 2), (1,), 1),
    (2, (9, 8), 16, 24, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (2, (7, 6), 8, 10, (3, 3), (2, 2), (1, 0, 1, 0), (1, 1), 1),
    (1, (6, 6), 5, 4, (2, 2), (3, 3), (0, 0, 0, 0), (1, 1), 1),
    (1, (6, 7), 32, 24, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    (2, (5, 6), 6, 12, (3, 3), (2, 1), (1, 1, 1, 1), (1, 1), 6),
    (3, (16, 16), 72, 5, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
]


@pytest.mark.parametrize("architecture", ["80", "75"])
@pytest.mark.parametrize("dtype", products.FLOATS)
@pytest.mark.parametrize("case", MATMULS, ids=str)
def test_matmul(case, dtype, architecture, cuda, monkeypatch):
    if architecture == "75" and (
        case[2] > 1000 or "emulated" not in backend._core.device_description(cuda)
    ):
        pytest.skip("multiply-adds have one tile")
    if case[2] > 1000 and dtype not in ("bfloat16", "float32"):
        pytest.skip("large tiles of the other dtypes are the same or missing")
    monkeypatch.setenv("HORNBEAM_EMULATE_ARCHITECTURE", architecture)
    with kernels.on(cuda):
        products.check_matmul(case, dtype, (0, case[3] % 2), "relu")


@pytest.mark.parametrize("architecture", ["80", "75"])
@pytest.mark.parametrize("dtype", products.FLOATS)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions(case, dtype, architecture, cuda, monkeypatch):
    if architecture == "75" and "emulated" not in backend._core.device_description(cuda):
        pytest.skip("the device is what it is")
    monkeypatch.setenv("HORNBEAM_EMULATE_ARCHITECTURE", architecture)
    with kernels.on(cuda):
        products.check_conv(case, dtype)


@pytest.mark.parametrize("names", products.EPILOGUES)
def test_hopper(names, cuda, monkeypatch):
    if "emulated" in backend._core.device_description(cuda):
        monkeypatch.setenv("HORNBEAM_EMULATE_ARCHITECTURE", "90")
    rng = np.random.default_rng(0)
    m, n, k = 1544, 1416, 64
    a, b = (products.normal(rng, s, "bfloat16") for s in ((m, k), (k, n)))
    x, y = (products.values(v, "bfloat16") for v in (a, b))
    more, attrs, want, size = products.with_epilogue(
        rng, x @ y, np.abs(x) @ np.abs(y), "bfloat16", names, True
    )
    with kernels.on(cuda):
        got = products.run_kernel("matmul", [a, b, *more], want.shape, "bfloat16", **attrs)
    products.assert_close(got, want, size, "bfloat16", k)


# whole and single numbers of 16 bytes; more columns than a block has; one and many chunks
NORMS = [(1, 5), (9, 40, 5), (7, 33), (13, 64), (4099, 16), (300, 24), (40, 2100)]


@pytest.mark.parametrize("shape", NORMS, ids=str)
@pytest.mark.parametrize(("dtype", "kind"), batch_norms.DTYPES)
def test_batch_norm(shape, dtype, kind, cuda):
    with kernels.on(cuda):
        for residual, relu in [(False, False), (True, True), (False, True)]:
            batch_norms.check(shape, dtype, kind, residual, relu)


def test_variance_beside_a_large_mean(cuda):
    with kernels.on(cuda):
        batch_norms.test_variance_beside_a_large_mean()


def test_order_of_threads_in_batch_norm(cuda, monkeypatch):
    results = []
    for order in ("", "reverse"):
        monkeypatch.setenv("HORNBEAM_EMULATE_ORDER", order)
        with kernels.on(cuda):
            results.append(batch_norms.check((700, 40), "bfloat16", "float32", True, True))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


# of (by k, not by k) each; edges; parts of sums; large tiles; not aligned
BYTES = [
    ((), (), 1, 7, 5), ((), (), 70, 90, 130), ((), (), 40, 64, 64), ((), (), 5, 6, 1100),
    ((3,), (), 9, 16, 33), ((2, 3), (1, 3), 9, 10, 6), ((), (), 4, 3, 0),
]  # fmt: skip


@pytest.mark.parametrize("architecture", ["80", "75"])
@pytest.mark.parametrize("case", BYTES, ids=str)
def test_products_of_bytes(case, architecture, cuda, monkeypatch):
    if architecture == "75" and "emulated" not in backend._core.device_description(cuda):
        pytest.skip("the device is what it is")
    monkeypatch.setenv("HORNBEAM_EMULATE_ARCHITECTURE", architecture)
    with kernels.on(cuda):
        for transposes in products.TRANSPOSES:
            for activation in (None, "relu"):
                products.check_matmul(case, "int8", transposes, activation)


@pytest.mark.parametrize("transposes", products.TRANSPOSES)
def test_large_tiles_of_bytes(transposes, cuda):
    with kernels.on(cuda):
        products.check_matmul(((), (), 1160, 1104, 48), "int8", transposes, None)


def test_extreme_bytes(cuda):
    with kernels.on(cuda):
        products.check_extreme_bytes(-128, 127)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_is_left_behind_products(dtype, cuda):
    """A block of a residual network: skip, ReLU and its gradient need no pass of their own."""
    arrays = normal(2, 6, 6, 8), normal(3, 3, 8, 8) * 0.2, normal(3, 3, 8, 8, seed=1) * 0.2
    tensors = [backend.convert_to_tensor(v, dtype) for v in arrays]

    def f(x, w1, w2):
        with backend.GradientTape() as tape:
            for v in (x, w1, w2):
                tape.watch(v)
            y = ops.relu(ops.conv(x, w1, padding="same"))
            z = ops.relu(ops.conv(y, w2, padding="same") + y)
            loss = ops.sum(z)
        return [z, *tape.gradient(loss, (x, w1, w2))]

    def run(device):
        with hornbeam.device(device):
            return [np.array(ops.cast(v, "float32")) for v in backend.function(f)(*tensors)]

    with hornbeam.device(cuda):
        graph = passes.optimize(backend.function(f).concrete(*tensors).graph)
    found = {(n.op.name, *n.attrs.get("epilogue", ())) for n in graph.nodes}
    assert {("conv", "residual"), ("conv_grad_input", "residual", "mask")} <= found
    tolerance = {"float32": 1e-5, "bfloat16": 3e-2}[dtype]
    for got, expected in zip(run(cuda), run("cpu:0"), strict=True):
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale)
