"""Losses: value for every reduction, with and without weights, and gradient to predictions."""

import jax
import keras
import numpy as np
import recorded
from jax import numpy as jnp

from recording import store

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


def specs():
    """(name, class, arguments, y_true, y_pred)"""
    r = store.rng("losses")
    real, guess = store.normal(r, 4, 3), store.normal(r, 4, 3)
    yield "mse", "MeanSquaredError", {}, real, guess
    yield "mae", "MeanAbsoluteError", {}, real, guess
    yield "huber", "Huber", {}, real, guess * 2
    yield "huber/delta", "Huber", {"delta": 0.5}, real, guess
    yield "mse/3d", "MeanSquaredError", {}, store.normal(r, 2, 3, 2), store.normal(r, 2, 3, 2)
    yield (
        "mse/integers",
        "MeanSquaredError",
        {},
        np.array([[1], [0], [2], [3]], "int32"),
        guess[:, :1],
    )

    yes = r.integers(0, 2, (4, 3)).astype("float32")
    share = np.clip(store.coarse(r.random((4, 3))), 1 / 32, 31 / 32)
    edge = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.25]], "float32")
    for smooth in (0.0, 0.1):
        tail = "/smooth" if smooth else ""
        kwargs = {"label_smoothing": smooth}
        name = "BinaryCrossentropy"
        yield f"binary{tail}", name, kwargs, yes, share
        yield f"binary/logits{tail}", name, {"from_logits": True, **kwargs}, yes, guess * 3
        yield f"binary/edges{tail}", name, kwargs, yes[:2], edge
    yield "binary/axis", "BinaryCrossentropy", {"axis": 0}, yes, share

    hot = np.eye(3, dtype="float32")[r.integers(0, 3, 4)]
    unnormed = share * 2
    share = share / share.sum(-1, keepdims=True)
    for smooth in (0.0, 0.2):
        tail = "/smooth" if smooth else ""
        kwargs = {"label_smoothing": smooth}
        name = "CategoricalCrossentropy"
        yield f"categorical{tail}", name, kwargs, hot, share
        yield f"categorical/logits{tail}", name, {"from_logits": True, **kwargs}, hot, guess * 3
    yield "categorical/unnormed", "CategoricalCrossentropy", {}, hot, unnormed
    yield "categorical/edges", "CategoricalCrossentropy", {}, hot[:2], edge
    classes = r.integers(0, 3, 4).astype("int32")
    name = "SparseCategoricalCrossentropy"
    yield "sparse", name, {}, classes, share
    yield "sparse/logits", name, {"from_logits": True}, classes, guess * 3
    yield "sparse/column", name, {}, classes[:, None], share
    yield "sparse/unnormed", name, {}, classes, unnormed
    grid = r.integers(0, 3, (2, 4)).astype("int32")
    grid[0, 1] = grid[1, 2] = 1
    yield "sparse/sequence", name, {"from_logits": True}, grid, store.normal(r, 2, 4, 3)
    ignore = {"from_logits": True, "ignore_class": 1}
    yield "sparse/ignore", name, ignore, grid, store.normal(r, 2, 4, 3)
    grid = grid.copy()
    grid[0] = -1
    ignore = {"from_logits": True, "ignore_class": -1}
    yield "sparse/ignore_negative", name, ignore, grid, store.normal(r, 2, 4, 3)
    yield "sparse/ignore/probabilities", name, {"ignore_class": 0}, classes, share


def cases():
    for name, kind, kwargs, y_true, y_pred in specs():
        r = store.rng(name)
        shape = list(y_pred.shape)
        del shape[kwargs.get("axis", -1)]
        weights = {"unweighted": None, "weighted": store.coarse(r.random(shape) + 0.1)}
        if len(shape) == 2:
            weights["weighted_rows"] = store.coarse(r.random((shape[0], 1)) + 0.1)
        for reduction in REDUCTIONS:
            for kind_of_weight, weight in weights.items():
                if kind_of_weight == "weighted_rows" and reduction not in (REDUCTIONS[0], "none"):
                    continue
                recipe = {
                    "class": f"losses.{kind}",
                    "kwargs": {"reduction": reduction, **kwargs},
                }
                loss = recorded.construct(recipe, keras)

                def value(y_pred, loss=loss, weight=weight, y_true=y_true):
                    return loss(y_true, y_pred, sample_weight=weight)

                out = np.asarray(value(y_pred))
                gradient = jax.grad(lambda p, value=value: jnp.sum(value(p)))(y_pred)
                yield {
                    "name": f"{name}/{reduction}/{kind_of_weight}",
                    "loss": recipe,
                    "y_true": y_true,
                    "y_pred": y_pred,
                    "sample_weight": weight,
                    "value": out,
                    "gradient": np.asarray(gradient),
                }
