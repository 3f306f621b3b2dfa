"""Losses: values in float64 from NumPy, reduction, weights, masks, labels, config."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import losses

rng = np.random.default_rng(0)
Y, P = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
PROB = rng.dirichlet(np.ones(3), size=4)
YES = rng.integers(0, 2, (4, 3)).astype("float64")
SHARE = rng.uniform(0.05, 0.95, (4, 3))
LABELS = np.array([0, 2, 1, 2])
HOT = np.eye(3)[LABELS]
EPS = 1e-7


def unit(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def bce(y, p):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def signed(y):
    return 2 * y - 1


def focal(y, p):
    p_t = y * p + (1 - y) * (1 - p)
    return ((1 - p_t) ** 2 * bce(y, p)).mean(-1)


POSITIVE = np.abs(Y) + 0.1
CASES = [
    ("mean_squared_error", Y, P, {}, ((Y - P) ** 2).mean(-1)),
    ("mean_absolute_error", Y, P, {}, np.abs(Y - P).mean(-1)),
    ("mean_absolute_percentage_error", Y, P, {}, 100 * np.abs((Y - P) / Y).mean(-1)),
    (
        "mean_squared_logarithmic_error", POSITIVE, SHARE, {},
        ((np.log1p(POSITIVE) - np.log1p(SHARE)) ** 2).mean(-1),
    ),
    (
        "huber", Y, P, {"delta": 0.5},
        np.where(np.abs(Y - P) <= 0.5, (Y - P) ** 2 / 2, np.abs(Y - P) / 2 - 0.125).mean(-1),
    ),
    ("log_cosh", Y, P, {}, np.log(np.cosh(Y - P)).mean(-1)),
    ("poisson", POSITIVE, SHARE, {}, (SHARE - POSITIVE * np.log(SHARE + EPS)).mean(-1)),
    ("cosine_similarity", Y, P, {}, -(unit(Y) * unit(P)).sum(-1)),
    ("binary_crossentropy", YES, SHARE, {}, bce(YES, SHARE).mean(-1)),
    (
        "binary_crossentropy", YES, P, {"from_logits": True},
        bce(YES, 1 / (1 + np.exp(-P))).mean(-1),
    ),
    ("binary_focal_crossentropy", YES, SHARE, {}, focal(YES, SHARE)),
    ("categorical_crossentropy", HOT, PROB, {}, -np.log(PROB[np.arange(4), LABELS])),
    (
        "categorical_crossentropy", HOT, PROB, {"label_smoothing": 0.3},
        -((0.7 * HOT + 0.1) * np.log(PROB)).sum(-1),
    ),
    (
        "categorical_focal_crossentropy", HOT, PROB, {},
        (0.25 * (1 - PROB) ** 2 * -HOT * np.log(PROB)).sum(-1),
    ),
    ("sparse_categorical_crossentropy", LABELS, PROB, {}, -np.log(PROB[np.arange(4), LABELS])),
    (
        "categorical_generalized_cross_entropy", LABELS, PROB, {"q": 0.5},
        (1 - PROB[np.arange(4), LABELS] ** 0.5) / 0.5,
    ),
    ("hinge", YES, P, {}, np.maximum(1 - signed(YES) * P, 0).mean(-1)),
    ("hinge", signed(YES), P, {}, np.maximum(1 - signed(YES) * P, 0).mean(-1)),
    ("squared_hinge", YES, P, {}, (np.maximum(1 - signed(YES) * P, 0) ** 2).mean(-1)),
    (
        "categorical_hinge", HOT, P, {},
        np.maximum(((1 - HOT) * P).max(-1) - (HOT * P).sum(-1) + 1, 0),
    ),
    ("kl_divergence", PROB, PROB[::-1], {}, (PROB * np.log(PROB / PROB[::-1])).sum(-1)),
    (
        "dice", YES, SHARE, {"axis": -1},
        1 - 2 * (YES * SHARE).sum(-1) / (YES.sum(-1) + SHARE.sum(-1) + EPS),
    ),
    (
        "tversky", YES, SHARE, {"alpha": 0.3, "beta": 0.7, "axis": -1},
        1 - (YES * SHARE).sum(-1)
        / (
            (YES * SHARE).sum(-1)
            + 0.3 * (YES * (1 - SHARE)).sum(-1)
            + 0.7 * ((1 - YES) * SHARE).sum(-1)
            + EPS
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "y", "p", "kwargs", "expected"), CASES)
def test_functions(name, y, p, kwargs, expected):
    y = y.astype("int32") if y is LABELS else y.astype("float32")
    values = getattr(losses, name)(y, p.astype("float32"), **kwargs).numpy()
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, rtol=3e-5, atol=1e-6)


def test_float64_is_kept():
    loss = losses.MeanSquaredError(dtype="float64")
    value = loss(Y, P)
    assert value.dtype == "float64"
    np.testing.assert_allclose(float(value), ((Y - P) ** 2).mean(), rtol=1e-14)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("sum_over_batch_size", lambda v, w: (v * w).sum() / 4),
        ("mean", lambda v, w: (v * w).sum() / 4),
        ("sum", lambda v, w: (v * w).sum()),
        ("mean_with_sample_weight", lambda v, w: (v * w).sum() / w.sum()),
        ("none", lambda v, w: v * w),
        (None, lambda v, w: v * w),
    ],
)
def test_reductions_and_weights(reduction, expected):
    weight = np.array([1.0, 0.5, 0.0, 2.0])
    values = ((Y - P) ** 2).mean(-1)
    loss = losses.MeanSquaredError(reduction=reduction)
    for w in (weight, weight[:, None]):
        found = loss(Y, P, w).numpy()
        if w.ndim == 2 and found.ndim:  # per-sample values take the weights' rank
            found = found[:, 0]
        np.testing.assert_allclose(found, expected(values, weight), rtol=1e-5)


def test_masked_entries_do_not_count():
    p = keras.ops.convert_to_tensor(P.astype("float32")[:, :, None])
    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)
    p._keras_mask = keras.ops.convert_to_tensor(mask)
    value = losses.MeanSquaredError()(Y[:, :, None], p)
    np.testing.assert_allclose(float(value), ((Y - P) ** 2)[mask].mean(), rtol=1e-5)


def test_ignored_classes_do_not_count():
    labels = np.array([0, -1, 1, -1])
    value = losses.SparseCategoricalCrossentropy(ignore_class=-1)(labels, PROB)
    expected = -np.log([PROB[0, 0], PROB[2, 1]]).mean()
    np.testing.assert_allclose(float(value), expected, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(losses.FUNCTIONS))
def test_rank_1_targets_are_aligned_or_refused(name):
    """(n,) against (n, 1) never broadcasts to (n, n)."""
    y, p = np.array([0.0, 1.0, 1.0], "float32"), np.array([[0.2], [0.5], [0.9]], "float32")
    fn = losses.FUNCTIONS[name]
    kwargs = {"q": 0.5} if "generalized" in name else {}
    if "sparse" in name or "generalized" in name:
        y = np.zeros(3, "int32")  # the only class of one output
    try:
        flat = fn(y, p, **kwargs).numpy()
    except ValueError as error:
        assert "(3,)" in str(error) or "(3, 1)" in str(error)
        return
    if name == "circle":
        assert flat.shape == (3,)
        return
    y = y if "sparse" in name or "generalized" in name else y[:, None]
    np.testing.assert_allclose(flat, fn(y, p, **kwargs).numpy(), rtol=1e-6)


def test_shapes_that_would_broadcast_are_refused():
    text = r"mean_squared_error: .*expected y_true of shape \(4, 3\), got \(4,\)"
    with pytest.raises(ValueError, match=text):
        losses.mean_squared_error(Y[:, 0], P)
    with pytest.raises(ValueError, match="do not match the predictions"):
        losses.mean_absolute_error(Y[:3], P)


def test_wrong_labels_say_what_to_use():
    with pytest.raises(ValueError, match="Use categorical_crossentropy for them"):
        losses.sparse_categorical_crossentropy(HOT, PROB)
    with pytest.raises(ValueError, match="Use sparse_categorical_crossentropy or to_categorical"):
        losses.categorical_crossentropy(LABELS, PROB)
    with pytest.raises(ValueError, match="use binary_crossentropy"):
        losses.categorical_crossentropy(YES[:, :1], SHARE[:, :1])


CLASSES = sorted(
    name
    for name, cls in vars(losses).items()
    if isinstance(cls, type) and cls not in (losses.Loss, losses.LossFunctionWrapper)
)


@pytest.mark.parametrize("name", CLASSES)
def test_config_goes_round(name):
    loss = getattr(losses, name)(reduction="sum")
    again = losses.deserialize(losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    assert losses.serialize(loss)["module"] == "keras.losses"


def test_get():
    assert losses.get("mse") is losses.mean_squared_error
    assert isinstance(losses.get("MeanSquaredError"), losses.MeanSquaredError)
    assert isinstance(losses.get(losses.Huber), losses.Huber)
    assert losses.get(None) is None
    with pytest.raises(ValueError, match="unknown loss.*got 'nothing'"):
        losses.get("nothing")


def test_gradients_flow_through_every_smooth_loss():
    y, p = YES.astype("float32"), keras.Variable(SHARE.astype("float32"))
    for name in (
        "mean_squared_error",
        "huber",
        "log_cosh",
        "binary_crossentropy",
        "dice",
        "poisson",
    ):
        fn = losses.FUNCTIONS[name]
        with keras.GradientTape() as tape:
            total = keras.ops.sum(fn(y, p))
        gradient = np.asarray(tape.gradient(total, p))
        step = np.zeros_like(SHARE)
        step[1, 2] = 1e-3
        change = np.sum(np.asarray(fn(y, (SHARE + step).astype("float32"))), dtype="float64")
        change -= np.sum(np.asarray(fn(y, (SHARE - step).astype("float32"))), dtype="float64")
        np.testing.assert_allclose(gradient[1, 2], change / 2e-3, rtol=2e-2, atol=2e-3)
