"""Layer: state, building, calling, masks, dtypes, losses, configuration, errors."""

import json

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import layers, ops


@pytest.fixture(autouse=True)
def fresh_names():
    keras.utils.clear_session()


class Scale(layers.Layer):
    def __init__(self, start=2.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.factor = self.add_weight(
            shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.start)
        )

    def call(self, inputs):
        return inputs * self.factor


class Block(layers.Layer):
    """Two layers without a `build` of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = [layers.Dense(3), layers.Dropout(0.5)]
        self.last = layers.Dense(2)

    def call(self, inputs, training=None):
        x = inputs
        for layer in self.inner:
            x = layer(x)
        return self.last(x)


def ones(*shape):
    return np.ones(shape, "float32")


# ------------------------------------------------------------------ names and state


def test_names_count_per_session_and_in_snake_case():
    assert [layers.Dense(1).name for _ in range(3)] == ["dense", "dense_1", "dense_2"]
    assert layers.LayerNormalization().name == "layer_normalization"
    assert layers.ReLU().name == "re_lu"
    assert layers.Conv2DTranspose(1, 1).name == "conv2d_transpose"
    keras.utils.clear_session()
    assert layers.Dense(1).name == "dense"
    with pytest.raises(ValueError, match="without '/'"):
        layers.Dense(1, name="a/b")


def test_sublayers_in_containers_are_found_in_order():
    class Many(layers.Layer):
        def __init__(self):
            super().__init__()
            self.blocks = []
            self.head = layers.Dense(1)
            self.table = {"a": layers.Dense(2)}
            self.pair = (layers.Dense(3), 7)
            self.blocks.append(layers.Dense(4))

    units = [layer.units for layer in Many()._flatten_layers(include_self=False)]
    assert units == [1, 2, 3, 4]


def test_weights_are_in_the_order_of_creation_and_paths_name_the_layers():
    block = Block(name="block")
    block(ones(2, 4))
    assert [w.path for w in block.weights] == [
        "block/dense/kernel",
        "block/dense/bias",
        "block/dense_1/kernel",
        "block/dense_1/bias",
    ]
    assert len(block.variables) == len(block.weights) + 1  # the seed of the dropout
    assert len(block.non_trainable_variables) == 1


def test_a_shared_layer_counts_once():
    shared = layers.Dense(2)
    shared(ones(1, 2))

    class Two(layers.Layer):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.both = shared, shared, [shared, shared]

    assert len(Two().weights) == 2


def test_trainable_reaches_sublayers_and_moves_weights():
    block = Block()
    block(ones(2, 4))
    order = [w.path for w in block.weights]
    block.trainable = False
    assert block.trainable_weights == [] and len(block.non_trainable_weights) == 4
    assert not block.last.trainable
    block.trainable = True
    block.inner[0].trainable = False
    assert [w.path for w in block.trainable_weights] == order[2:]
    assert [w.path for w in block.weights] == order


def test_batch_normalization_lists_gamma_beta_mean_variance():
    layer = layers.BatchNormalization()
    layer(ones(2, 3))
    names = [w.name for w in layer.weights]
    assert names == ["gamma", "beta", "moving_mean", "moving_variance"]


def test_new_state_on_a_built_layer_is_an_error():
    layer = layers.Dense(2)
    layer(ones(1, 2))
    with pytest.raises(ValueError, match="already built"):
        layer.more = layers.Dense(1)


def test_super_init_must_come_first():
    class Forgot(layers.Layer):
        def __init__(self):
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    with pytest.raises(RuntimeError, match="super"):
        Forgot()(ones(1, 1))


def test_get_and_set_weights():
    layer = layers.Dense(2)
    layer(ones(1, 3))
    values = [np.full((3, 2), 2.0, "float32"), np.array([1.0, -1.0], "float32")]
    layer.set_weights(values)
    np.testing.assert_array_equal(layer(ones(1, 3)), [[7.0, 5.0]])
    with pytest.raises(ValueError, match=r"expected 2 weights, got 1"):
        layer.set_weights(values[:1])
    with pytest.raises(ValueError, match=r"expected shape \(3, 2\).*got \(2, 3\)"):
        layer.set_weights([values[0].T, values[1]])


def test_own_variables_that_do_not_fit():
    layer = layers.Dense(2)
    with pytest.raises(ValueError, match="never built"):
        layer.load_own_variables({"0": ones(2, 2)})
    layer(ones(1, 2))
    with pytest.raises(ValueError, match="expected 2 variables"):
        layer.load_own_variables({"0": ones(2, 2)})


def test_count_params():
    layer = layers.Dense(2)
    with pytest.raises(ValueError, match="not built"):
        layer.count_params()
    layer(ones(1, 3))
    assert layer.count_params() == 8


# ------------------------------------------------------------------ building


def test_build_by_shapes_of_several_arguments():
    class Bilinear(layers.Layer):
        def build(self, a_shape, b_shape):
            self.kernel = self.add_weight(shape=(a_shape[-1], b_shape[-1]))

        def call(self, a, b):
            return ops.sum(ops.matmul(a, self.kernel) * b, axis=-1)

    layer = Bilinear()
    assert layer(ones(2, 3), b=ones(2, 5)).shape == (2,)
    assert layer.kernel.shape == (3, 5)
    assert layer.get_build_config() == {"shapes_dict": {"a_shape": (2, 3), "b_shape": (2, 5)}}
    other = Bilinear()
    other.build_from_config({"shapes_dict": {"a_shape": [2, 3], "b_shape": [2, 5]}})
    assert other.kernel.shape == (3, 5)


def test_unknown_feature_size_is_an_error():
    with pytest.raises(ValueError, match="known shape.*None"):
        layers.Dense(2)(keras.Input((None,)))


def test_sublayers_are_built_on_symbolic_inputs_with_unknown_sizes():
    block = Block()
    y = block(keras.Input((None, 4)))
    assert y.shape == (None, None, 2)
    assert block.inner[0].get_build_config() == {"input_shape": (None, None, 4)}


# ------------------------------------------------------------------ calling


def test_wrong_inputs_name_the_layer_and_both_shapes():
    layer = layers.Dense(2, name="head")
    layer(ones(2, 4))
    with pytest.raises(ValueError, match=r"Dense 'head'.*size 4.*got shape \(2, 3\)"):
        layer(ones(2, 3))
    with pytest.raises(ValueError, match=r"Conv2D 'conv2d'.*rank.*got shape \(2, 4\)"):
        layers.Conv2D(1, 3)(ones(2, 4))
    with pytest.raises(ValueError, match=r"LSTM 'lstm'.*rank 3.*got shape \(2, 4\)"):
        layers.LSTM(1)(ones(2, 4))
    with pytest.raises(ValueError, match="only tensors"):
        layers.Dense(1)("text")
    with pytest.raises(TypeError, match="Dense 'dense.*unexpected"):
        layers.Dense(1)(ones(1, 1), nothing=1)
    with pytest.raises(ValueError, match="expected a list"):
        layers.Add()(ones(1, 1))


def test_training_is_handed_to_inner_layers():
    seen = []

    class Probe(layers.Layer):
        def call(self, inputs, training=None):
            seen.append(training)
            return inputs

    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.probe = Probe()

        def call(self, inputs):
            return self.probe(inputs)

    outer = Outer()
    outer(ones(1, 1), training=True)
    outer(ones(1, 1), training=False)
    outer(ones(1, 1))
    assert seen[-3:] == [True, False, None]


def test_masks_are_handed_on():
    x = np.array([[1, 2, 0], [3, 0, 0]])
    embedded = layers.Embedding(5, 4, mask_zero=True)(x)
    mask = embedded._keras_mask
    np.testing.assert_array_equal(mask, x != 0)
    np.testing.assert_array_equal(layers.Dense(2)(embedded)._keras_mask, mask)
    np.testing.assert_array_equal(layers.LSTM(2, return_sequences=True)(embedded)._keras_mask, mask)
    assert getattr(layers.LSTM(2)(embedded), "_keras_mask", None) is None
    both = layers.Concatenate()([embedded, embedded])
    np.testing.assert_array_equal(both._keras_mask, mask)
    with pytest.warns(UserWarning, match="does not support masking"):
        layers.Conv1D(1, 1)(embedded)


def test_masked_steps_do_not_count():
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    x[0, 3:] = 0
    masking = layers.Masking()
    for layer in (layers.LSTM(4), layers.GRU(4), layers.GlobalAveragePooling1D()):
        np.testing.assert_allclose(layer(masking(x))[:1], layer(x[:1, :3]), rtol=1e-5, atol=1e-6)


def test_activity_regularizer_and_add_loss():
    class Loss(layers.Layer):
        def call(self, inputs):
            self.add_loss(ops.sum(inputs))
            return inputs

    layer = layers.Dense(
        2, activity_regularizer="l1", kernel_regularizer="l2", kernel_initializer="ones"
    )
    layer(ones(4, 3))
    activity, kernel = (float(x) for x in layer.losses)
    assert activity == pytest.approx(0.01 * 4 * 2 * 3 / 4) and kernel == pytest.approx(0.01 * 6)
    loss = Loss()
    loss(ones(2, 2))
    loss(ones(2, 2))
    assert [float(x) for x in loss.losses] == [4.0]  # of the last call
    with pytest.raises(ValueError, match="add_loss"):
        loss.add_loss(1.0)


def test_symbolic_calls_leave_no_losses_behind():
    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.ActivityRegularization(l1=1.0)

        def call(self, inputs):
            return self.inner(inputs)

    layer = Outer()
    layer(keras.Input((3,)))
    assert layer.losses == []


def test_stateless_call_changes_nothing():
    layer = layers.BatchNormalization(momentum=0.0)
    layer(ones(2, 3))
    before = layer.get_weights()
    x = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]], "float32")
    trainable = [ops.full((3,), 2.0), ops.full((3,), 1.0)]
    state = [v.value for v in layer.non_trainable_variables]
    y, new = layer.stateless_call(trainable, state, x, training=True)
    np.testing.assert_allclose(y, [[-1, -1, -1], [3, 3, 3]], atol=2e-3)
    np.testing.assert_allclose(new[0], [2, 3, 4])
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------ dtypes


def test_mixed_precision():
    layer = layers.Dense(2, dtype="mixed_bfloat16")
    y = layer(ones(1, 3))
    assert (y.dtype, layer.kernel.dtype, layer.compute_dtype) == ("bfloat16", "float32", "bfloat16")
    assert layer.variable_dtype == layer.dtype == "float32"
    policy = json.loads(json.dumps(layer.get_config()))["dtype"]
    assert policy["config"] == {"name": "mixed_bfloat16"}
    assert layers.Dense.from_config(layer.get_config()).compute_dtype == "bfloat16"


def test_integers_are_not_cast():
    class Dtype(layers.Layer):
        def call(self, inputs):
            self.seen = inputs.dtype
            return inputs

    layer = Dtype(dtype="float16")
    layer(np.arange(3))
    assert layer.seen == "int64"
    layer(ones(3))
    assert layer.seen == "float16"
    layer = Dtype(dtype="float16", autocast=False)
    layer(ones(3))
    assert layer.seen == "float32"


def test_policy_map():
    policies = keras.dtype_policies.DTypePolicyMap()
    policies["head"] = "mixed_float16"
    layer = layers.Dense(1, dtype=policies, name="head")
    layer.build((None, 2))
    assert layer.compute_dtype == "float16"
    assert layers.Dense(1, dtype=policies).compute_dtype == "float32"
    again = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(policies)))
    )
    assert again["head"].name == "mixed_float16"


# ------------------------------------------------------------------ configuration


def test_a_layer_without_get_config_is_described_by_its_arguments():
    scale = Scale(start=3.0, name="s")
    config = json.loads(json.dumps(scale.get_config()))
    assert config["start"] == 3.0 and config["name"] == "s"
    again = Scale.from_config(config)
    np.testing.assert_array_equal(again(ones(1, 2)), [[3.0, 3.0]])


def test_arguments_that_cannot_be_written():
    class Holder(layers.Layer):
        def __init__(self, thing):
            super().__init__()

    with pytest.raises(NotImplementedError, match="thing.*get_config"):
        Holder(object()).get_config()


def test_own_get_config_extends_the_base():
    class Mine(layers.Dense):
        def __init__(self, units, extra=0, **kwargs):
            super().__init__(units, **kwargs)
            self.extra = extra

        def get_config(self):
            return {**super().get_config(), "extra": self.extra}

    config = Mine(3, extra=5, activation="relu").get_config()
    assert (config["units"], config["extra"], config["activation"]) == (3, 5, "relu")
    assert Mine.from_config(config).extra == 5


def test_unknown_arguments():
    with pytest.raises(ValueError, match="unknown arguments.*'foo'"):
        layers.Dense(1, foo=2)
    with pytest.raises(ValueError, match="units.*positive"):
        layers.Dense(0)


# ------------------------------------------------------------------ some layers


def test_stateful_rnn_continues_and_resets():
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    whole = layers.LSTM(4)
    expected = whole(x).numpy()
    part = layers.LSTM(4, stateful=True)
    part(keras.Input(batch_shape=(2, 3, 3)))
    part.set_weights(whole.get_weights())
    part(x[:, :3])
    np.testing.assert_allclose(part(x[:, 3:]), expected, rtol=1e-5, atol=1e-6)
    part.reset_state()
    part(x[:, :3])
    np.testing.assert_allclose(part(x[:, 3:]), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="expected 2, got 1"):
        part(x[:1])
    with pytest.raises(ValueError, match="known batch size"):
        layers.LSTM(1, stateful=True)(keras.Input((3, 3)))


def test_recurrent_layers_take_initial_states():
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    layer = layers.LSTM(5, return_state=True, return_sequences=True)
    sequence, h, c = layer(x)
    _, h1, c1 = layer(x[:, :2])
    second, h2, c2 = layer(x[:, 2:], initial_state=[h1, c1])
    np.testing.assert_allclose(second, sequence[:, 2:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(c2, c, rtol=1e-5, atol=1e-6)
    assert h.shape == (2, 5)


def test_a_cell_of_ones_own():
    class Sum(layers.Layer):
        state_size = 3

        def call(self, inputs, states):
            total = states[0] + inputs
            return total, [total]

    x = np.arange(12, dtype="float32").reshape(1, 4, 3)
    np.testing.assert_array_equal(layers.RNN(Sum())(x), x.sum(1))
    steps = layers.RNN(Sum(), return_sequences=True, go_backwards=True)(x)
    np.testing.assert_array_equal(steps, x[:, ::-1].cumsum(1))


def test_dropout_is_the_same_at_every_step_of_a_sequence():
    layer = layers.SimpleRNN(
        3, dropout=0.5, activation="linear", recurrent_initializer="zeros", seed=1,
        kernel_initializer="identity", return_sequences=True,
    )  # fmt: skip
    y = layer(ones(1, 5, 3), training=True).numpy()
    assert set(np.unique(y)) <= {0.0, 2.0} and (y == y[:, :1]).all()


def test_spatial_dropout_drops_whole_channels():
    y = layers.SpatialDropout2D(0.5, seed=0)(ones(4, 3, 3, 8), training=True).numpy()
    assert (y == y[:, :1, :1]).all() and 0 < (y == 0).mean() < 1


def test_normalization_adapts_to_batches():
    data = np.random.default_rng(0).normal(3.0, 2.0, size=(100, 4))
    layer = layers.Normalization()
    layer.adapt(data[i : i + 7] for i in range(0, 100, 7))
    y = layer(data).numpy()
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(0), 1, atol=1e-5)
    back = layers.Normalization(mean=data.mean(0), variance=data.var(0), invert=True)(y)
    np.testing.assert_allclose(back, data, rtol=1e-4, atol=1e-4)


def test_attention_masks():
    layer = layers.MultiHeadAttention(2, 3)
    x = np.random.default_rng(0).normal(size=(1, 4, 5)).astype("float32")
    y, scores = layer(x, x, use_causal_mask=True, return_attention_scores=True)
    assert np.triu(scores.numpy(), 1).max() < 1e-6
    np.testing.assert_allclose(layer(x, x, use_causal_mask=True), y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        layer(x[:, :2], x[:, :2], use_causal_mask=True), y[:, :2], rtol=1e-5, atol=1e-6
    )
    mask = np.array([[True, True, False, False]])
    np.testing.assert_allclose(
        layer(x, x, value_mask=mask), layer(x, x[:, :2]), rtol=1e-5, atol=1e-6
    )


def test_a_causal_order_beside_a_mask_and_in_a_subclass():
    class Own(layers.MultiHeadAttention):
        def _compute_attention(
            self, query, key, value, attention_mask=None, training=None,
            return_attention_scores=False,
        ):  # fmt: skip
            seen.append(np.asarray(attention_mask))
            return super()._compute_attention(query, key, value, attention_mask, training, True)

    r, seen = np.random.default_rng(0), []
    x, mask = r.standard_normal((2, 9, 8)).astype("float32"), r.random((2, 9, 9)) > 0.6
    layer, own = layers.MultiHeadAttention(2, 4), Own(2, 4)
    layer.build(x.shape, x.shape)
    own.build(x.shape, x.shape)
    own.set_weights(layer.get_weights())
    for kwargs in ({}, {"attention_mask": mask}):
        y = layer(x, x, use_causal_mask=True, **kwargs)
        np.testing.assert_allclose(
            y, own(x, x, use_causal_mask=True, **kwargs), rtol=1e-4, atol=1e-6
        )
    np.testing.assert_array_equal(seen[0][0], np.tril(np.ones((9, 9), bool)))
    np.testing.assert_array_equal(seen[1], mask & np.tril(np.ones((9, 9), bool)))


def test_lambda_is_saved_by_name_only():
    layer = layers.Lambda(lambda x: x + 1.0)
    np.testing.assert_array_equal(layer(ones(1)), [2.0])
    with pytest.raises(ValueError, match="lambda"):
        layer.get_config()

    @keras.saving.register_keras_serializable("tests")
    def twice(x, factor=2.0):
        return x * factor

    layer = layers.Lambda(twice, arguments={"factor": 3.0})
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(again(ones(1)), [3.0])
