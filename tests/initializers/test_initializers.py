"""Initializers, regularizers, constraints, activations by name and value."""

import json
import math

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import activations, constraints, initializers, ops, regularizers

NAMES = sorted(
    name
    for name, obj in vars(initializers).items()
    if isinstance(obj, type)
    and issubclass(obj, initializers.Initializer)
    and obj.__name__ == name
    and name[0] != "_"
    and name not in ("Initializer", "RandomInitializer")
)


@pytest.mark.parametrize("name", NAMES)
def test_initializer_through_its_names_and_config(name):
    cls = getattr(initializers, name)
    shape = (5, 1, 9) if name == "STFT" else (6, 6)
    one = cls()
    config = json.loads(json.dumps(initializers.serialize(one)))
    assert config["module"] == "keras.initializers" and config["class_name"] == name
    again = initializers.deserialize(config)
    assert type(again) is cls and again.get_config() == one.get_config()
    assert type(initializers.get(name)) is cls
    value = one(shape, dtype="float32")
    assert value.shape == shape and value.dtype == "float32"
    np.testing.assert_array_equal(one(shape), one(shape))  # a function of its seed
    assert initializers.get(cls)(shape).shape == shape


def test_seeds():
    a, b = initializers.GlorotUniform(seed=1), initializers.GlorotUniform(seed=1)
    np.testing.assert_array_equal(a((4, 4)), b((4, 4)))
    assert not np.array_equal(a((4, 4)), initializers.GlorotUniform(seed=2)((4, 4)))
    keras.utils.set_random_seed(5)
    first = initializers.HeNormal()((4, 4)).numpy()
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(first, initializers.HeNormal()((4, 4)))
    generator = keras.random.SeedGenerator(3)
    flowing = initializers.RandomNormal(seed=generator)
    assert not np.array_equal(flowing((4,)), flowing((4,)))
    with pytest.raises(ValueError, match="seed"):
        initializers.RandomNormal(seed="one")


@pytest.mark.parametrize(
    "name,variance",
    [
        ("GlorotUniform", 2 / (300 + 200)),
        ("GlorotNormal", 2 / (300 + 200)),
        ("HeNormal", 2 / 300),
        ("HeUniform", 2 / 300),
        ("LecunNormal", 1 / 300),
        ("LecunUniform", 1 / 300),
    ],
)
def test_variances(name, variance):
    value = np.asarray(getattr(initializers, name)(seed=0)((300, 200)))
    assert abs(value.mean()) < 4 * math.sqrt(variance / value.size)
    assert value.var() == pytest.approx(variance, rel=0.02)
    if "Uniform" in name:
        assert np.abs(value).max() <= math.sqrt(3 * variance)


def test_fans_of_windows_and_of_einsum_kernels():
    assert initializers.compute_fans((3, 3, 8, 16)) == (72, 144)
    assert initializers.compute_fans((4, 2, 5), [0], [1, 2]) == (4, 10)
    assert initializers.compute_fans((7,)) == (7, 7) and initializers.compute_fans(()) == (1, 1)
    layer = keras.layers.EinsumDense(
        "abc,cde->abde", (None, 20, 30), kernel_initializer="he_normal"
    )
    layer.build((None, None, 50))
    assert layer.kernel.numpy().var() == pytest.approx(2 / 50, rel=0.05)


def test_orthogonal_and_identity():
    for shape in ((6, 4), (4, 6), (2, 3, 5)):
        q = np.asarray(initializers.Orthogonal(gain=2.0, seed=0)(shape)).reshape(-1, shape[-1]) / 2
        small = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
        np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-5)
    np.testing.assert_array_equal(initializers.Identity(gain=3.0)((2, 3)), 3 * np.eye(2, 3))
    for bad, shape in ((initializers.Orthogonal(), (3,)), (initializers.Identity(), (2, 2, 2))):
        with pytest.raises(ValueError, match="rank"):
            bad(shape)


def test_truncated_normal_stays_within_two_deviations():
    value = np.asarray(initializers.TruncatedNormal(stddev=0.1, seed=0)((10000,)))
    assert np.abs(value).max() <= 0.2


def test_arrays_as_initializers():
    value = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(initializers.get(value)((2, 3)), value)
    with pytest.raises(ValueError, match=r"shape \(3, 2\)"):
        initializers.get(value)((3, 2))
    with pytest.raises(ValueError, match="initializer"):
        initializers.get("no such thing")
    assert initializers.get(None) is None


def test_regularizers():
    x = ops.convert_to_tensor([[1.0, -2.0], [3.0, 0.0]])
    assert float(regularizers.L1(0.1)(x)) == pytest.approx(0.6)
    assert float(regularizers.get("l2")(x)) == pytest.approx(0.14)
    assert float(regularizers.L1L2(1.0, 1.0)(x)) == pytest.approx(20.0)
    rows = np.array([[1.0, 0.0], [1.0, 1.0]], "float32")
    value = float(regularizers.OrthogonalRegularizer(1.0)(rows))
    assert value == pytest.approx(1 / math.sqrt(2), rel=1e-5)
    with pytest.raises(ValueError, match="finite"):
        regularizers.L2(float("nan"))
    with pytest.raises(ValueError, match="regularizer"):
        regularizers.get("no such thing")


def test_constraints():
    w = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(5, 3)) * 2)

    def norms(x):
        return np.linalg.norm(np.asarray(x), axis=0)

    np.testing.assert_allclose(norms(constraints.UnitNorm()(w)), 1, rtol=1e-5)
    assert (norms(constraints.MaxNorm(1.5)(w)) <= 1.5 + 1e-5).all()
    between = norms(constraints.MinMaxNorm(0.5, 0.7)(w))
    assert ((0.5 - 1e-5 <= between) & (between <= 0.7 + 1e-5)).all()
    assert np.asarray(constraints.get("non_neg")(w)).min() == 0
    with pytest.raises(ValueError, match="constraint"):
        constraints.get(3)


def test_activations():
    x = np.linspace(-4, 4, 33).astype("float32")
    relu = activations.relu(x, negative_slope=0.1, max_value=2.0, threshold=0.5)
    expected = np.minimum(np.where(x > 0.5, x, 0.1 * (x - 0.5)), 2.0)
    np.testing.assert_allclose(relu, expected, rtol=1e-6)
    np.testing.assert_allclose(
        activations.mish(x), x * np.tanh(np.log1p(np.exp(x))), rtol=1e-5, atol=1e-6
    )
    for name, fn in activations._BY_NAME.items():
        assert activations.get(name) is fn and activations.get(fn) is fn
        assert activations.serialize(fn) == fn.__name__
        assert activations.deserialize(activations.serialize(fn)) is fn
    assert activations.get(None) is activations.linear
    with pytest.raises(ValueError, match="activation"):
        activations.get("no such thing")
