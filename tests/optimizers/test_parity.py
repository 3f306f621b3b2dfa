"""Optimizers and schedules against numbers recorded from real Keras."""

import numpy as np
import pytest

import hornbeam as keras
from tests.support import parity

SHARED, *CASES = parity.cases("optimizers")


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_trajectory(case, compiled):
    optimizer = parity.construct(case["optimizer"], keras)
    weights = [keras.Variable(w, name=n) for w, n in zip(SHARED["weights"], "ab", strict=True)]
    optimizer.build(weights)
    apply = keras.function(lambda gradients: optimizer.apply(gradients))
    for step, expected in zip(SHARED["gradients"], case["trajectory"], strict=True):
        gradients = [keras.ops.convert_to_tensor(g) for g in step]
        (apply if compiled else optimizer.apply)(gradients)
        for w, value in zip(weights, expected, strict=True):
            np.testing.assert_allclose(w.numpy(), value, rtol=2e-5, atol=2e-6)
    names = [v.path.split("/", 1)[1] for v in optimizer.variables]
    assert names == case["variable_names"]
    for mine, theirs in zip(optimizer.variables, case["variables"], strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=2e-5, atol=2e-6)
    config = optimizer.get_config()
    assert {k: v for k, v in config.items() if k not in ("learning_rate", "name")} == {
        k: v for k, v in case["config"].items() if k != "name"
    }
    if "finalized" in case:
        optimizer.finalize_variable_values(weights)
        for w, value in zip(weights, case["finalized"], strict=True):
            np.testing.assert_allclose(w.numpy(), value, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("case", parity.cases("schedules"), ids=lambda case: case["name"])
def test_schedule(case):
    schedule = parity.construct(case["schedule"], keras)
    values = [float(schedule(step)) for step in case["steps"]]
    np.testing.assert_allclose(values, case["values"], rtol=2e-5, atol=1e-7)
    assert schedule.get_config() == case["config"]
