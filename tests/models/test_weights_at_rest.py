"""Weights that stay the same are packed once for many predictions; nobody may notice.

A fresh model with the same weights computes its first batch without packed weights: that is what
all others are compared with, bit by bit. Also a script: `python test_weights_at_rest.py` at any
level.
"""

import gc
import hashlib
import pathlib
import threading

import numpy as np
import pytest
from support import levels

import hornbeam as keras
from hornbeam import backend, layers, ops
from hornbeam.backend import _core

RNG = np.random.default_rng(0)
DENSE = RNG.standard_normal((24, 48)).astype("float32")
IMAGES = RNG.standard_normal((4, 12, 12, 16)).astype("float32")


def dense(**kwargs):
    return keras.Sequential(
        [
            keras.Input((48,)),
            layers.Dense(200, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(70, activation="tanh"),
            layers.Dense(1),
        ],
        **kwargs,
    )


def convolutions():
    """Winograd's tiles, patches, strides, groups, the transposed convolution, a wide 1x1."""
    return keras.Sequential(
        [
            keras.Input((12, 12, 16)),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same"),
            layers.BatchNormalization(),
            layers.Conv2D(32, 3, strides=2, padding="same"),
            layers.Conv2D(64, 1),
            layers.Conv2D(64, 3, padding="same", groups=2),
            layers.Conv2DTranspose(24, 3, strides=2, padding="same"),
            layers.Conv2D(5, 3, padding="same"),
        ]
    )


def trained(model):
    """The model with state that its initializers do not give."""
    rng = np.random.default_rng(1)
    model.set_weights([np.abs(rng.standard_normal(w.shape)) * 0.1 for w in model.get_weights()])
    model.compile("sgd", "mse")
    return model


def fresh(model, x):
    """What a new model with these weights predicts in its first batch."""
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    return other.predict_on_batch(x)


def packed_bytes(model):
    function = model._step_function("predict", False)
    return max(c.program.packed_bytes for c in function._cache.values())


def check(model, x):
    expected = fresh(model, x)
    for _ in range(4):
        np.testing.assert_array_equal(model.predict_on_batch(x), expected)
        np.testing.assert_array_equal(model.predict(x, batch_size=len(x), verbose=0), expected)
        np.testing.assert_array_equal(model(x), expected)


CASES = {"dense": (dense, DENSE), "convolutions": (convolutions, IMAGES)}


@pytest.fixture(params=CASES)
def case(request):
    build, x = CASES[request.param]
    return trained(build()), x


def test_the_same_bits_packed_and_not(case):
    model, x = case
    model.predict(x, batch_size=len(x), verbose=0)
    assert packed_bytes(model) == 0
    check(model, x)
    assert packed_bytes(model) > 0


def writers():
    def assign(model, x, path):
        model.layers[0].kernel.assign(model.layers[0].kernel * 2)

    def assign_last_add(model, x, path):
        model.trainable_variables[-2].assign_add(np.ones(model.trainable_variables[-2].shape))

    def set_weights(model, x, path):
        model.set_weights([w + 1 for w in model.get_weights()])

    def load_weights(model, x, path):
        other = keras.models.clone_model(model)
        other.set_weights([w * 3 for w in model.get_weights()])
        other.save_weights(path / "w.weights.h5")
        model.load_weights(path / "w.weights.h5")

    def train_on_batch(model, x, path):
        model.train_on_batch(x, np.ones(model.predict_on_batch(x).shape, "float32"))

    def fit(model, x, path):
        y = np.ones(model.predict_on_batch(x).shape, "float32")
        model.fit(x, y, batch_size=2, epochs=1, verbose=0)

    def optimizer(model, x, path):
        gradients = [ops.ones(v.shape) for v in model.trainable_variables]
        keras.optimizers.Adam().apply(gradients, model.trainable_variables)

    def tape(model, x, path):
        with keras.GradientTape() as t:
            loss = ops.sum(model(x, training=True) ** 2)
        gradients = t.gradient(loss, model.trainable_variables)
        keras.optimizers.SGD(1e-4).apply(gradients, model.trainable_variables)

    def moving_average(model, x, path):
        model(x, training=True)

    return locals()


@pytest.mark.parametrize("write", writers())
def test_every_write_counts_at_once(case, write, tmp_path):
    model, x = case
    for _ in range(3):
        before = model.predict_on_batch(x)
    assert packed_bytes(model) > 0
    writers()[write](model, x, tmp_path)
    after = model.predict_on_batch(x)
    assert not np.array_equal(before, after)
    check(model, x)


def test_a_write_frees_what_was_packed():
    model = trained(convolutions())
    for _ in range(3):
        model.predict_on_batch(IMAGES)
    before, held = packed_bytes(model), _core.memory_in_use()
    assert before > 0
    model.layers[0].kernel.assign(model.layers[0].kernel * 2)
    assert packed_bytes(model) == 0
    assert held - _core.memory_in_use() > 0.9 * before


def test_predictions_between_training_steps():
    model, twin = trained(dense()), trained(dense())
    y = np.ones((len(DENSE), 1), "float32")
    for step in range(12):
        for m in (model, twin):
            m.train_on_batch(DENSE, y)
        for _ in range(step % 5):
            result = model.predict_on_batch(DENSE)
        if step % 5:
            np.testing.assert_array_equal(result, fresh(twin, DENSE))
    for v, w in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)


def test_models_that_share_a_layer():
    shared = layers.Dense(96)
    few = DENSE[:2]  # rows: more read the weights as they are
    x = keras.Input((48,))
    one = keras.Model(x, shared(x))
    two = keras.Model(x, layers.Dense(40)(shared(x)))
    for _ in range(3):
        one.predict_on_batch(few), two.predict_on_batch(few)
    before = _core.memory_in_use()
    three = keras.Model(x, shared(x) * 2.0)
    for _ in range(3):
        three.predict_on_batch(few)
    assert packed_bytes(one) == packed_bytes(three) > 0
    assert _core.memory_in_use() - before < packed_bytes(one)  # one copy for all
    shared.kernel.assign(shared.kernel + 1)
    for model in (one, two, three):
        check(model, few)


def test_other_batch_sizes_share_packed_weights():
    model = trained(convolutions())
    for _ in range(3):
        model.predict_on_batch(IMAGES)
    before = _core.memory_in_use()
    for n in (1, 2, 3):
        for _ in range(3):
            model.predict_on_batch(IMAGES[:n])
    assert packed_bytes(model) > before / 100
    assert _core.memory_in_use() - before < packed_bytes(model) / 2


def test_memory_goes_with_the_model():
    def use():
        model = trained(convolutions())
        for _ in range(4):
            model.predict_on_batch(IMAGES)
        assert packed_bytes(model) > 0

    use()
    gc.collect()
    before = _core.memory_in_use()
    for _ in range(3):
        use()
        gc.collect()
    assert _core.memory_in_use() <= before


def test_memory_is_flat_over_many_changes():
    model = trained(dense())
    kernel = model.layers[0].kernel
    sizes = []
    for i in range(120):
        kernel.assign(kernel * -1.0)
        for _ in range(3 if i < 60 else 12):
            model.predict_on_batch(DENSE)
        gc.collect()
        sizes.append(_core.memory_in_use())
    assert sizes[-1] <= max(sizes[:5]) + packed_bytes(model)


def test_packing_stops_where_weights_keep_changing():
    model = trained(dense())
    kernel = model.layers[0].kernel
    times = 0
    for _ in range(64):
        kernel.assign(kernel * -1.0)
        for _ in range(3):
            model.predict_on_batch(DENSE)
        times += packed_bytes(model) > 0
    assert times == 1


def test_evaluation_packs_and_training_does_not():
    model = trained(dense())
    y = np.ones((len(DENSE), 1), "float32")
    for _ in range(3):
        result = model.evaluate(DENSE, y, batch_size=16, verbose=0)
    step = model._step_function("test", True)
    programs = [c.program for c in step._cache.values()]
    assert programs and all(p.packed_bytes > 0 for p in programs)
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    other.compile("sgd", "mse")
    np.testing.assert_array_equal(other.evaluate(DENSE, y, batch_size=16, verbose=0), result)
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.compile("sgd", "mse")
    model.fit(DENSE, y, batch_size=16, epochs=3, verbose=0)
    step = model._step_function("train", True)
    programs = [c.program for c in step._cache.values()]
    assert programs and all(p.packed_bytes == 0 for p in programs)


def test_a_value_computed_from_weights_alone_is_kept():
    w = backend.Variable(RNG.standard_normal((48, 96)).astype("float32"))
    scale = backend.Variable(np.full(96, 2.0, "float32"))
    f = backend.function(lambda x: ops.matmul(x, ops.tanh(w * scale)) + ops.exp(scale))
    program = f.concrete(DENSE).program
    first = np.array(f(DENSE))
    for _ in range(3):
        np.testing.assert_array_equal(f(DENSE), first)
    assert program.packed_bytes > 0
    scale.assign(scale * 0.5)
    once = np.array(f(DENSE))
    assert not np.array_equal(once, first)
    for _ in range(4):
        np.testing.assert_array_equal(f(DENSE), once)
    scale.assign(scale * 2.0)
    for _ in range(4):
        np.testing.assert_array_equal(f(DENSE), first)


def test_mixed_precision_weights_are_cast_once():
    model = keras.Sequential([keras.Input((48,)), layers.Dense(64, dtype="mixed_bfloat16")])
    check_values = np.array(model(DENSE).numpy(), "float32")
    for _ in range(4):
        np.testing.assert_array_equal(np.array(model(DENSE).numpy(), "float32"), check_values)
    model.layers[0].kernel.assign(model.layers[0].kernel * 2)
    twice = np.array(model(DENSE).numpy(), "float32")
    assert not np.array_equal(twice, check_values)
    np.testing.assert_array_equal(np.array(model(DENSE).numpy(), "float32"), twice)


def test_a_limit_of_memory_is_kept():
    model = trained(convolutions())
    expected = fresh(model, IMAGES)
    model.predict_on_batch(IMAGES)
    limit = _core.memory_limit()
    try:
        _core.set_memory_limit(_core.memory_in_use() + (1 << 18))
        for _ in range(3):
            np.testing.assert_array_equal(model.predict_on_batch(IMAGES), expected)
        assert packed_bytes(model) == 0
    finally:
        _core.set_memory_limit(limit)


def test_assigning_while_other_threads_predict():
    model = trained(convolutions())
    kernel = model.layers[0].kernel
    values = [kernel.numpy() * s for s in (1.0, 2.0, -1.0)]
    expected = []
    for value in values:
        kernel.assign(value)
        expected.append(fresh(model, IMAGES))
    kernel.assign(values[0])
    wrong, stop = [], threading.Event()

    def predict():
        while not stop.is_set():
            result = model.predict_on_batch(IMAGES)
            if not any(np.array_equal(result, e) for e in expected):
                wrong.append(result)

    threads = [threading.Thread(target=predict) for _ in range(3)]
    for t in threads:
        t.start()
    for i in range(300):
        kernel.assign(np.array(values[i % 3]))
    kernel.assign(values[1])
    stop.set()
    for t in threads:
        t.join()
    assert not wrong
    for _ in range(4):
        np.testing.assert_array_equal(model.predict_on_batch(IMAGES), expected[1])


def test_training_while_other_threads_predict():
    model = trained(dense())
    y = np.ones((len(DENSE), 1), "float32")
    stop, errors = threading.Event(), []

    def predict():
        while not stop.is_set():
            if not np.isfinite(model.predict_on_batch(DENSE)).all():
                errors.append("not finite")

    threads = [threading.Thread(target=predict) for _ in range(2)]
    for t in threads:
        t.start()
    for _ in range(100):
        model.train_on_batch(DENSE, y)
    stop.set()
    for t in threads:
        t.join()
    assert not errors
    check(model, DENSE)


def test_threads_that_train_one_model():
    model = trained(dense())
    model.compile(keras.optimizers.SGD(1e-4), "mse")
    y = np.ones((len(DENSE), 1), "float32")
    before = model.get_weights()
    model.train_on_batch(DENSE, y)

    def train():
        for _ in range(30):
            model.train_on_batch(DENSE, y)

    threads = [threading.Thread(target=train) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not np.array_equal(before[0], model.get_weights()[0])
    assert all(np.isfinite(w).all() for w in model.get_weights())
    check(model, DENSE)


@pytest.mark.parametrize("level", levels.LEVELS)
def test_every_level(level):
    levels.check_same_bits(pathlib.Path(__file__), level)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    digest = hashlib.sha256()
    for build, x in CASES.values():
        model = trained(build())
        check(model, x)
        assert packed_bytes(model) > 0
        model.layers[0].kernel.assign(model.layers[0].kernel * 2)
        check(model, x)
        digest.update(model.predict_on_batch(x).tobytes())
    levels.report(digest.hexdigest())
