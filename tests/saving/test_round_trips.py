"""What is saved comes back: weights, state of the optimizer, configuration, sharing, own classes."""

import json
import os
import zipfile

import common
import h5py
import numpy as np
import pytest
from common import architectures

import hornbeam as keras
from hornbeam import layers, ops

X = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")
Y = np.random.default_rng(1).normal(size=(6, 2)).astype("f4")


def assert_same(a, b, x=X):
    assert [w.shape for w in a.weights] == [w.shape for w in b.weights]
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)
    ours, theirs = common.outputs(a, x), common.outputs(b, x)
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key])


def through(model, path, **arguments):
    model.save(path)
    return keras.models.load_model(path, **arguments)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", architectures.NAMES)
def test_training_goes_on_bit_by_bit(tmp_path, name, ending):
    model = common.trained(name)
    again = through(model, tmp_path / f"m{ending}")
    x, y = common.data(name)
    assert_same(model, again, x)
    np.testing.assert_array_equal(common.optimizer_state(model), common.optimizer_state(again))
    if ending == ".keras" or name in architectures.DETERMINISTIC:
        for _ in range(3):  # an HDF5 file has no place for the state of Dropout
            model.train_on_batch(x, y)
            again.train_on_batch(x, y)
        assert_same(model, again, x)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_weights_files(tmp_path, name):
    model = common.trained(name)
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    again = architectures.build(keras, name)
    again.load_weights(path)
    assert_same(model, again, common.data(name)[0])


def test_layout_of_a_keras_file(tmp_path):
    """Members, groups and arrays are those that Keras wrote for the same model."""
    model = common.trained("mlp")
    model.save(tmp_path / "m.keras")
    trees = []
    for path in (tmp_path / "m.keras", common.FIXTURES / "mlp.keras"):
        with zipfile.ZipFile(path) as z:
            assert z.testzip() is None
            assert z.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
            assert all(info.compress_type == zipfile.ZIP_STORED for info in z.infolist())
            config = json.loads(z.read("config.json"))
            found = {}
            with z.open("model.weights.h5") as member, h5py.File(member) as f:
                f.visititems(
                    lambda name, item, found=found: found.setdefault(
                        name, getattr(item, "shape", dict(item.attrs))
                    )
                )
            trees.append(found)
    assert trees[0] == trees[1]
    assert list(config) == [
        "module", "class_name", "config", "registered_name", "build_config", "compile_config",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda o: o.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda o: o.RMSprop(0.1, momentum=0.5, centered=True),
        lambda o: o.Adam(o.schedules.ExponentialDecay(0.1, 2, 0.9), amsgrad=True, clipnorm=1.0),
        lambda o: o.AdamW(0.1, use_ema=True, ema_overwrite_frequency=3),
        lambda o: o.Nadam(0.1),
        lambda o: o.Adagrad(0.1, global_clipnorm=2.0),
        lambda o: o.Adadelta(0.1),
        lambda o: o.Adamax(0.1),
        lambda o: o.Ftrl(0.1),
        lambda o: o.Lion(0.1, clipvalue=0.5),
        lambda o: o.Lamb(0.1),
        lambda o: o.Adafactor(0.1),
        lambda o: o.Adam(0.1, gradient_accumulation_steps=2),
        lambda o: o.LossScaleOptimizer(o.Adam(0.1)),
    ],
)
def test_optimizers(tmp_path, optimizer):
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3, "tanh"), layers.Dense(2)])
    model.compile(optimizer(keras.optimizers), "mse")
    for _ in range(3):
        model.train_on_batch(X, Y)
    again = through(model, tmp_path / "m.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for _ in range(3):
        model.train_on_batch(X, Y)
        again.train_on_batch(X, Y)
    assert_same(model, again)
    np.testing.assert_array_equal(common.optimizer_state(model), common.optimizer_state(again))


def test_random_state_goes_on(tmp_path):
    model = keras.Sequential(
        [layers.Input((4,)), layers.Dropout(0.5), layers.GaussianNoise(0.1), layers.Dense(2)]
    )
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    again = through(model, tmp_path / "m.keras")
    for _ in range(2):
        model.train_on_batch(X, Y)
        again.train_on_batch(X, Y)
    assert_same(model, again)


def test_compile_configuration(tmp_path):
    inputs = keras.Input((4,), name="in")
    model = keras.Model(
        inputs, {"a": layers.Dense(2, name="a")(inputs), "b": layers.Dense(1, name="b")(inputs)}
    )
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 5)),
        loss={"a": keras.losses.Huber(0.3), "b": "mae"},
        loss_weights={"a": 2.0, "b": 0.5},
        metrics={"a": [keras.metrics.MeanSquaredError(name="m")], "b": ["mse"]},
        steps_per_execution=2,
    )
    targets = {"a": Y, "b": Y[:, :1]}
    model.train_on_batch(X, targets)
    again = through(model, tmp_path / "m.keras")
    assert again.loss["a"].get_config() == model.loss["a"].get_config()
    assert again.loss["b"] == "mae"
    assert again.steps_per_execution == 2
    ours = model.evaluate(X, targets, verbose=0, return_dict=True)
    theirs = again.evaluate(X, targets, verbose=0, return_dict=True)
    assert ours == theirs
    assert len(ours) >= 3


def test_before_the_first_step(tmp_path):
    model = keras.Sequential([layers.Input((4,)), layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.125), "mse")
    for ending in (".keras", ".h5"):
        again = through(model, tmp_path / f"m{ending}")
        assert float(again.optimizer.learning_rate) == 0.125
        again.train_on_batch(X, Y)


def test_unbuilt_and_empty_models(tmp_path):
    with pytest.warns(UserWarning, match="is not built"):
        again = through(keras.Sequential([layers.Dense(2)]), tmp_path / "m.keras")
    assert not again.built
    assert again(X).shape == (6, 2)


def test_a_layer_shared_by_two_models_stays_one(tmp_path):
    shared = layers.Dense(3, name="shared")
    a, b, x = (keras.Input((4,)) for _ in range(3))
    left = keras.Model(a, shared(a), name="left")
    right = keras.Model(b, ops.tanh(shared(b)), name="right")
    model = keras.Model(x, layers.Add()([left(x), right(x), shared(x)]))
    assert len(model.weights) == 2
    again = through(model, tmp_path / "m.keras")
    assert_same(model, again)
    assert len(again.weights) == 2


def test_nested_models_and_ops(tmp_path):
    inner = keras.Sequential(
        [layers.Input((4,)), layers.Dense(4, "relu"), layers.BatchNormalization()]
    )
    x = keras.Input((4,), name="x")
    y = inner(x) * 2.0 + ops.sum(x, axis=-1, keepdims=True)
    y = ops.concatenate([y, inner(y)], axis=-1)
    model = keras.Model(x, [layers.Dense(2)(y), y[:, 1:3]])
    model.compile("adam", ["mse", None])
    model.train_on_batch(X, [Y, Y])
    again = through(model, tmp_path / "m.keras")
    assert_same(model, again)
    inner.trainable = False
    again = through(model, tmp_path / "m.h5", compile=False)
    assert [len(m.trainable_weights) for m in (model, again)] == [2, 2]
    assert_same(model, again)


@keras.saving.register_keras_serializable("tests")
def double(x):
    return x * 2


@keras.saving.register_keras_serializable("tests")
class Scale(keras.Layer):
    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.scale = self.add_weight(
            shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.start)
        )

    def call(self, x):
        return x * self.scale

    def get_config(self):
        return {**super().get_config(), "start": self.start}


@keras.saving.register_keras_serializable("tests")
class Net(keras.Model):
    """Layers in lists, tuples, dictionaries and other layers."""

    def __init__(self, widths, **kwargs):
        super().__init__(**kwargs)
        self.widths = list(widths)
        self.stack = [layers.Dense(w, "relu") for w in widths]
        self.pair = (Scale(2.0), [layers.Dense(3)])
        self.table = {"b": layers.Dense(4), "a": layers.Dense(2)}
        self._private = layers.BatchNormalization()

    def call(self, x, training=None):
        for layer in self.stack:
            x = layer(x)
        x = self.pair[1][0](self.pair[0](x))
        return self.table["a"](self._private(self.table["b"](x), training=training))

    def get_config(self):
        return {**super().get_config(), "widths": self.widths}


def test_own_classes_and_functions(tmp_path):
    model = keras.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(3, activation=double),
            Scale(0.5),
            layers.Lambda(double),
            layers.Dense(2, kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2)),
        ]
    )
    for ending in (".keras", ".h5"):
        again = through(model, tmp_path / f"m{ending}")
        assert_same(model, again)
        assert again.layers[1].start == 0.5
    assert (
        json.loads(zipfile.ZipFile(tmp_path / "m.keras").read("config.json"))["config"]["layers"][
            2
        ]["registered_name"]
        == "tests>Scale"
    )


def test_subclassed_models(tmp_path):
    model = Net([5, 4])
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    again = through(model, tmp_path / "m.keras")
    assert_same(model, again)
    for m in (model, again):
        m.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    assert_same(model, again)
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as f:
        names = []
        f.visit(names.append)
    # as in Keras, "layers" comes before the attributes that follow it in the alphabet
    assert {f"layers/{n}/vars/0" for n in ("dense", "dense_4", "scale", "batch_normalization")} <= {
        *names
    }


def test_containers_in_layers(tmp_path):
    class Block(keras.Layer):
        def __init__(self):
            super().__init__()
            self.stack = [layers.Dense(4), layers.Dense(4)]
            self.pair = (Scale(2.0), [layers.Dense(4)])
            self.table = {"b": layers.Dense(4), "a": layers.Dense(2)}
            self._private = layers.BatchNormalization()

        def call(self, x):
            for layer in (*self.stack, self.pair[0], self.pair[1][0], *self.table.values()):
                x = layer(x)
            return self._private(x)

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def call(self, x):
            return self.block(x)

    model, again = Outer(), Outer()
    model(X), again(X)
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as f:
        names = []
        f.visit(names.append)
    assert {
        f"block/{name}/vars/0"
        for name in (
            "stack/dense", "stack/dense_1", "pair/scale", "pair/container/dense", "table/dense",
            "table/dense_1", "_private",
        )
    } <= {*names}  # fmt: skip
    again.load_weights(tmp_path / "m.weights.h5")
    assert_same(model, again)


@keras.saving.register_keras_serializable("tests")
class Words(keras.Layer):
    """Keeps a vocabulary beside the weights, as lookup layers do."""

    words = ()

    def call(self, x):
        return x

    def save_assets(self, folder):
        with open(os.path.join(folder, "vocabulary.txt"), "w", encoding="utf-8") as f:
            f.write("\n".join(self.words))

    def load_assets(self, folder):
        with open(os.path.join(folder, "vocabulary.txt"), encoding="utf-8") as f:
            self.words = tuple(f.read().split("\n"))


def test_assets(tmp_path):
    inner = keras.Sequential([layers.Input((4,)), Words(), Words(), layers.Dense(2)])
    inner.layers[0].words, inner.layers[1].words = ("a", "grün"), ("b",)
    model = keras.Sequential([layers.Input((4,)), inner])
    again = through(model, tmp_path / "m.keras")
    assert [layer.words for layer in again.layers[0].layers[:2]] == [("a", "grün"), ("b",)]
    with zipfile.ZipFile(tmp_path / "m.keras") as z:
        assert z.namelist()[3:] == [
            "assets/layers/sequential/layers/words/vocabulary.txt",
            "assets/layers/sequential/layers/words_1/vocabulary.txt",
        ]


def test_classes_given_by_the_caller(tmp_path):
    class Mine(keras.Layer):
        def call(self, x):
            return x + 1

    model = keras.Sequential([layers.Input((4,)), Mine()])
    model.save(tmp_path / "m.keras")
    with pytest.raises(TypeError, match=r"unknown class 'Mine'(.|\n)*custom_objects"):
        keras.models.load_model(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras", custom_objects={"Mine": Mine})
    assert_same(model, again)
    with keras.saving.CustomObjectScope({"Mine": Mine}):
        keras.models.load_model(tmp_path / "m.keras")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "float16", "float64"])
def test_dtypes(tmp_path, policy):
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3, dtype=policy), layers.Dense(2)])
    model.layers[0].kernel.assign(np.linspace(-3, 3, 12).reshape(4, 3))
    again = through(model, tmp_path / "m.keras")
    assert [w.dtype for w in again.weights] == [w.dtype for w in model.weights]
    assert_same(model, again)
    with zipfile.ZipFile(tmp_path / "m.keras") as z, z.open("model.weights.h5") as member:
        with h5py.File(member) as f:
            dataset = f["layers/dense/vars/0"]
            if policy == "bfloat16":
                assert dataset.dtype == "V2" and dataset.attrs["dtype"] == "bfloat16"


def test_skip_mismatch(tmp_path):
    def build(units):
        return keras.Sequential([layers.Input((4,)), layers.Dense(3), layers.Dense(units)])

    small, large = build(2), build(5)
    small.save_weights(tmp_path / "m.weights.h5")
    small.save(tmp_path / "m.h5")
    before = large.get_weights()
    for path in (tmp_path / "m.weights.h5", tmp_path / "m.h5"):
        with pytest.raises(ValueError, match=r"expected shape \(3, 5\)(.|\n)*got\s+\(3, 2\)"):
            large.load_weights(path)
        for a, b in zip(before, large.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)  # nothing was changed
    for path in (tmp_path / "m.weights.h5", tmp_path / "m.h5"):
        with pytest.warns(UserWarning, match=r"expected shape \(3, 5\)"):
            large.load_weights(path, skip_mismatch=True)
        np.testing.assert_array_equal(large.get_weights()[0], small.get_weights()[0])
        np.testing.assert_array_equal(large.get_weights()[2], before[2])
        large.set_weights(before)


def test_another_architecture(tmp_path):
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3)])
    model.save_weights(tmp_path / "m.weights.h5")
    model.save(tmp_path / "m.h5")
    other = keras.Sequential([layers.Input((4,)), layers.Dense(3)])
    other.add(layers.Dense(1, name="more"))
    with pytest.raises(ValueError, match=r"Dense 'more'\): expected 2 arrays, got 0"):
        other.load_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="holds weights for 1 layers"):
        other.load_weights(tmp_path / "m.h5")


def test_by_name(tmp_path):
    def build(*names):
        return keras.Sequential([layers.Input((4,)), *(layers.Dense(4, name=n) for n in names)])

    saved, other = build("a", "b"), build("b", "c")
    saved.save(tmp_path / "m.h5")
    other.load_weights(tmp_path / "m.h5", by_name=True)
    np.testing.assert_array_equal(other.get_weights()[0], saved.get_weights()[2])
    saved.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="by_name=True needs the older HDF5 format"):
        other.load_weights(tmp_path / "m.weights.h5", by_name=True)


def test_many_layers_in_an_hdf5_file(tmp_path):
    """More names than fit into one attribute."""
    x = keras.Input((2,))
    y = x
    for i in range(4100):
        y = layers.Rescaling(1.0, name=f"layer_{i}")(y)
    model = keras.Model(x, layers.Dense(1)(y))
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as f:
        assert {"layer_names0", "layer_names1"} <= set(f["model_weights"].attrs)
    again = keras.Model(x, layers.Dense(1)(y))
    again.load_weights(tmp_path / "m.h5")
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m, p: m.save(p / "m.pt"), ValueError, "ends in `.keras`"),
        (lambda m, p: m.save(p / "m.weights.h5"), ValueError, "use `save_weights`"),
        (lambda m, p: m.save(p / "m.keras", zipped=False), ValueError, "zipped=False"),
        (lambda m, p: m.save_weights(p / "m.h5"), ValueError, "ends in `.weights.h5`"),
        (lambda m, p: m.load_weights(p / "none.weights.h5"), FileNotFoundError, "File not found"),
        (lambda m, p: keras.models.load_model(p / "none.keras"), FileNotFoundError, "not found"),
        (lambda m, p: keras.models.load_model(p), ValueError, "got a folder"),
        (
            lambda m, p: m.save(p / "missing" / "m.keras"),
            FileNotFoundError,
            "could not write|No such",
        ),
    ],
)
def test_paths(tmp_path, call, error, text):
    model = keras.Sequential([layers.Input((4,)), layers.Dense(2)])
    with pytest.raises(error, match=text):
        call(model, tmp_path)


def test_overwrite(tmp_path):
    model = keras.Sequential([layers.Input((4,)), layers.Dense(2)])
    for save, name in ((model.save, "m.keras"), (model.save_weights, "m.weights.h5")):
        save(tmp_path / name)
        before = (tmp_path / name).read_bytes()
        with pytest.raises(FileExistsError, match="overwrite=True"):
            save(tmp_path / name, overwrite=False)
        assert (tmp_path / name).read_bytes() == before


def test_what_cannot_be_saved(tmp_path):
    model = keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: x)])
    with pytest.raises(ValueError, match="`lambda` has no name"):
        model.save(tmp_path / "m.keras")
    model = Net([2])
    model(X)
    with pytest.raises(NotImplementedError, match="path that ends in `.keras`"):
        model.save(tmp_path / "m.h5")
    assert list(tmp_path.iterdir()) == []
