"""Metrics: values, state, config."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import metrics

rng = np.random.default_rng(3)
YES = rng.integers(0, 2, 60)
SCORE = np.round(rng.uniform(size=60), 2)


def result(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return metric.result().numpy()


def test_means_are_weighted():
    m = metrics.Mean()
    assert result(m) == 0.0
    m.update_state([1.0, 2.0], sample_weight=[3.0, 1.0])
    m.update_state(4.0)
    np.testing.assert_allclose(float(m.result()), (3 + 2 + 4) / 5)
    m.reset_state()
    assert float(m.result()) == 0.0


def exact_auc(y, score):
    pos, neg = score[y == 1], score[y == 0]
    wins = (pos[:, None] > neg).mean() + 0.5 * (pos[:, None] == neg).mean()
    return wins


def test_roc_auc_approaches_the_exact_value():
    value = result(metrics.AUC(num_thresholds=2000), (YES[:30], SCORE[:30]), (YES[30:], SCORE[30:]))
    np.testing.assert_allclose(value, exact_auc(YES, SCORE), atol=2e-3)


def test_auc_with_own_thresholds_equals_even_ones():
    inner = [i / 19 for i in range(1, 19)]
    even = result(metrics.AUC(num_thresholds=20), (YES, SCORE))
    own = metrics.AUC(thresholds=inner)
    own._even = False  # the general path
    np.testing.assert_allclose(result(own, (YES, SCORE)), even, rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.5, [0.25, 0.5, 0.8]])
def test_counts_precision_recall(threshold):
    bounds = np.atleast_1d(threshold)
    above = SCORE.astype("float32") > bounds[:, None].astype("float32")
    tp, fp = (above & (YES == 1)).sum(1), (above & (YES == 0)).sum(1)
    fn, tn = (YES == 1).sum() - tp, (YES == 0).sum() - fp
    expected = {
        "TruePositives": tp,
        "FalsePositives": fp,
        "TrueNegatives": tn,
        "FalseNegatives": fn,
        "Precision": tp / (tp + fp),
        "Recall": tp / (tp + fn),
    }
    for name, values in expected.items():
        metric = getattr(metrics, name)(thresholds=threshold)
        found = result(metric, (YES[:25], SCORE[:25]), (YES[25:], SCORE[25:]))
        np.testing.assert_allclose(np.atleast_1d(found), values, rtol=1e-6, err_msg=name)


def test_precision_of_top_k_and_class():
    y = np.array([[1, 0, 0, 1], [0, 1, 0, 0]])
    p = np.array([[0.1, 0.2, 0.6, 0.5], [0.4, 0.3, 0.2, 0.1]])
    np.testing.assert_allclose(result(metrics.Precision(top_k=2), (y, p)), 2 / 4)
    np.testing.assert_allclose(result(metrics.Recall(top_k=2), (y, p)), 2 / 3)
    np.testing.assert_allclose(result(metrics.Precision(class_id=3, thresholds=0.3), (y, p)), 1.0)


def test_best_rate_at_a_bound():
    bounds = np.arange(200) / 199
    above = SCORE > bounds[:, None]
    tp, fp = (above & (YES == 1)).sum(1), (above & (YES == 0)).sum(1)
    sensitivity, specificity = tp / (YES == 1).sum(), 1 - fp / (YES == 0).sum()
    precision = np.divide(tp, tp + fp, out=np.zeros(200), where=tp + fp > 0)
    cases = [
        (metrics.SensitivityAtSpecificity(0.6), specificity, 0.6, sensitivity),
        (metrics.SpecificityAtSensitivity(0.6), sensitivity, 0.6, specificity),
        (metrics.PrecisionAtRecall(0.3), sensitivity, 0.3, precision),
        (metrics.RecallAtPrecision(0.5), precision, 0.5, sensitivity),
    ]
    for metric, bound, least, wanted in cases:
        found = result(metric, (YES, SCORE))
        np.testing.assert_allclose(found, wanted[bound >= least].max(initial=0), rtol=1e-5)


@pytest.mark.parametrize("average", [None, "micro", "macro", "weighted"])
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_f_scores(average, beta):
    y = np.eye(3)[rng.integers(0, 3, 30)]
    p = rng.uniform(size=(30, 3))
    hit = np.eye(3)[p.argmax(1)]
    axis = None if average == "micro" else 0
    tp, fp = (hit * y).sum(axis), (hit * (1 - y)).sum(axis)
    fn = ((1 - hit) * y).sum(axis)
    score = (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp)
    if average == "weighted":
        score = (score * y.sum(0)).sum() / y.sum()
    elif average:
        score = score.mean()
    found = result(metrics.FBetaScore(average, beta), (y[:10], p[:10]), (y[10:], p[10:]))
    np.testing.assert_allclose(found, score, rtol=1e-5)
    if beta == 1.0:
        np.testing.assert_allclose(result(metrics.F1Score(average), (y, p)), score, rtol=1e-5)


def test_iou():
    y, p = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    each = [((y == c) & (p == c)).sum() / ((y == c) | (p == c)).sum() for c in range(3)]
    np.testing.assert_allclose(result(metrics.MeanIoU(3), (y, p)), np.mean(each), rtol=1e-5)
    np.testing.assert_allclose(result(metrics.IoU(3, [1]), (y, p)), each[1], rtol=1e-5)
    hot = (np.eye(3)[y], np.eye(3)[p] + 0.1)
    np.testing.assert_allclose(result(metrics.OneHotMeanIoU(3), hot), np.mean(each), rtol=1e-5)
    np.testing.assert_allclose(result(metrics.OneHotIoU(3, [2]), hot), each[2], rtol=1e-5)
    above = SCORE >= 0.5
    both = [((YES == c) & (above == c)).sum() / ((YES == c) | (above == c)).sum() for c in (0, 1)]
    np.testing.assert_allclose(result(metrics.BinaryIoU(), (YES, SCORE)), np.mean(both), rtol=1e-5)
    ignoring = metrics.MeanIoU(3, ignore_class=0)
    kept = y != 0
    union = [((y == c) | (p == c))[kept].sum() for c in range(3)]
    inter = [((y == c) & (p == c))[kept].sum() for c in range(3)]
    expected = np.mean([i / u for i, u in zip(inter, union, strict=True) if u])
    np.testing.assert_allclose(result(ignoring, (y, p)), expected, rtol=1e-5)


def test_r2_and_correlations():
    y = rng.normal(size=(30, 2)).astype("float32")
    p = (y + 0.5 * rng.normal(size=(30, 2))).astype("float32")
    r2 = 1 - ((y - p) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    batches = ((y[:10], p[:10]), (y[10:], p[10:]))
    np.testing.assert_allclose(result(metrics.R2Score(), *batches), r2.mean(), rtol=1e-4)
    np.testing.assert_allclose(result(metrics.R2Score(None), *batches), r2, rtol=1e-4)
    pearson = np.mean([np.corrcoef(y[:, i], p[:, i])[0, 1] for i in range(2)])
    found = result(metrics.PearsonCorrelation(axis=0), (y, p))
    np.testing.assert_allclose(found, pearson, rtol=1e-4)
    lin = [
        2 * np.cov(y[:, i], p[:, i], ddof=0)[0, 1]
        / (y[:, i].var() + p[:, i].var() + (y[:, i].mean() - p[:, i].mean()) ** 2)
        for i in range(2)
    ]  # fmt: skip
    found = result(metrics.ConcordanceCorrelation(axis=0), (y, p))
    np.testing.assert_allclose(found, np.mean(lin), rtol=1e-4)


def test_regression_metrics():
    y, p = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    cosine = (y * p).sum(1) / np.sqrt((y * y).sum(1) * (p * p).sum(1))
    cases = {
        "RootMeanSquaredError": np.sqrt(((y - p) ** 2).mean()),
        "MeanAbsolutePercentageError": 100 * np.abs((y - p) / y).mean(),
        "LogCoshError": np.log(np.cosh(y - p)).mean(),
        "CosineSimilarity": cosine.mean(),
    }
    for name, expected in cases.items():
        found = result(getattr(metrics, name)(), (y[:4], p[:4]), (y[4:], p[4:]))
        np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=name)


def test_stateless_calls_leave_the_variables_alone():
    m = metrics.MeanSquaredError()
    m.update_state([[1.0]], [[3.0]])
    zeros = m.stateless_reset_state()
    new = m.stateless_update_state(zeros, [[0.0]], [[5.0]])
    assert float(m.stateless_result(new)) == 25.0
    assert float(m.result()) == 4.0
    with pytest.raises(ValueError, match="expected one value per variable, 2, got 0"):
        m.stateless_result([])


ARGUMENTS = {
    "FBetaScore": {"beta": 2.0, "average": "macro"},
    "IoU": {"num_classes": 3, "target_class_ids": [0, 2]},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [0, 2]},
    "MeanIoU": {"num_classes": 3},
    "OneHotMeanIoU": {"num_classes": 3},
    "SensitivityAtSpecificity": {"specificity": 0.3},
    "SpecificityAtSensitivity": {"sensitivity": 0.3},
    "PrecisionAtRecall": {"recall": 0.3},
    "RecallAtPrecision": {"precision": 0.3},
    "AUC": {"curve": "PR", "thresholds": [0.25, 0.5]},
    "Precision": {"thresholds": [0.2, 0.4]},
    "TopKCategoricalAccuracy": {"k": 3},
}
CLASSES = sorted(
    name
    for name, cls in vars(metrics).items()
    if isinstance(cls, type) and cls not in (metrics.Metric, metrics.MeanMetricWrapper)
)


@pytest.mark.parametrize("name", CLASSES)
def test_config_goes_round(name):
    metric = getattr(metrics, name)(name="m", **ARGUMENTS.get(name, {}))
    data = metrics.serialize(metric)
    again = metrics.deserialize(data)
    assert data["module"] == "keras.metrics" and data["class_name"] == name
    assert type(again) is type(metric) and again.get_config() == metric.get_config()


def test_get():
    assert isinstance(metrics.get("mse"), metrics.MeanSquaredError)
    assert isinstance(metrics.get("auc"), metrics.AUC)
    with pytest.raises(ValueError, match="unknown metric.*got 'nothing'"):
        metrics.get("nothing")


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"Precision: thresholds must lie in \[0, 1\]; got \[2\]"):
        metrics.Precision(thresholds=2)
    with pytest.raises(ValueError, match="AUC: unknown curve; expected one of"):
        metrics.AUC(curve="X")
    with pytest.raises(ValueError, match="FBetaScore: beta must be a positive float"):
        metrics.FBetaScore(beta=0.0)
    with pytest.raises(ValueError, match="integer labels; use to_categorical"):
        metrics.F1Score().update_state([1, 2], [[0.1, 0.2], [0.3, 0.1]])


def test_own_metric_in_fit():
    class Positive(keras.metrics.Metric):
        def __init__(self, name="positive"):
            super().__init__(name=name)
            self.count = self.add_weight(name="count", initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.count.assign_add(keras.ops.sum(keras.ops.cast(y_pred > 0, "float32")))

        def result(self):
            return self.count

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(loss="mse", metrics=[Positive()])
    x = np.array([[1.0, 1.0], [-1.0, -1.0], [2.0, 0.0]])
    assert model.evaluate(x, np.zeros(3), verbose=0, return_dict=True)["positive"] == 2.0


@pytest.mark.parametrize("name", CLASSES)
def test_rank_1_targets_never_broadcast(name):
    """(n,) against (n, 1) gives what (n, 1) against (n, 1) gives, or is refused."""
    if name in ("Mean", "Sum"):
        return
    y = np.array([0.0, 1.0, 1.0, 0.0], "float32")
    p = np.array([[0.2], [0.4], [0.9], [0.6]], "float32")
    if "Sparse" in name:
        y = np.zeros(4, "float32")
    arguments = {**ARGUMENTS.get(name, {}), **({"k": 1} if "TopK" in name else {})}
    found = []
    for target in (y, y[:, None]):
        metric = getattr(metrics, name)(**arguments)
        try:
            metric.update_state(target, p)
        except ValueError as error:
            assert "(4,)" in str(error) or "(4, 1)" in str(error), error
            return
        found.append(np.asarray(metric.result()))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
