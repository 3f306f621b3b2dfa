"""What models print and how they describe themselves: summaries, configurations, progress lines."""

import contextlib
import io
import json
import re

import keras
import numpy as np


def dense():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, name="a_layer_with_quite_a_long_name_for_its_column"),
        ],
        name="small",
    )


def unbuilt():
    return keras.Sequential([keras.layers.Dense(2), keras.layers.Dense(1)], name="unbuilt")


def functional():
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    y = keras.layers.BatchNormalization()(x)
    x = keras.layers.Add()([x, y])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2, name="out")(x), name="residual")


def frozen():
    model = functional()
    model.layers[1].trainable = False
    return model


def nested():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="inner")
    both = keras.layers.Concatenate()([inner(left), inner(right)])
    return keras.Model([left, right], [keras.layers.Dense(1)(both), both], name="outer")


def recurrent():
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(100, 8, mask_zero=True),
            keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True)),
            keras.layers.TimeDistributed(keras.layers.Dense(2)),
            keras.layers.GRU(5),
        ],
        name="text",
    )


def large():
    return keras.Sequential([keras.Input((1000,)), keras.layers.Dense(2000)], name="large")


MODELS = (dense, unbuilt, functional, frozen, nested, recurrent, large)
NARROW = (dense, nested)
EXPANDED = (dense, frozen, nested, recurrent)
CONFIGURED = (dense, unbuilt, functional, nested, recurrent)


def summary(model, **kwargs):
    lines = []
    model.summary(print_fn=lambda text, line_break=True: lines.append(text), **kwargs)
    return "\n".join(lines)


def without_times(text):
    """Durations are the machine's, not the format's: each becomes `<time>`."""
    return re.sub(r"\b\d+(\.\d+)?(s|ms|us|min)\b", "<time>", text)


def printed(action):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        action()
    return without_times(out.getvalue())


def cases():
    for build in MODELS:
        arguments = [{}]
        if build in NARROW:
            arguments.append({"line_length": 60})
        if build in EXPANDED:
            arguments.append({"expand_nested": True, "show_trainable": True})
        for kwargs in arguments:
            keras.utils.clear_session()
            text = summary(build(), **kwargs)
            yield {"name": f"summary/{build.__name__}", "arguments": kwargs, "text": text}
    for build in CONFIGURED:
        keras.utils.clear_session()
        config = json.loads(build().to_json())
        yield {"name": f"to_json/{build.__name__}", "config": config}

    keras.utils.clear_session()
    model = dense()
    model.compile("adam", "mse", metrics=["mae"])
    yield {"name": "summary/compiled", "arguments": {}, "text": summary(model)}
    x, y = np.ones((10, 4), "float32"), np.ones((10, 3), "float32")
    for w in model.weights:
        w.assign(np.zeros(w.shape))
    model.layers[-1].trainable = False
    model.compile("sgd", "mse", metrics=["mae"])
    data = {"verbose": 2, "batch_size": 4}
    text = printed(lambda: model.fit(x, y, epochs=2, validation_data=(x, y), shuffle=False, **data))
    yield {"name": "progress/fit", "text": text}
    yield {"name": "progress/evaluate", "text": printed(lambda: model.evaluate(x, y, **data))}
    yield {"name": "progress/predict", "text": printed(lambda: model.predict(x, **data))}
    for name, value in {"large_value": 12345.678, "small_value": 0.00012345}.items():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile("sgd", lambda y, p, value=value: keras.ops.sum(p - p, -1) + value)
        text = printed(lambda model=model: model.fit(x, y, verbose=2))
        yield {"name": f"progress/{name}", "loss": value, "text": text}
