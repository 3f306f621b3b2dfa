"""Whole runs of fit give Keras's history, weights, evaluation and predictions."""

import json

import numpy as np
import pytest
import recorded

hornbeam = pytest.importorskip("hornbeam")
pytest.importorskip("hornbeam.models.training")

CASES = recorded.cases("training")
# every step passes its rounding on to the next one
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}


def built(case):
    if "model" in case:
        model = hornbeam.models.model_from_json(json.dumps(case["model"]))
    else:
        x = case["x"]
        model = hornbeam.Sequential([hornbeam.Input(x.shape[1:], dtype=x.dtype.name)])
        for recipe in case["layers"]:
            model.add(recorded.construct(recipe, hornbeam))
    model.set_weights(case["weights"])
    model.compile(**recorded.construct(case["compile"], hornbeam))
    return model


@pytest.mark.parametrize("eagerly", [False, True], ids=["compiled", "eager"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_fit(case, eagerly):
    model = built(case)
    model.run_eagerly = eagerly
    fit = dict(case["fit"])
    if "class_weight" in fit:
        fit["class_weight"] = dict(fit["class_weight"])
    if "validation_data" in fit:
        fit["validation_data"] = tuple(fit["validation_data"])
    x, y = case["x"], case["y"]
    history = model.fit(x, y, shuffle=False, verbose=0, **fit)
    assert history.epoch == case["epoch"]
    assert history.history.keys() == case["history"].keys()
    for key, expected in case["history"].items():
        np.testing.assert_allclose(history.history[key], expected, err_msg=key, **TOLERANCE)
    recorded.compare("weights", model.get_weights(), case["final_weights"], **TOLERANCE)
    result = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    assert result.keys() == case["evaluate"].keys()
    for key, expected in case["evaluate"].items():
        np.testing.assert_allclose(result[key], expected, err_msg=key, **TOLERANCE)
    out = model.predict(x, batch_size=8, verbose=0)
    recorded.compare("predictions", out, case["predict"], **TOLERANCE)
