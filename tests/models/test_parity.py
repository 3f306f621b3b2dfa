"""Whole runs of `fit` against numbers recorded from real Keras."""

import copy

import numpy as np
import pytest

import hornbeam as keras
from tests.support import parity

CASES = parity.cases("training")
# A bias in front of a batch normalisation has no gradient but rounding errors, which Adam scales
# up to full steps: it and the moving mean that follows it are noise.
NOISE = {"convnet": (1, 4)}


def build(case):
    if "model" in case:
        return keras.models.model_from_json(parity.dumps(case["model"]))
    x = case["x"]
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype.name)])
    for recipe in case["layers"]:
        model.add(parity.construct(recipe, keras))
    return model


def fit_arguments(case):
    fit = dict(case["fit"])
    if "class_weight" in fit:
        fit["class_weight"] = dict(fit["class_weight"])
    if "validation_data" in fit:
        fit["validation_data"] = tuple(fit["validation_data"])
    return fit


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_fit_gives_what_keras_gives(case):
    model = build(case)
    model.set_weights(case["weights"])
    model.compile(**parity.construct(copy.deepcopy(case["compile"]), keras))
    history = model.fit(case["x"], case["y"], shuffle=False, verbose=0, **fit_arguments(case))
    close = {"rtol": 2e-4, "atol": 2e-5}
    assert history.epoch == case["epoch"]
    assert list(history.history) == list(case["history"])
    for name, values in case["history"].items():
        np.testing.assert_allclose(history.history[name], values, err_msg=name, **close)
    pairs = zip(model.get_weights(), case["final_weights"], strict=True)
    for i, (mine, theirs) in enumerate(pairs):
        if i not in NOISE.get(case["name"], ()):
            np.testing.assert_allclose(mine, theirs, rtol=5e-4, atol=1e-4)
    if case["name"] in NOISE:  # inference sees the bias before the moving mean has followed it
        close = {"rtol": 2e-3, "atol": 2e-4}
    scores = model.evaluate(case["x"], case["y"], batch_size=8, verbose=0, return_dict=True)
    assert sorted(scores) == sorted(case["evaluate"])
    for name, value in case["evaluate"].items():
        np.testing.assert_allclose(scores[name], value, err_msg=name, **close)
    assert model.metrics_names == case["metrics_names"]
    outputs = model.predict(case["x"], batch_size=8, verbose=0)
    theirs = case["predict"]
    if not isinstance(theirs, dict):
        outputs, theirs = {"": outputs}, {"": theirs}
    for name, value in theirs.items():
        np.testing.assert_allclose(outputs[name], value, **close)
