"""`model(x)` is compiled where nobody can tell, and layer by layer where somebody could."""

import copy

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import layers, ops

X = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)


def model(*more):
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="relu"), *more, layers.Dense(3)]
    )


def is_compiled(m):
    return bool(m._compiled_call._programs)


def by_layers(m, x, **kwargs):
    for layer in m.layers:
        x = layer(x)
    return x


def test_same_values_for_arrays_tensors_and_wider_floats():
    m = model()
    expected = by_layers(m, X)
    for x in (X, ops.convert_to_tensor(X), X.astype(np.float64)):
        np.testing.assert_allclose(m(x), expected, rtol=1e-6)
        assert m(x).dtype == "float32"
    assert is_compiled(m)
    np.testing.assert_allclose(m(X[:2]), expected[:2], rtol=1e-6)


def test_new_weights_and_changed_layers_count_at_once():
    m = model()
    m(X)
    m.set_weights([w * 2 for w in m.get_weights()])
    np.testing.assert_allclose(m(X), by_layers(m, X), rtol=1e-5)
    m.layers[0].activation = ops.tanh
    np.testing.assert_allclose(m(X), by_layers(m, X), rtol=1e-5)
    m.add(layers.Dense(2))
    assert m(X).shape == (5, 2)


def test_training_mode_updates_state_and_draws_anew():
    keras.utils.set_random_seed(0)
    m = model(layers.BatchNormalization(), layers.Dropout(0.5))
    before = [v.numpy() for v in m.non_trainable_variables]
    a, b = m(X, training=True), m(X, training=True)
    assert is_compiled(m) and not np.array_equal(a, b)
    after = [v.numpy() for v in m.non_trainable_variables]
    assert any(not np.array_equal(p, q) for p, q in zip(before, after, strict=True))
    np.testing.assert_array_equal(m(X, training=False), m(X))


def test_frozen_batch_normalisation():
    m = model(layers.BatchNormalization())
    m(X, training=True)
    m.layers[1].trainable = False
    mean = m.layers[1].moving_mean.numpy()
    m(X, training=True)
    np.testing.assert_array_equal(m.layers[1].moving_mean.numpy(), mean)


def test_gradients_go_through():
    m = model()
    m(X)
    with keras.GradientTape() as tape:
        loss = ops.sum(m(X) ** 2)
    grads = tape.gradient(loss, m.trainable_variables)
    assert all(g is not None for g in grads)


class Counting(layers.Layer):
    calls = 0

    def call(self, x):
        Counting.calls += 1
        return x


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Counting(),
        lambda: layers.Lambda(lambda x: x * 2),
        lambda: layers.Dense(4, activation=lambda x: x + 1),
        lambda: layers.Dense(4, activity_regularizer="l2"),
    ],
    ids=["own layer", "lambda", "own activation", "activity regularizer"],
)
def test_python_of_the_user_runs_at_each_call(layer):
    m = model(layer())
    m(X)
    m(X)
    assert not is_compiled(m)


def test_own_layers_are_called_each_time():
    m = model(Counting())
    Counting.calls = 0
    for _ in range(3):
        m(X)
    assert Counting.calls == 3


def test_masks_and_run_eagerly():
    m = keras.Sequential([keras.Input((4,)), layers.Embedding(5, 3, mask_zero=True)])
    ids = np.array([[1, 2, 0, 0]])
    for _ in range(2):
        np.testing.assert_array_equal(m(ids)._keras_mask, [[True, True, False, False]])
    m = model()
    m.compile("sgd", "mse", run_eagerly=True)
    m(X)
    assert not is_compiled(m)


def test_copies_do_not_share_programs():
    m = model()
    m(X)
    n = copy.deepcopy(m)
    n.set_weights([w * 0 for w in n.get_weights()])
    np.testing.assert_array_equal(n(X), np.zeros((5, 3)))
    assert not np.array_equal(m(X), n(X))
