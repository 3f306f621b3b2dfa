"""Every OpCase on the emulated device: the CUDA kernels where there are any, else their fallback."""

import re

import numpy as np
import pytest
from support.op_case import all_cases

import hornbeam
from hornbeam import backend
from hornbeam.backend import _core

PAIRS = [(c, d) for c in all_cases() for d in c.dtypes]


def compiled(case, attrs):
    return backend.function(lambda *xs: case.op(*xs, **attrs))


def without_subnormals(a):
    """They count as zero on the CPU; on a GPU that is left open."""
    if a.dtype.kind != "f":
        return a
    return np.where(np.abs(a) < np.finfo(a.dtype).tiny, 0, a).astype(a.dtype)


@pytest.mark.parametrize(("case", "dtype"), PAIRS, ids=[f"{c.id}-{d}" for c, d in PAIRS])
def test_values(case, dtype, cuda):
    arrays = backend.tree.map_structure(without_subnormals, case.arrays(dtype))
    tensors = case.tensors(arrays, dtype)
    for attrs in case.grid():
        with hornbeam.device(cuda):
            got = compiled(case, attrs)(*tensors)
        case.check(got, case.expected(tensors, attrs), dtype)


def labels(cuda, case, dtype):
    """What the programs of a case run on the device."""
    tensors = case.tensors(case.arrays(dtype), dtype)
    found = set()
    for attrs in case.grid():
        with hornbeam.device(cuda):
            text = compiled(case, attrs).concrete(*tensors).program.describe()
        for kernel, functions in re.findall(r" = (\w+)/cuda(?: \[([^]]*)\])?", text):
            found.add(kernel)
            found.update(f"elementwise {f}" for f in functions.split())
    return found


def test_every_kernel_has_a_case(cuda):
    """So that the test above says something about it."""
    run = set()
    for case in all_cases():
        if case.dtypes:
            run |= labels(cuda, case, case.dtypes[0])
    registered = {name for name, _, level in _core.kernels() if level == "cuda"}
    elsewhere = {name for name in registered if name.endswith("_grad")}  # test_kernels.py
    elsewhere |= {"dropout", "random_bits", "random_integers", "random_uniform"}
    assert not registered - run - elsewhere


BOTH_ORDERS = ("matmul", "softmax", "sum", "max", "transpose", "sparse_categorical_crossentropy")


@pytest.mark.parametrize("name", BOTH_ORDERS)
def test_the_order_of_threads_does_not_matter(name, cuda, monkeypatch):
    """A missing barrier shows when the last thread runs first."""
    cases = [c for c in all_cases() if c.name == name]
    assert cases
    for case in cases:
        tensors = case.tensors(case.arrays("float32"), "float32")
        for attrs in case.grid():
            results = []
            for order in ("", "reverse"):
                monkeypatch.setenv("HORNBEAM_EMULATE_ORDER", order)
                with hornbeam.device(cuda):
                    results.append(np.array(compiled(case, attrs)(*tensors)))
            np.testing.assert_array_equal(*results)
