"""Losses give Keras's values for every reduction, and its gradients."""

import numpy as np
import pytest
import recorded

hornbeam = pytest.importorskip("hornbeam")
pytest.importorskip("hornbeam.losses")

CASES = recorded.cases("losses")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_value(case):
    loss = recorded.construct(case["loss"], hornbeam)
    value = loss(case["y_true"], case["y_pred"], sample_weight=case["sample_weight"])
    recorded.compare("value", value, case["value"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_gradient(case):
    loss = recorded.construct(case["loss"], hornbeam)
    y_pred = hornbeam.ops.convert_to_tensor(case["y_pred"])
    with hornbeam.GradientTape() as tape:
        tape.watch(y_pred)
        value = loss(case["y_true"], y_pred, sample_weight=case["sample_weight"])
        total = hornbeam.ops.sum(value)
    gradient = np.asarray(tape.gradient(total, y_pred))
    recorded.compare("gradient", gradient, case["gradient"], rtol=2e-5, atol=1e-6)
