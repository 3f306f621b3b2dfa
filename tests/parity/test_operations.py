"""hornbeam.ops gives what keras.ops gives."""

import numpy as np
import pytest
import recorded

ops = pytest.importorskip("hornbeam.ops")

# solving and inverting add up errors of the size of the condition number
LOOSE = {"inv", "det", "solve", "solve_triangular", "cholesky", "erfinv", "prod", "cumprod"}


@pytest.mark.parametrize("case", recorded.cases("operations"), ids=lambda case: case["name"])
def test_operation(case):
    if not hasattr(ops, case["op"]):
        pytest.skip(f"hornbeam.ops has no {case['op']}")
    out = getattr(ops, case["op"])(*case["arguments"], **case["kwargs"])
    rtol = 1e-4 if case["op"] in LOOSE else 1e-5
    recorded.compare(case["name"], out, case["outputs"], rtol=rtol, atol=2e-6)
    for got, expected in zip(recorded.leaves(out), case["outputs"], strict=True):
        if np.dtype(expected.dtype).itemsize == 4:  # JAX has no 64-bit integers to compare with
            assert got.dtype.kind == expected.dtype.kind
