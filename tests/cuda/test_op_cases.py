"""Every OpCase on the emulated device: the CUDA kernels where there are any, else their fallback."""

import re

import numpy as np
import pytest
from support.op_case import all_cases

import hornbeam
from hornbeam import backend
from hornbeam.backend import _core

from .test_kernels import differentiable

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


def kernels_of(cuda, function, inputs):
    """Names of the CUDA kernels in the program of a function."""
    with hornbeam.device(cuda):
        text = backend.function(function).concrete(*inputs).program.describe()
    return set(re.findall(r" = (\w+)/cuda", text))


#: What other files here run by name.
ELSEWHERE = {
    *(f"{k}_sequence{part}" for k in ("simple", "lstm", "gru", "gru_before") for part in ("", "_grad")),
    *(f"{kind}softmax_crossentropy_both" for kind in ("", "sparse_")),
    "batch_norm_grad", "batch_norm_train", "dropout", "max_pool_pick", "nonzero_rows", "random_bits",
    "random_integers", "random_normal", "random_truncated_normal", "random_uniform", "segment_order",
    "segment_reduce",
}  # fmt: skip


def test_every_kernel_has_a_case(cuda):
    """So that these tests say something about it."""
    run = set()
    for case in all_cases():
        if not case.dtypes:
            continue
        dtype = case.dtypes[0]
        tensors = case.tensors(case.arrays(dtype), dtype)
        for attrs in case.grid():
            run |= kernels_of(cuda, lambda *xs, c=case, a=attrs: c.op(*xs, **a), tensors)
        if case.differentiable and "float32" in case.dtypes:
            gradients, arrays = differentiable(case)
            attrs = next(case.grid())
            run |= kernels_of(cuda, lambda *xs, g=gradients, a=attrs: g(a, *xs), arrays)
    registered = {name for name, _, level in _core.kernels() if level == "cuda"}
    assert registered - run - ELSEWHERE == set()


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
