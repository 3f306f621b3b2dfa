"""The attention kernels on CUDA against the CPU in float64: sizes, masks, dtypes."""

import numpy as np
import pytest
from support.attention_cases import KINDS, SIZES, operands, with_gradients

import hornbeam
from hornbeam import backend, ops

from .test_op_cases import kernels_of


def attend(arrays, arguments, device, dtype):
    """(y, dQ, dK, dV) as float64."""
    arguments = dict(arguments)
    with hornbeam.device(device):
        if arguments["bias"] is not None:
            arguments["bias"] = ops.cast(arguments["bias"], dtype)
        tensors = [backend.convert_to_tensor(x, dtype) for x in arrays]
        out = with_gradients(lambda *x: ops.dot_product_attention(*x, **arguments), *tensors)
    return [x.astype("float64") for x in out]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [*SIZES, (1, 70, 70, 3, 1, 128, 100)], ids=str)
def test_values(sizes, kind, cuda):
    arrays, arguments = operands(sizes, kind)
    expected = attend(arrays, arguments, "cpu:0", "float64")
    for got, e in zip(attend(arrays, arguments, cuda, "float32"), expected, strict=True):
        np.testing.assert_allclose(got, e, rtol=2e-5, atol=2e-5 * max(1, np.abs(e).max()))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [SIZES[0], *SIZES[2:6], (1, 70, 130, 4, 2, 128, 72)], ids=str)
def test_values_of_16_bits(sizes, kind, dtype, cuda):
    arrays, arguments = operands(sizes, kind)
    arrays = [np.asarray(ops.cast(ops.cast(x, dtype), "float32")) for x in arrays]
    expected = attend(arrays, arguments, "cpu:0", "float64")
    tolerance = {"float16": 4e-3, "bfloat16": 3e-2}[dtype]
    for got, e in zip(attend(arrays, arguments, cuda, dtype), expected, strict=True):
        np.testing.assert_allclose(got, e, rtol=tolerance, atol=tolerance * max(1, np.abs(e).max()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_kernel_without_conversions(dtype, cuda):
    q = backend.convert_to_tensor(np.ones((1, 4, 2, 8)), dtype)
    assert kernels_of(cuda, lambda q: ops.dot_product_attention(q, q, q), [q]) == {"attention"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_order_of_threads_does_not_matter(dtype, cuda, monkeypatch):
    arrays, arguments = operands((1, 130, 70, 2, 1, 16, 24), "blind")
    expected = attend(arrays, arguments, cuda, dtype)
    monkeypatch.setenv("HORNBEAM_EMULATE_ORDER", "reverse")
    for a, b in zip(attend(arrays, arguments, cuda, dtype), expected, strict=True):
        np.testing.assert_array_equal(a, b)
