"""`quantize("int8")`: integers with scales in place of weights, in layers, models and files."""

import warnings

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import dtype_policies, layers, ops, quantizers

RNG = np.random.default_rng(0)

LAYERS = {
    "dense": lambda: (layers.Dense(7), (4, 16)),
    "dense without bias, three axes": lambda: (layers.Dense(7, use_bias=False), (2, 5, 16)),
    "einsum": lambda: (layers.EinsumDense("abc,cde->abde", (5, 2, 3), bias_axes="de"), (2, 5, 16)),
    "einsum, two axes summed": lambda: (layers.EinsumDense("abxy,xyz->abz", (3, 6)), (2, 3, 4, 8)),
    "einsum, batched kernel": lambda: (layers.EinsumDense("abc,bcd->abd", (3, 6)), (2, 3, 8)),
    "einsum, reordered": lambda: (layers.EinsumDense("abc,dc->adb", (7, 5)), (2, 5, 16)),
    "einsum, ellipsis left": lambda: (layers.EinsumDense("...x,xy->...y", 7), (2, 3, 4, 16)),
    "einsum, ellipsis right": lambda: (layers.EinsumDense("ab...,bc->ac...", 7), (2, 16, 3)),
}


def input_gradient(layer, x):
    with keras.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        weights = ops.reshape(ops.cos(ops.arange(y.size, dtype="float32")), y.shape)
        total = ops.sum(y * weights)
    return tape.gradient(total, x).numpy()


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_about_the_same_with_the_gradient_of_the_integers(name):
    layer, shape = LAYERS[name]()
    x = ops.convert_to_tensor(RNG.standard_normal(shape).astype("float32"))
    expected = layer(x).numpy()
    kernel = layer.kernel.numpy()
    layer.quantize("int8")
    found = layer(x)
    assert found.dtype == "float32" and layer.kernel.dtype == "int8"
    # both factors are off by up to half a step of 127; the errors of a sum add up like its root
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())
    floats = layer.kernel.numpy() / layer._scale_of_weight(layer.kernel_scale).numpy()
    np.testing.assert_allclose(floats, kernel, atol=0.51 * np.abs(kernel).max() / 127)

    same, _ = LAYERS[name]()
    same(x)
    same.kernel.assign(floats)
    np.testing.assert_allclose(input_gradient(layer, x), input_gradient(same, x), atol=1e-5)


def test_embedding():
    layer = layers.Embedding(10, 6)
    ids = np.array([[1, 2], [3, 9]])
    expected = layer(ids).numpy()
    layer.quantize("int8")
    assert layer.embeddings_scale.shape == (10,)
    np.testing.assert_allclose(layer(ids), expected, atol=0.51 * 0.05 / 127)
    assert not layer.trainable_weights


def transformer_like():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(20, 16)(inputs)
    x = layers.MultiHeadAttention(2, 8)(x, x)
    x = layers.LayerNormalization()(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


IDS = RNG.integers(0, 20, (4, 5)).astype("int32")


def quantized(model, **kwargs):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.quantize("int8", **kwargs)
    return [str(w.message) for w in said]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_model_and_its_files(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = transformer_like()
    finally:
        keras.config.set_dtype_policy("float32")
    expected = model.predict(IDS, verbose=0).astype("float32")
    paths = {v.path for v in model.weights}
    said = quantized(model)
    assert len(said) == 1 and "layer_normalization" in said[0]
    found = model.predict(IDS, verbose=0)
    np.testing.assert_array_equal(np.asarray(model(IDS), "float32"), found.astype("float32"))
    np.testing.assert_allclose(found.astype("float32"), expected, atol=0.05)
    assert not np.array_equal(found, expected)
    assert paths < {v.path for v in model.weights}
    policies = {
        layer.dtype_policy.name for layer in model.layers if isinstance(layer, layers.Dense)
    }
    assert policies == {f"int8_from_{policy}"}

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(IDS, verbose=0), found)
    assert [v.dtype for v in again.weights] == [v.dtype for v in model.weights]
    model.save_weights(tmp_path / "model.weights.h5")
    again.set_weights([np.zeros_like(w) for w in again.get_weights()])
    again.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(again.predict(IDS, verbose=0), found)
    with pytest.raises(ValueError, match="another architecture"):
        transformer_like().load_weights(tmp_path / "model.weights.h5")


def test_what_is_not_quantized_is_trained_on():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = RNG.standard_normal((16, 4)), RNG.standard_normal((16, 1))
    model.fit(x, y, verbose=0)
    model.quantize("int8", filters=model.layers[0].name + "$")
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    names = [v.path.rpartition("/")[2] for v in model.weights]
    assert dict(zip(names[:3], changed[:3], strict=True)) == {
        "bias": True,
        "kernel": False,
        "kernel_scale": False,
    }
    assert all(changed[3:]) and model.layers[1].quantization_mode is None


def test_filters():
    def build():
        return keras.Sequential(
            [keras.Input((4,)), layers.Dense(8, name="first"), layers.Dense(1, name="last")]
        )

    for filters in ("^fir", ["nothing", "first"], lambda layer: layer.name == "first"):
        model = build()
        model.quantize("int8", filters=filters)
        assert [layer.quantization_mode for layer in model.layers] == ["int8", None]
    with pytest.raises(TypeError, match="expected a regular expression"):
        build().quantize("int8", filters=3)


def test_configurations():
    config = quantizers.Int8QuantizationConfig(
        weight_quantizer=quantizers.AbsMaxQuantizer(axis=0, value_range=(-7, 7)),
        activation_quantizer=None,
    )
    layer = layers.Dense(3)
    x = RNG.standard_normal((2, 4)).astype("float32")
    layer(x)
    layer.quantize(config=config)
    assert np.abs(layer.kernel.numpy()).max() == 7
    exact = x @ (layer.kernel.numpy() / layer.kernel_scale.numpy())
    np.testing.assert_allclose(layer(x), exact, rtol=1e-5, atol=1e-6)  # inputs stay floats

    again = layers.Dense.from_config(layer.get_config())
    again.build((None, 4))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))
    assert again.quantization_config.activation_quantizer is None


def test_by_policy():
    layer = layers.Dense(3, dtype="int8_from_float32")
    assert layer(np.ones((2, 4))).shape == (2, 3)
    assert [v.dtype for v in layer.weights] == ["float32", "int8", "float32"]
    later = layers.Dense(3)
    later(np.ones((2, 4)))
    later.dtype_policy = "int8_from_float32"
    assert later.kernel.dtype == "int8"
    policy = dtype_policies.get("int8_from_mixed_bfloat16")
    assert (policy.compute_dtype, policy.variable_dtype) == ("bfloat16", "float32")
    assert policy.quantization_mode == "int8"
    assert dtype_policies.deserialize(dtype_policies.serialize(policy)) == policy


def test_wrong_use():
    model = keras.Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match="not built, call the model on data first"):
        model.quantize("int8")
    model.build((None, 4))
    for mode in ("int4", None, "int9"):
        with pytest.raises(ValueError, match=f"expected the mode 'int8'.*got {mode!r}"):
            model.quantize(mode)
    with pytest.raises(TypeError, match="expected a QuantizationConfig"):
        model.quantize(config={"mode": "int8"})
    with pytest.raises(ValueError, match="contradicts"):
        model.quantize("int4", config=quantizers.Int8QuantizationConfig())
    assert model.layers[0].kernel.dtype == "float32"
    model.quantize("int8")
    with pytest.raises(ValueError, match="quantized already"):
        model.quantize("int8")
    with pytest.raises(ValueError, match="range of float16"):
        layers.Dense(3, dtype="int8_from_mixed_float16")
    half = layers.Dense(3, dtype="float16")
    half.build((None, 4))
    with pytest.raises(ValueError, match="range of float16"):
        half.quantize("int8")
    assert half.kernel.dtype == "float16"

    class Mine(layers.Dense):
        pass

    mine = Mine(3)
    mine.build((None, 4))
    with pytest.raises(NotImplementedError, match="type_check=False"):
        mine.quantize("int8")
    mine.quantize("int8", type_check=False)
    assert mine.kernel.dtype == "int8"
    with pytest.raises(NotImplementedError, match="does not support `quantize`"):
        layers.Flatten().quantize("int8")
    with pytest.raises(ValueError, match="within"):
        quantizers.AbsMaxQuantizer(value_range=(-200, 200))


def test_quantizers_as_data():
    q = quantizers.AbsMaxQuantizer(axis=(0, 1), value_range=(-7, 7))
    assert quantizers.deserialize(quantizers.serialize(q)).get_config() == q.get_config()
    assert isinstance(quantizers.get("abs_max_quantizer"), quantizers.AbsMaxQuantizer)
    assert quantizers.get(None) is None and quantizers.get(q) is q
    with pytest.raises(ValueError, match="expected a quantizer"):
        quantizers.get("no such thing")
    values, scale = q(np.array([[1.0, -2.0], [0.0, 0.5]], "float32"))
    assert values.numpy().tolist() == [[4, -7], [0, 2]] and scale.shape == (1, 1)
    zeros, scale = quantizers.abs_max_quantize(np.zeros((2, 2), "float32"), axis=-1)
    assert not zeros.numpy().any() and np.isfinite(scale.numpy()).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(5, 1), (3, 4, 100), (2, 4099), (70, 64)])
def test_rows_by_their_absolute_maximum(shape, dtype):
    """The kernel of rows gives the numbers of the composition, which serves all other axes."""
    x = 3 * np.random.default_rng(0).standard_normal(shape)
    x[0] = 0
    x = ops.cast(x, dtype)
    assert quantizers._quantized_rows.node_op.has_kernel([keras.backend.Spec((), dtype)])

    @keras.function
    def quantized(x):
        turned = ops.moveaxis(x, -1, 0)
        return [
            quantizers.abs_max_quantize(y, axis=axis, value_range=(-127, 100))
            for y, axis in ((x, -1), (turned, 0))
        ]

    (q, scale), (q2, scale2) = quantized(x)
    assert q.dtype == "int8" and scale.dtype == dtype and scale.shape == (*shape[:-1], 1)
    np.testing.assert_array_equal(
        ops.cast(ops.moveaxis(scale, -1, 0), "float64"), ops.cast(scale2, "float64")
    )
    np.testing.assert_array_equal(ops.moveaxis(q, -1, 0), q2)
    wide = np.asarray(ops.cast(x, "float64"))
    exact = np.clip(np.rint(wide[1:] * np.asarray(ops.cast(scale, "float64"))[1:]), -127, 100)
    assert not q.numpy()[0].any() and abs(q.numpy()[1:] - exact).max() <= (dtype != "float64")


def test_rows_without_numbers():
    x = np.array([[1.0, np.nan, -1.0], [np.inf, 1.0, -1.0], [1.0, -2.0, 0.5]], "float32")
    q, scale = quantizers.abs_max_quantize(x, axis=-1)
    assert np.isnan(scale.numpy()[0]) and scale.numpy()[1] == 0
    assert q.numpy()[2].tolist() == [64, -127, 32]
    q, scale = quantizers.abs_max_quantize(np.zeros((3, 0), "float32") + 1, axis=0)
    assert q.shape == (3, 0)


WIDE = [-0.8857142] * 5 + [-0.4428571, 0.0, 0.4428571, 0.8857142, 1.3285713] + [2.2142856] * 3
NARROW = [-1.0333333] * 5 + [-0.5166667, 0.0, 0.5166667, 1.0333333, 1.55] + [2.0666666] * 3


@pytest.mark.parametrize("narrow, steps", [(False, WIDE), (True, NARROW)])
def test_fake_quantization_is_that_of_keras(narrow, steps):
    """Numbers of Keras 3.15."""
    x = np.linspace(-3, 3, 13).astype("float32")
    found = quantizers.fake_quant_with_min_max_vars(x, -1.1, 2.0, 3, narrow_range=narrow)
    np.testing.assert_allclose(found, steps, rtol=1e-6)


def test_fake_quantization_gradient():
    x = ops.convert_to_tensor([[-3.0, 0.2, 5.0], [0.1, 9.0, 0.3]])
    low, high = keras.Variable([0.0, 0.0, 0.0]), keras.Variable([1.0, 1.0, 1.0])
    with keras.GradientTape() as tape:
        tape.watch(x)
        y = quantizers.fake_quant_with_min_max_vars(x, low, high, axis=1)
        total = ops.sum(y * [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    dx, dlow, dhigh = tape.gradient(total, [x, low, high])
    assert dx.numpy().tolist() == [[0, 2, 0], [4, 0, 6]]
    assert dlow.numpy().tolist() == [1, 0, 0] and dhigh.numpy().tolist() == [0, 5, 3]
