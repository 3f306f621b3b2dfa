"""Metrics give Keras's results after each update."""

import numpy as np
import pytest
import recorded

hornbeam = pytest.importorskip("hornbeam")
pytest.importorskip("hornbeam.metrics")


@pytest.mark.parametrize("case", recorded.cases("metrics"), ids=lambda case: case["name"])
def test_results(case):
    if not hasattr(hornbeam.metrics, case["metric"]["class"].split(".")[1]):
        pytest.skip(f"hornbeam has no {case['metric']['class']}")
    metric = recorded.construct(case["metric"], hornbeam)
    for again in range(2):
        for update, expected in zip(case["updates"], case["results"], strict=True):
            metric.update_state(*update["arguments"], sample_weight=update["sample_weight"])
            recorded.compare("result", np.asarray(metric.result()), expected)
        if case["variables"] is not None:
            recorded.compare("variables", [v.numpy() for v in metric.variables], case["variables"])
        if not again:
            metric.reset_state()
