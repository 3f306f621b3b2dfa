"""Metrics: the result after each of several updates, and their variables at the end."""

import keras
import numpy as np
import recorded

from recording import store


def specs():
    """(name, class, arguments, updates); an update is (y_true, y_pred) or (values,)."""
    r = store.rng("metrics")
    batches = (5, 3, 6)
    yield "mean", "Mean", {}, [(store.normal(r, n),) for n in batches]
    yield "mean/2d", "Mean", {}, [(store.normal(r, n, 2),) for n in batches]
    yield "sum", "Sum", {}, [(store.normal(r, n),) for n in batches]

    def labels(*shape, high=3):
        return r.integers(0, high, shape).astype("int32")

    def share(*shape):
        return store.coarse(r.random(shape))

    def logits(*shape):
        return store.normal(r, *shape)

    def hot(n, k):
        return np.eye(k, dtype="float32")[r.integers(0, k, n)]

    yield "accuracy", "Accuracy", {}, [(labels(n, 1), labels(n, 1)) for n in batches]
    binary = [(labels(n, 1, high=2), share(n, 1)) for n in batches]
    yield "binary_accuracy", "BinaryAccuracy", {}, binary
    yield "binary_accuracy/threshold", "BinaryAccuracy", {"threshold": 0.75}, binary
    several = [(labels(n, 3, high=2), share(n, 3)) for n in batches]
    yield "binary_accuracy/2d", "BinaryAccuracy", {}, several
    yield (
        "categorical_accuracy",
        "CategoricalAccuracy",
        {},
        [(hot(n, 3), share(n, 3)) for n in batches],
    )
    sparse = [(labels(n, 1), share(n, 3)) for n in batches]
    yield "sparse_accuracy", "SparseCategoricalAccuracy", {}, sparse
    flat = [(y[:, 0], p) for y, p in sparse]
    yield "sparse_accuracy/flat", "SparseCategoricalAccuracy", {}, flat
    for k in (1, 2, 3):
        top = [(hot(n, 6), logits(n, 6)) for n in batches]
        yield f"top_{k}", "TopKCategoricalAccuracy", {"k": k}, top
        top = [(labels(n, high=6), logits(n, 6)) for n in batches]
        yield f"sparse_top_{k}", "SparseTopKCategoricalAccuracy", {"k": k}, top
    real = [(logits(n, 2), logits(n, 2)) for n in batches]
    yield "mse", "MeanSquaredError", {}, real
    yield "mae", "MeanAbsoluteError", {}, real
    yield "rmse", "RootMeanSquaredError", {}, real
    yield "binary_crossentropy", "BinaryCrossentropy", {}, several
    crossed = [(labels(n), logits(n, 3)) for n in batches]
    yield "sparse_crossentropy", "SparseCategoricalCrossentropy", {"from_logits": True}, crossed

    scored = [(labels(n, high=2), share(n)) for n in (20, 15, 25)]
    for curve in ("ROC", "PR"):
        for method in ("interpolation", "minoring", "majoring"):
            kwargs = {"curve": curve, "summation_method": method, "num_thresholds": 30}
            yield f"auc/{curve}/{method}", "AUC", kwargs, scored
        yield f"auc/{curve}/default", "AUC", {"curve": curve}, scored
        several = [(labels(n, 2, high=2), share(n, 2)) for n in (20, 15, 25)]
        kwargs = {"curve": curve, "num_thresholds": 20}
        yield f"auc/{curve}/multi_label", "AUC", {"multi_label": True, **kwargs}, several
        weights = {"multi_label": True, "num_labels": 2, "label_weights": [0.25, 0.75], **kwargs}
        yield f"auc/{curve}/label_weights", "AUC", weights, several
        yield f"auc/{curve}/flat_labels", "AUC", kwargs, several
    kwargs = {"thresholds": [0.2, 0.5, 0.9]}
    yield "auc/thresholds", "AUC", kwargs, scored
    unscaled = [(y, store.coarse(np.log(p + 0.01) * 2)) for y, p in scored]
    yield "auc/logits", "AUC", {"from_logits": True, "num_thresholds": 20}, unscaled
    yield "precision", "Precision", {}, scored
    yield "recall", "Recall", {"thresholds": 0.4}, scored


def record(name, kind, kwargs, updates, weighted):
    r = store.rng(name)
    recipe = {"class": f"metrics.{kind}", "kwargs": kwargs}
    metric = recorded.construct(recipe, keras)
    recorded_updates, results = [], []
    for update in updates:
        weight = store.coarse(r.random(len(update[0])) + 0.1) if weighted else None
        metric.update_state(*update, sample_weight=weight)
        recorded_updates.append({"arguments": list(update), "sample_weight": weight})
        results.append(np.asarray(metric.result()))
    small = sum(int(np.prod(v.shape)) for v in metric.variables) <= 64
    return {
        "name": name + "/weighted" * weighted,
        "metric": recipe,
        "updates": recorded_updates,
        "results": results,
        "variables": [v.numpy() for v in metric.variables] if small else None,
    }


def cases():
    for spec in specs():
        yield record(*spec, weighted=False)
        yield record(*spec, weighted=True)
