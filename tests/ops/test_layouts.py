"""Broadcast, empty, rank-0 and strided inputs."""

import numpy as np
import pytest
from support.op_case import Maker, parametrize

from hornbeam import ops

SHAPES = {
    1: [((),), ((0,),), ((3, 0, 2),), ((1,),), ((1, 1, 1),), ((70, 33),)],
    2: [((), ()), ((0, 3), (3,)), ((4, 1), (1, 5)), ((2, 3, 4), (4,)), ((), (7,)),
        ((2, 1, 3, 1), (5, 1, 2)), ((300, 7), (7,)), ((65, 40), (65, 1)), ((3, 5000), (5000,)),
        ((64, 3, 5), (64, 1, 5))],
    3: [((), (), ()), ((0,), (1,), ()), ((4, 1), (1, 5), (5,)), ((2, 3), (), (3,)),
        ((33, 1), (7,), (33, 7))],
}  # fmt: skip


@parametrize(lambda c: c.elementwise)
def test_shapes(case):
    dtype = case.dtypes[0]
    attrs = next(case.grid())
    for shapes in SHAPES[len(case.inputs)]:
        makers = [m.of_shape(s) for m, s in zip(case.inputs, shapes, strict=True)]
        tensors = case.tensors(case.arrays(dtype, makers), dtype, makers)
        case.check(case.op(*tensors, **attrs), case.expected(tensors, attrs), dtype)


def _strided(x):
    """Views with the values of `x` but other strides."""
    yield np.asfortranarray(x)
    if x.ndim:
        yield np.repeat(x, 2, axis=0)[::2]
        yield np.ascontiguousarray(x[::-1])[::-1]
        yield np.repeat(x, 3, axis=-1)[..., ::3]


@parametrize(lambda c: c.dtypes and all(isinstance(m, Maker) for m in c.inputs))
def test_strided_inputs(case):
    dtype = case.dtypes[0]
    if dtype == "bfloat16" or not case.inputs:
        pytest.skip("NumPy has no such arrays")
    arrays = case.arrays(dtype)
    attrs = next(case.grid())
    expected = case.expected(case.tensors(arrays, dtype), attrs)
    for strided in zip(*[_strided(a) for a in arrays], strict=False):
        case.check(case.op(*strided, **attrs), expected, dtype)


@pytest.mark.parametrize("shape", [(70_001, 5), (2, 40_000, 3)])
def test_transposing_columns_that_are_longer_than_a_task(shape):
    x = np.arange(np.prod(shape), dtype="int64").reshape(shape)
    np.testing.assert_array_equal(np.array(ops.swapaxes(x, -1, -2)), np.swapaxes(x, -1, -2))
