"""Whole runs of `fit`: history, final weights, `evaluate`, `predict`, from fixed weights."""

import json

import keras
import numpy as np
import recorded

from recording import store


def L(name, **kwargs):
    return {"class": f"layers.{name}", "kwargs": kwargs}


def O(name, **kwargs):  # noqa: E743
    return {"class": f"optimizers.{name}", "kwargs": kwargs}


def mlp(units=3, activation="softmax", **kwargs):
    return [
        L("Dense", units=6, activation="tanh", **kwargs),
        L("Dense", units=units, activation=activation),
    ]


def specs():
    """(name, layer recipes, x, y, compile arguments, fit arguments)"""
    r = store.rng("training")
    x, y = store.normal(r, 22, 5), r.integers(0, 3, 22).astype("int32")
    usual = {
        "optimizer": O("Adam", learning_rate=0.02),
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
    }
    fit = {"batch_size": 6, "epochs": 3}
    split = {"validation_split": 0.3, **fit}
    yield "adam", mlp(), x, y, usual, fit
    yield "validation_split", mlp(), x, y, usual, split
    pairs = [[0, 1.0], [1, 0.25], [2, 4.0]]
    yield "class_weight", mlp(), x, y, usual, {"class_weight": pairs, **split}
    weight = store.coarse(r.random(22) + 0.1)
    yield "sample_weight", mlp(), x, y, usual, {"sample_weight": weight, **split}
    both = {"weighted_metrics": ["accuracy"], **usual}
    yield "weighted_metrics", mlp(), x, y, both, {"sample_weight": weight, **split}
    other = store.normal(r, 7, 5), r.integers(0, 3, 7).astype("int32"), store.coarse(r.random(7))
    yield "validation_data", mlp(), x, y, usual, {"validation_data": list(other[:2]), **fit}
    yield "validation_data/weighted", mlp(), x, y, both, {"validation_data": list(other), **fit}
    yield "initial_epoch", mlp(), x, y, usual, {"batch_size": 6, "epochs": 3, "initial_epoch": 1}
    yield "validation_freq", mlp(), x, y, usual, {"validation_freq": 2, **split}
    penalty = {"class": "regularizers.L2", "kwargs": {"l2": 0.05}}
    yield "penalty", mlp(kernel_regularizer=penalty), x, y, usual, split
    activity = {"class": "regularizers.L1", "kwargs": {"l1": 0.01}}
    yield "activity_penalty", mlp(activity_regularizer=activity), x, y, usual, split
    clipped = {**usual, "optimizer": O("SGD", learning_rate=0.1, momentum=0.9, global_clipnorm=0.5)}
    yield "sgd", mlp(), x, y, clipped, split
    averaged = {
        **usual,
        "optimizer": O("RMSprop", learning_rate=0.02, use_ema=True, ema_momentum=0.8),
    }
    yield "rmsprop/ema", mlp(), x, y, averaged, fit
    gathered = {**usual, "optimizer": O("Adam", learning_rate=0.02, gradient_accumulation_steps=2)}
    yield "adam/accumulate", mlp(), x, y, gathered, fit

    target = store.normal(r, 22)
    regress = {"optimizer": O("Adam", learning_rate=0.05), "loss": "mse", "metrics": ["mae", "mse"]}
    yield "regression/rank_1_target", mlp(1, "linear"), x, target, regress, split
    huber = {"optimizer": "adam", "loss": {"class": "losses.Huber", "kwargs": {"delta": 0.5}}}
    yield "regression/huber", mlp(1, "linear"), x, target[:, None], huber, split
    yes = r.integers(0, 2, 22).astype("float32")
    auc = {"class": "metrics.AUC", "kwargs": {"num_thresholds": 20, "name": "auc"}}
    binary = {
        "optimizer": O("Adam", learning_rate=0.05),
        "loss": "binary_crossentropy",
        "metrics": ["accuracy", auc],
    }
    yield "binary", mlp(1, "sigmoid"), x, yes, binary, split
    hot = np.eye(3, dtype="float32")[y]
    categorical = {
        "optimizer": "adam",
        "loss": {
            "class": "losses.CategoricalCrossentropy",
            "kwargs": {"from_logits": True, "label_smoothing": 0.1},
        },
        "metrics": ["accuracy"],
    }
    yield "categorical", mlp(3, "linear"), x, hot, categorical, {"class_weight": pairs, **split}

    images = store.normal(r, 14, 6, 6, 1)
    kinds = r.integers(0, 3, 14).astype("int32")
    conv = [
        # a bias before a normalisation has a gradient of nought but rounding, which Adam blows up
        L("Conv2D", filters=3, kernel_size=3, padding="same", use_bias=False),
        L("BatchNormalization"),
        L("ReLU"),
        L("MaxPooling2D", pool_size=2),
        L("Flatten"),
        L("Dense", units=3, activation="softmax"),
    ]
    yield "convnet", conv, images, kinds, usual, split
    tokens = r.integers(1, 9, (14, 6)).astype("int32")
    for row, length in enumerate(r.integers(1, 7, 14)):
        tokens[row, length:] = 0
    text = [
        L("Embedding", input_dim=9, output_dim=4, mask_zero=True),
        L("Bidirectional", layer=L("LSTM", units=3, return_sequences=True)),
        L("GRU", units=3),
        L("Dense", units=1, activation="sigmoid"),
    ]
    steady = {**binary, "optimizer": O("Adam", learning_rate=0.05, epsilon=1e-3)}
    yield "recurrent", text, tokens, yes[:14], steady, split


def construct_fit(arguments):
    fit = dict(arguments)
    if "class_weight" in fit:
        fit["class_weight"] = dict(fit["class_weight"])
    if "validation_data" in fit:
        fit["validation_data"] = tuple(fit["validation_data"])
    return fit


def set_weights(model, r):
    for w in model.weights:
        value = store.normal(r, *w.shape, scale=0.5)
        w.assign(np.abs(value) + 0.5 if "variance" in w.name else value)
    return model.get_weights()


def history_of(history):
    return {
        "epoch": history.epoch,
        "history": {k: list(map(float, v)) for k, v in history.history.items()},
    }


def cases():
    for name, layers, x, y, compile_arguments, fit in specs():
        keras.utils.clear_session()
        r = store.rng(name)
        model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype.name)])
        for recipe in layers:
            model.add(recorded.construct(recipe, keras))
        initial = set_weights(model, r)
        model.compile(**recorded.construct(compile_arguments, keras))
        history = model.fit(x, y, shuffle=False, verbose=0, **construct_fit(fit))
        yield {
            "name": name,
            "layers": layers,
            "x": x,
            "y": y,
            "compile": compile_arguments,
            "fit": fit,
            "weights": initial,
            **history_of(history),
            "metrics_names": model.metrics_names,
            "final_weights": model.get_weights(),
            "evaluate": model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True),
            "predict": model.predict(x, batch_size=8, verbose=0),
        }
    yield two_outputs()


def two_outputs():
    """A functional model with two inputs and two named outputs, given by its JSON."""
    keras.utils.clear_session()
    r = store.rng("two_outputs")
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    shared = keras.layers.Concatenate(name="joined")([a, keras.layers.Dense(3, name="lift")(b)])
    out = {
        "kind": keras.layers.Dense(3, activation="softmax", name="kind")(shared),
        "size": keras.layers.Dense(1, name="size")(shared),
    }
    model = keras.Model({"a": a, "b": b}, out)
    initial = set_weights(model, r)
    x = {"a": store.normal(r, 16, 3), "b": store.normal(r, 16, 2)}
    y = {"kind": r.integers(0, 3, 16).astype("int32"), "size": store.normal(r, 16, 1)}
    compile_arguments = {
        "optimizer": O("Adam", learning_rate=0.02),
        "loss": {"kind": "sparse_categorical_crossentropy", "size": "mse"},
        "loss_weights": {"kind": 1.0, "size": 0.25},
        "metrics": {"kind": ["accuracy"], "size": ["mae"]},
    }
    text = model.to_json()
    model.compile(**recorded.construct(compile_arguments, keras))
    fit = {"batch_size": 5, "epochs": 3, "validation_split": 0.25}
    history = model.fit(x, y, shuffle=False, verbose=0, **fit)
    return {
        "name": "two_outputs",
        "model": json.loads(text),
        "x": x,
        "y": y,
        "compile": compile_arguments,
        "fit": fit,
        "weights": initial,
        **history_of(history),
        "metrics_names": model.metrics_names,
        "final_weights": model.get_weights(),
        "evaluate": model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True),
        "predict": model.predict(x, batch_size=8, verbose=0),
    }
