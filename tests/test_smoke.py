"""Half a minute of everything: run before every commit that lands."""

import numpy as np

import hornbeam as keras
from hornbeam import backend
from hornbeam.backend import _core


def test_the_core_loads_and_names_its_level():
    assert _core.isa_level() in ("baseline", "avx2", "avx512", "amx")
    assert _core.num_threads() >= 1


def test_a_tensor_goes_to_numpy_and_back():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = backend.convert_to_tensor(a)
    assert t.shape == (2, 3) and t.dtype == "float32"
    np.testing.assert_array_equal(np.asarray(t), a)


def test_digits_are_learned(tmp_path):
    keras.utils.set_random_seed(0)
    (x, y), (x_test, y_test) = keras.datasets.digits.load_data()
    x, x_test = x[..., None].astype("float32") / 16, x_test[..., None].astype("float32") / 16
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(5e-3), loss=loss, metrics=["accuracy"])
    history = model.fit(x, y, batch_size=32, epochs=5, verbose=0, validation_split=0.1)
    assert history.history["loss"][-1] < 0.3 * history.history["loss"][0]
    assert model.evaluate(x_test, y_test, verbose=0)[1] > 0.93


def test_recurrent_and_attention_layers_train():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    tokens = keras.Input((12,), dtype="int32")
    x = layers.Embedding(20, 16, mask_zero=True)(tokens)
    x = x + layers.MultiHeadAttention(2, 8)(layers.LayerNormalization()(x), x)
    x = layers.Bidirectional(layers.LSTM(8))(x)
    model = keras.Model(tokens, layers.Dense(1, activation="sigmoid")(x))
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="binary_crossentropy")
    r = np.random.default_rng(0)
    x = r.integers(1, 20, (64, 12))
    y = (x.sum(1) > x.sum(1).mean()).astype("float32")
    losses = model.fit(x, y, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_gradients_of_a_tape():
    x = keras.ops.convert_to_tensor([1.0, 2.0])
    with keras.GradientTape() as tape:
        tape.watch(x)
        y = keras.ops.sum(keras.ops.exp(x) * x)
    np.testing.assert_allclose(tape.gradient(y, x), np.exp([1, 2]) * [2, 3], rtol=1e-6)
