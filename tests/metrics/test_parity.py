"""Metrics against numbers recorded from real Keras."""

import numpy as np
import pytest

import hornbeam as keras
from tests.support import parity


@pytest.mark.parametrize("case", parity.cases("metrics"), ids=lambda case: case["name"])
def test_results(case):
    metric = parity.construct(case["metric"], keras)
    for update, result in zip(case["updates"], case["results"], strict=True):
        metric.update_state(*update["arguments"], sample_weight=update["sample_weight"])
        np.testing.assert_allclose(metric.result().numpy(), result, rtol=2e-5, atol=1e-6)
    if case["variables"] is not None:
        for mine, theirs in zip(metric.variables, case["variables"], strict=True):
            np.testing.assert_allclose(mine.numpy(), theirs, rtol=2e-5, atol=1e-6)
