"""compile, fit, evaluate, predict and the single-batch methods."""

import os
import signal
import threading

import numpy as np
import pytest

import hornbeam as keras


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 4)).astype("float32")
    return x, (x @ np.array([1.0, -2.0, 0.5, 0.0]) > 0).astype("int64")


def classifier(**kwargs):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    compile_kwargs = {
        "optimizer": keras.optimizers.Adam(0.02),
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        **kwargs,
    }
    model.compile(**compile_kwargs)
    return model


def regressor(units=1, **kwargs):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    model.compile(**{"optimizer": "sgd", "loss": "mse", **kwargs})
    return model


def test_fit_learns_and_evaluate_and_predict_agree(data):
    keras.utils.set_random_seed(0)
    x, y = data
    model = classifier()
    history = model.fit(x, y, epochs=40, batch_size=8, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
    assert history.history["loss"][-1] < history.history["loss"][0] / 2
    loss, accuracy = model.evaluate(x, y, verbose=0)
    p = model.predict(x, verbose=0)
    assert p.shape == (50, 2) and p.dtype == np.float32
    np.testing.assert_allclose(accuracy, (p.argmax(1) == y).mean(), rtol=1e-6)
    np.testing.assert_allclose(loss, -np.log(p[np.arange(50), y]).mean(), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(model(x)), p, rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_bits(data):
    def run():
        keras.utils.set_random_seed(7)
        model = classifier()
        history = model.fit(*data, epochs=3, batch_size=8, verbose=0)
        return history.history, model.get_weights()

    (history_a, weights_a), (history_b, weights_b) = run(), run()
    assert history_a == history_b
    for a, b in zip(weights_a, weights_b, strict=True):
        np.testing.assert_array_equal(a, b)


def test_eager_steps_equal_compiled_ones(data):
    results = []
    for eager in (False, True):
        keras.utils.set_random_seed(7)
        model = classifier(run_eagerly=eager)
        history = model.fit(*data, epochs=2, batch_size=16, validation_split=0.2, verbose=0)
        results.append((history.history, model.predict(data[0], verbose=0)))
    for name, values in results[0][0].items():
        np.testing.assert_allclose(values, results[1][0][name], rtol=1e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)


def test_a_step_is_traced_once_per_batch_size(data):
    model = classifier()
    model.fit(*data, epochs=3, batch_size=16, verbose=0)  # 3 · 16 + 2
    function = model._functions["train", True]
    assert function.cache_info().traces == 2


def test_small_predictions_take_the_short_way_and_see_new_weights(data):
    x, _ = data
    model = classifier()
    first = model.predict(x[:1], verbose=0)
    assert model._predictor._programs
    model.set_weights([w * 0 for w in model.get_weights()])
    np.testing.assert_allclose(model.predict(x[:1], verbose=0), [[0.5, 0.5]])
    again = model.predict(x[:1].astype("float64"), verbose=0)
    np.testing.assert_allclose(again, [[0.5, 0.5]])
    assert first.shape == (1, 2)
    np.testing.assert_allclose(model.predict(x[::7], verbose=0), np.full((8, 2), 0.5))


def test_predictions_do_not_change_afterwards(data):
    x, _ = data
    model = classifier()
    first = model.predict(x[:2], verbose=0)
    kept = first.copy()
    model.predict(x[2:4], verbose=0)
    np.testing.assert_array_equal(first, kept)


def test_regularizers_and_added_losses_count(data):
    x, _ = data
    layer = keras.layers.Dense(
        1, kernel_initializer="ones", kernel_regularizer=keras.regularizers.L2(0.5)
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
    y = x.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), 0.5 * 4, rtol=1e-5)
    history = model.fit(x, y, verbose=0)
    np.testing.assert_allclose(history.history["loss"], [2.0], rtol=1e-5)


def test_targets_of_rank_one_meet_outputs_of_rank_two(data):
    x, _ = data
    y = x.sum(axis=1)
    model = regressor(metrics=["mae"])
    p = model.predict(x, verbose=0)
    loss, mae = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(loss, ((p[:, 0] - y) ** 2).mean(), rtol=1e-5)
    np.testing.assert_allclose(mae, np.abs(p[:, 0] - y).mean(), rtol=1e-5)


def test_sample_weight_and_class_weight_agree(data):
    x, y = data
    weights = np.where(y == 1, 3.0, 0.5)
    results = []
    for kwargs in ({"sample_weight": weights}, {"class_weight": {0: 0.5, 1: 3.0}}):
        keras.utils.set_random_seed(0)
        model = classifier(weighted_metrics=["accuracy"])
        results.append(model.fit(x, y, epochs=2, verbose=0, **kwargs).history)
    assert results[0] == results[1]
    assert sorted(results[0]) == ["accuracy", "loss", "weighted_accuracy"]


def test_validation_data_and_frequency(data):
    x, y = data
    history = classifier().fit(
        x, y, epochs=4, verbose=0, validation_data=(x[:10], y[:10]), validation_freq=2
    )
    assert len(history.history["val_loss"]) == 2 and len(history.history["loss"]) == 4
    listed = classifier().fit(
        x, y, epochs=4, verbose=0, validation_data=(x[:10], y[:10]), validation_freq=[1, 2, 4]
    )
    assert len(listed.history["val_loss"]) == 3
    with pytest.raises(ValueError, match="validation_freq must be an integer or a list"):
        classifier().fit(x, y, verbose=0, validation_split=0.1, validation_freq="x")


def test_initial_epoch_and_steps_per_epoch(data):
    x, y = data
    history = classifier().fit(
        x, y, epochs=5, initial_epoch=3, steps_per_epoch=2, batch_size=5, verbose=0
    )
    assert history.epoch == [3, 4]


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, index):
        rows = slice(index * self.size, (index + 1) * self.size)
        return self.x[rows], self.y[rows]


def generator(x, y, size):
    while True:
        for start in range(0, len(x), size):
            yield x[start : start + size], y[start : start + size]


def test_all_kinds_of_data_train_alike(data):
    x, y = data

    class Loader:
        def __len__(self):
            return 5

        def __iter__(self):
            return (list(batch) for _, batch in zip(range(5), generator(x, y, 10), strict=False))

    kinds = {
        "arrays": lambda: {"x": x, "y": y, "batch_size": 10, "shuffle": False},
        "PyDataset": lambda: {"x": Batches(x, y, 10), "shuffle": False},
        "workers": lambda: {"x": Batches(x, y, 10, workers=2), "shuffle": False},
        "generator": lambda: {"x": generator(x, y, 10), "steps_per_epoch": 5},
        "loader": lambda: {"x": Loader()},
    }
    histories = {}
    for name, make in kinds.items():
        keras.utils.set_random_seed(0)
        model = classifier()
        histories[name] = model.fit(epochs=2, verbose=0, **make()).history
    for name, history in histories.items():
        for key, values in history.items():
            np.testing.assert_allclose(values, histories["arrays"][key], rtol=1e-6, err_msg=name)


def test_a_generator_that_ends_ends_the_training(data):
    x, y = data
    batches = ((x[i : i + 10], y[i : i + 10]) for i in range(0, 50, 10))
    with pytest.warns(UserWarning, match="the input ran out after 0 batches"):
        history = classifier().fit(batches, epochs=3, verbose=0)
    assert history.epoch == [0]


def two_outputs():
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    h = keras.layers.Concatenate()([a, b])
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(h)
    size = keras.layers.Dense(1, name="size")(h)
    return keras.Model([a, b], [kind, size])


@pytest.mark.parametrize("form", ["list", "dict"])
def test_several_inputs_and_outputs(form):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 4)), rng.normal(size=(20, 2))
    kind, size = rng.integers(0, 3, 20), rng.normal(size=20)
    model = two_outputs()
    if form == "list":
        x, y = [a, b], [kind, size]
        losses, metrics = ["sparse_categorical_crossentropy", "mse"], [["accuracy"], ["mae"]]
        weights = [1.0, 0.5]
    else:
        x, y = {"a": a, "b": b}, {"kind": kind, "size": size}
        losses = {"kind": "sparse_categorical_crossentropy", "size": "mse"}
        metrics = {"kind": ["accuracy"], "size": ["mae"]}
        weights = {"kind": 1.0, "size": 0.5}
    model.compile(optimizer="adam", loss=losses, loss_weights=weights, metrics=metrics)
    history = model.fit(x, y, epochs=2, batch_size=8, verbose=0).history
    names = ["kind_accuracy", "kind_loss", "loss", "size_loss", "size_mae"]
    assert sorted(history) == names
    total = np.add(history["kind_loss"], np.multiply(history["size_loss"], 0.5))
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)
    outputs = model.predict(x, verbose=0)
    assert [o.shape for o in outputs] == [(20, 3), (20, 1)]


def test_unknown_output_names_are_listed():
    model = two_outputs()
    model.compile(optimizer="adam", loss={"kinds": "mse"})
    x = [np.zeros((4, 4)), np.zeros((4, 2))]
    with pytest.raises(ValueError, match=r"does not match the outputs.*\['kind', 'size'\]"):
        model.fit(x, [np.zeros(4), np.zeros(4)], verbose=0)


def test_custom_train_step_runs_compiled(data):
    x, y = data

    class Custom(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)
            self.gap = keras.metrics.Mean(name="gap")

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, batch):
            inputs, target = batch
            with keras.GradientTape() as tape:
                p = self(inputs, training=True)
                loss = keras.ops.mean(keras.ops.square(p[:, 0] - keras.ops.cast(target, p.dtype)))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            self.gap.update_state(loss)
            return {"gap": self.gap.result(), "last": loss}

    model = Custom()
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    history = model.fit(x, y, epochs=20, batch_size=10, verbose=0).history
    assert sorted(history) == ["gap", "last"]
    assert history["gap"][-1] < history["gap"][0]


def test_custom_train_step_that_returns_its_loss_only(data):
    class Plain(keras.Sequential):
        def train_step(self, batch):
            x, y = batch
            with keras.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            variables = self.trainable_variables
            self.optimizer.apply_gradients(
                zip(tape.gradient(loss, variables), variables, strict=True)
            )
            return {"loss": loss}

    model = Plain([keras.Input((4,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.0), loss="mse")
    history = model.fit(*data, batch_size=50, verbose=0)
    x, y = data
    np.testing.assert_allclose(history.history["loss"], [((x.sum(1) - y) ** 2).mean()], rtol=1e-5)


@pytest.fixture
def policy():
    yield keras.mixed_precision.set_global_policy
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_learns(policy, data, name):
    keras.utils.set_random_seed(0)
    policy(name)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(2),
            keras.layers.Activation("softmax", dtype="float32"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (name == "mixed_float16")
    history = model.fit(*data, epochs=40, batch_size=10, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    assert {v.dtype for v in model.trainable_variables} == {"float32"}


def test_custom_compute_loss(data):
    x, y = data

    class Doubled(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)

    results = []
    for cls in (keras.Sequential, Doubled):
        model = cls([keras.Input((4,)), keras.layers.Dense(1, kernel_initializer="ones")])
        model.compile(loss="mse")
        results.append(model.evaluate(x, y, verbose=0))
    np.testing.assert_allclose(results[1], 2 * results[0], rtol=1e-6)


def test_a_subclassed_model_is_built_by_fit(data):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(5, activation="relu")
            self.out = keras.layers.Dense(2)

        def call(self, x, training=False):
            return self.out(self.hidden(x))

    model = Net()
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(*data, epochs=1, verbose=0)
    assert model.count_params() == 4 * 5 + 5 + 5 * 2 + 2
    assert np.isfinite(history.history["loss"][0])
    fresh = Net()
    assert fresh.predict(data[0][:3], verbose=0).shape == (3, 2)


def test_eager_models_may_look_at_values(data):
    class Curious(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)
            self.seen = []

        def call(self, x):
            self.seen.append(float(keras.ops.max(x)))
            return self.dense(x) if self.seen[-1] > 0 else x[:, :1]

    model = Curious()
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(*data, verbose=0)
    assert max(model.seen) == pytest.approx(float(data[0].max()))
    strict = Curious()
    strict.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"run eagerly \(compile\(run_eagerly=True\)\)"):
        strict.fit(*data, verbose=0)


def test_single_batch_methods(data):
    x, y = data
    model = classifier()
    loss, accuracy = model.train_on_batch(x, y)
    assert 0 <= accuracy <= 1 and np.isfinite(loss)
    logs = model.train_on_batch(x, y, class_weight={0: 2.0}, return_dict=True)
    assert sorted(logs) == ["accuracy", "loss"]
    assert len(model.test_on_batch(x, y)) == 2
    np.testing.assert_allclose(
        model.predict_on_batch(x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-7
    )


def test_freezing_a_layer_takes_effect_in_the_next_fit(data):
    model = classifier()
    model.fit(*data, verbose=0)
    model.layers[0].trainable = False
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    before = [v.numpy() for v in model.layers[0].weights]
    last = model.layers[1].kernel.numpy()
    model.fit(*data, verbose=0)
    for v, old in zip(model.layers[0].weights, before, strict=True):
        np.testing.assert_array_equal(v.numpy(), old)
    assert (model.layers[1].kernel.numpy() != last).any()


def test_interrupt_keeps_history_and_leaves_the_model_usable(data):
    model = classifier()

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    hook = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data, epochs=9, verbose=0, callbacks=[hook])
    assert model.history.epoch == [0, 1] and len(model.history.history["loss"]) == 2
    model.fit(*data, epochs=1, verbose=0)
    assert model.predict(data[0], verbose=0).shape == (50, 2)


@pytest.mark.parametrize("eager", [False, True])
def test_a_signal_interrupts_many_steps_in_one_call(data, eager):
    model = classifier(run_eagerly=eager)
    timers = []

    def press_ctrl_c_later(epoch, logs):
        if not timers:
            timers.append(threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)))
            timers[0].start()

    hook = keras.callbacks.LambdaCallback(on_epoch_begin=press_ctrl_c_later)
    x, y = np.tile(data[0], (2000, 1)), np.tile(data[1], 2000)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=10**6, verbose=0, callbacks=[hook])
    assert len(model.history.history.get("loss", [])) == len(model.history.epoch)
    assert np.isfinite(model.evaluate(*data, verbose=0)).all()


def test_validation_data_of_every_kind(data):
    x, y = data
    found = []
    for validation in (
        (x, y),
        [x, y],
        Batches(x, y, 10),
        Batches(x, y, 10, workers=2),
    ):
        keras.utils.set_random_seed(0)
        model = classifier()
        history = model.fit(x, y, verbose=0, validation_data=validation, validation_batch_size=10)
        found.append(history.history["val_loss"])
    np.testing.assert_allclose(found, np.repeat(found[:1], 4, axis=0), rtol=1e-6)
    steps = classifier().fit(
        x, y, epochs=2, verbose=0, validation_data=generator(x, y, 10), validation_steps=2
    )
    assert len(steps.history["val_loss"]) == 2


def test_compile_config_goes_round(data):
    model = classifier(loss_weights=None)
    config = model.get_compile_config()
    other = keras.Sequential.from_config(model.get_config())
    other.compile_from_config(config)
    assert other.optimizer.get_config() == model.optimizer.get_config()
    assert other.loss == "sparse_categorical_crossentropy"
    assert other.get_compile_config() == config


# --- bad use ------------------------------------------------------------------------------------


def test_fit_before_compile(data):
    model = keras.Sequential([keras.layers.Dense(1)])
    for method in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError, match=r"the model is not compiled; call model\.compile"):
            method(*data)


def test_lengths_that_differ_and_empty_data(data):
    x, y = data
    with pytest.raises(ValueError, match=r"number of samples \(first axis\); got x 50, y 49"):
        classifier().fit(x, y[:-1], verbose=0)
    with pytest.raises(ValueError, match="the data set is empty"):
        classifier().fit(x[:0], y[:0], verbose=0)
    with pytest.raises(ValueError, match="the data set is empty"):
        classifier().fit(iter([]), verbose=0)


def test_wrong_feature_size_names_layer_and_shapes(data):
    with pytest.raises(ValueError, match=r"4.*3|3.*4"):
        classifier().fit(data[0][:, :3], data[1], verbose=0)


def test_one_hot_labels_for_a_sparse_loss(data):
    x, y = data
    with pytest.raises(ValueError, match=r"integer class labels.*one-hot labels\. Use categorical"):
        classifier().fit(x, np.eye(2)[y], verbose=0)


def test_integer_labels_for_a_categorical_loss(data):
    x, y = data
    for labels in (y, y[:, None]):
        with pytest.raises(ValueError, match=r"must be one-hot.*integer labels\. Use sparse_"):
            classifier(loss="categorical_crossentropy", metrics=None).fit(x, labels, verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "generator"])
def test_labels_out_of_range(data, method):
    x, y = data
    model = classifier()
    weights = model.get_weights()
    text = r"label out of range; expected integers from 0 to 1 .* from 1 to 2.*start at 1"
    with pytest.raises(ValueError, match=text):
        if method == "generator":
            model.fit(iter([(x, y + 1)]), verbose=0)
        elif method == "train_on_batch":
            model.train_on_batch(x, y + 1)
        else:
            getattr(model, method)(x, y + 1, verbose=0)
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="got values from -1 to 0"):
        model.fit(x, y - 1, verbose=0)


def test_missing_targets_and_missing_loss(data):
    with pytest.raises(ValueError, match="no targets for output.*y is missing"):
        classifier().fit(data[0], verbose=0)
    model = regressor(loss=None)
    with pytest.raises(ValueError, match=r"no loss to train on; pass loss=…"):
        model.fit(*data, verbose=0)


def test_targets_that_would_broadcast(data):
    x, _ = data
    with pytest.raises(ValueError, match=r"expected y_true of shape \(32, 3\), got \(32,\)"):
        regressor(units=3).fit(x, x[:, 0], verbose=0)


def test_unknown_names(data):
    with pytest.raises(ValueError, match="unknown loss; expected .*'mse'.*got 'msee'"):
        regressor(loss="msee").fit(*data, verbose=0)
    with pytest.raises(ValueError, match="unknown metric.*got 'acuracy'"):
        classifier(metrics=["acuracy"]).fit(*data, verbose=0)
    with pytest.raises(ValueError, match="unknown optimizer.*got 'adamm'"):
        regressor(optimizer="adamm")
    with pytest.raises(ValueError, match=r"loss_weights must be numbers; got 'mae'.*metrics=\["):
        regressor(loss_weights=["mae"])
    with pytest.raises(ValueError, match="metrics must be a list, tuple or dict; got 'mae'"):
        regressor(metrics="mae")


def test_nan_in_data_gives_a_nan_loss_not_an_error(data):
    x, y = data
    x = x.copy()
    x[3] = np.nan
    history = classifier().fit(x, y, verbose=0)
    assert np.isnan(history.history["loss"][0])


def test_a_changed_sequential_model_is_compiled_again(data):
    x, _ = data
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    assert model.predict(x[:2], verbose=0).shape == (2, 3)
    model.add(keras.layers.Dense(5))
    assert model.predict(x[:2], verbose=0).shape == (2, 5)
    model.pop()
    assert model.predict(x[:2], verbose=0).shape == (2, 3)


def test_single_batches_follow_changes_of_the_model():
    inner = keras.layers.Dense(3, name="inner")
    model = keras.Sequential([keras.Input((2,)), inner, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 2), "float32"), np.zeros((4, 1), "float32")
    model.train_on_batch(x, y)
    model.train_on_batch(x, y)
    inner.trainable = False
    before = inner.kernel.numpy()
    model.train_on_batch(x, y)
    np.testing.assert_array_equal(inner.kernel, before)
    inner.trainable = True
    model.train_on_batch(x, y)
    assert not np.array_equal(inner.kernel, before)


def test_prediction_of_one_batch_goes_by_a_function_of_the_users():
    class Twice(keras.Sequential):
        def make_predict_function(self, force=False):
            if self.predict_function is None:
                inner = super().make_predict_function(force)
                self.predict_function = lambda data: inner(data) * 2.0
            return self.predict_function

    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    twice = Twice([keras.Input((3,)), keras.layers.Dense(2)])
    twice.set_weights(plain.get_weights())
    for x in (np.ones((1, 3), "float32"), np.ones((40, 3)), np.ones((4, 6), "float32")[:, ::2]):
        y = plain.predict_on_batch(x)
        assert type(y) is np.ndarray and y.dtype == "float32" and y.flags.writeable
        np.testing.assert_allclose(y, plain(x), rtol=1e-6)
        np.testing.assert_allclose(twice.predict_on_batch(x), 2 * y, rtol=1e-6)


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", ">i4", "int64", "uint8", "float16", "bool"])
def test_prediction_of_arrays_of_any_dtype(dtype):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    x = (np.arange(24).reshape(4, 6) % 5).astype(dtype)
    y = x.astype("float32") @ model.get_weights()[0]
    for _ in range(2):  # the second call finds its program
        for result in (model(x), model.predict_on_batch(x), model.predict(x, verbose=0)):
            np.testing.assert_allclose(result, y, rtol=1e-3, atol=1e-3)
