"""Every op against its NumPy reference: in every dtype, eager and compiled."""

import pytest
from support.op_case import all_cases, parametrize

from hornbeam import backend

PAIRS = [(c, d) for c in all_cases() for d in c.dtypes]


@pytest.mark.parametrize(("case", "dtype"), PAIRS, ids=[f"{c.id}-{d}" for c, d in PAIRS])
def test_values(case, dtype):
    arrays = case.arrays(dtype)
    tensors = case.tensors(arrays, dtype)
    for attrs in case.grid():
        case.check(case.op(*tensors, **attrs), case.expected(tensors, attrs), dtype)


@parametrize(lambda c: c.dtypes)
def test_compiled(case):
    dtype = case.dtypes[0]
    tensors = case.tensors(case.arrays(dtype), dtype)
    for attrs in case.grid():
        got = backend.function(lambda *xs, a=attrs: case.op(*xs, **a))(*tensors)
        case.check(got, case.expected(tensors, attrs), dtype)
