"""Losses against numbers recorded from real Keras."""

import numpy as np
import pytest

import hornbeam as keras
from tests.support import parity


@pytest.mark.parametrize("case", parity.cases("losses"), ids=lambda case: case["name"])
def test_value_and_gradient(case):
    loss = parity.construct(case["loss"], keras)
    p = keras.Variable(case["y_pred"])
    with keras.GradientTape() as tape:
        value = loss(case["y_true"], p.value, sample_weight=case["sample_weight"])
        total = keras.ops.sum(value)
    np.testing.assert_allclose(value.numpy(), case["value"], rtol=2e-5, atol=2e-6)
    gradient = np.asarray(tape.gradient(total, p))
    np.testing.assert_allclose(gradient, case["gradient"], rtol=1e-4, atol=1e-5)
