"""hornbeam.ops gives what keras.ops gives."""

import numpy as np
import pytest

from hornbeam import ops
from tests.support import parity

CASES = parity.cases("operations")
# solving and inverting add up errors of the size of the condition number
LOOSE = {"inv", "det", "solve", "solve_triangular", "cholesky", "erfinv", "prod", "cumprod"}


def leaves(value):
    """The arrays of a result, as NumPy, in order."""
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [np.asarray(value)]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_op_gives_what_keras_gives(case):
    if not hasattr(ops, case["op"]):
        pytest.skip(f"hornbeam.ops has no {case['op']}")
    got = leaves(getattr(ops, case["op"])(*case["arguments"], **case["kwargs"]))
    assert len(got) == len(case["outputs"])
    rtol = 1e-4 if case["op"] in LOOSE else 1e-5
    for g, e in zip(got, case["outputs"], strict=True):
        assert g.shape == e.shape
        np.testing.assert_allclose(g, e, rtol=rtol, atol=2e-6)
        assert g.dtype.kind == e.dtype.kind  # JAX narrows 64-bit types, so no more than the kind
