"""Summaries and progress lines read as Keras's do."""

import re

import numpy as np
import pytest

import hornbeam as keras
from tests.support import parity

CASES = {c["name"] + str(c.get("arguments", "")): c for c in parity.cases("texts")}
MODELS = {c["name"].split("/")[1]: c["config"] for c in CASES.values() if "config" in c}
SUMMARIES = [c for c in CASES.values() if c["name"].split("/")[-1] in MODELS and "text" in c]


@pytest.mark.parametrize("case", SUMMARIES, ids=lambda c: f"{c['name']}{c['arguments'] or ''}")
def test_summary(case):
    text = parity.dumps(MODELS[case["name"].split("/")[1]])
    model = keras.models.model_from_json(text)
    lines = []
    model.summary(print_fn=lambda text, line_break=True: lines.append(text), **case["arguments"])
    assert "\n".join(lines).rstrip() == case["text"].rstrip()


def without_times(text):
    return re.sub(r"\b\d+(\.\d+)?(s|ms|us|min)\b", "<time>", text)


def test_progress(capsys):
    model = keras.models.model_from_json(parity.dumps(MODELS["dense"]))
    for w in model.weights:
        w.assign(np.zeros(w.shape))
    model.compile("sgd", "mse", metrics=["mae"])
    model.layers[-1].trainable = False
    x, y = np.ones((10, 4), "float32"), np.ones((10, 3), "float32")
    data = {"verbose": 2, "batch_size": 4}
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(x, y, epochs=2, validation_data=(x, y), shuffle=False, **data)
    assert without_times(capsys.readouterr().out) == CASES["progress/fit"]["text"]
    model.evaluate(x, y, **data)
    assert without_times(capsys.readouterr().out) == CASES["progress/evaluate"]["text"]
    model.predict(x, **data)
    assert without_times(capsys.readouterr().out) == CASES["progress/predict"]["text"]


@pytest.mark.parametrize("name", ["progress/large_value", "progress/small_value"])
def test_progress_of_a_value(name, capsys):
    case = CASES[name]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", lambda y, p: keras.ops.sum(p - p, -1) + case["loss"])
    model.fit(np.ones((10, 4), "float32"), np.ones((10, 3), "float32"), verbose=2)
    assert without_times(capsys.readouterr().out) == case["text"]
