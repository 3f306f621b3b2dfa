"""Optimizers take Keras's steps, and schedules have its values."""

import numpy as np
import pytest
import recorded

hornbeam = pytest.importorskip("hornbeam")
pytest.importorskip("hornbeam.optimizers")

SHARED, *CASES = recorded.cases("optimizers")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_steps(case):
    optimizer = recorded.construct(case["optimizer"], hornbeam)
    pairs = zip(SHARED["weights"], "ab", strict=True)
    weights = [hornbeam.Variable(w, name=name) for w, name in pairs]
    optimizer.build(weights)
    for gradients, expected in zip(SHARED["gradients"], case["trajectory"], strict=True):
        optimizer.apply([hornbeam.ops.convert_to_tensor(g) for g in gradients])
        recorded.compare("weights", [w.numpy() for w in weights], expected)
    names = [v.path.split("/", 1)[1] for v in optimizer.variables]
    assert names == case["variable_names"]
    recorded.compare("state", [v.numpy() for v in optimizer.variables], case["variables"])
    config = {k: v for k, v in optimizer.get_config().items() if k != "learning_rate"}
    assert config.keys() == case["config"].keys()
    assert {k: v for k, v in config.items() if k != "name"} == {
        k: v for k, v in case["config"].items() if k != "name"
    }
    if "finalized" in case:
        optimizer.finalize_variable_values(weights)
        recorded.compare("finalized", [w.numpy() for w in weights], case["finalized"])


@pytest.mark.parametrize("case", recorded.cases("schedules"), ids=lambda case: case["name"])
def test_schedule(case):
    schedule = recorded.construct(case["schedule"], hornbeam)
    values = [np.asarray(schedule(step), "float32") for step in case["steps"]]
    np.testing.assert_allclose(values, case["values"], rtol=1e-5, atol=1e-7)
    assert schedule.get_config() == case["config"]
