"""Layers: outputs, gradients to inputs and weights, and updated state, from fixed weights."""

import jax
import keras
import numpy as np
import recorded
from jax import numpy as jnp

from recording import store


def L(name, **kwargs):
    return {"class": f"layers.{name}", "kwargs": kwargs}


def specs():
    """(name, recipe, inputs, call arguments); an input is a shape or an array."""
    image, volume, series = (2, 5, 4, 4), (1, 4, 4, 3, 2), (2, 7, 4)

    yield "dense", L("Dense", units=5), [(3, 4)], {}
    yield "dense/3d", L("Dense", units=3, activation="gelu"), [(2, 3, 4)], {}
    yield "dense/no_bias", L("Dense", units=2, use_bias=False, activation="tanh"), [(3, 4)], {}
    for activation in (
        "relu sigmoid softmax softplus softsign silu elu selu exponential leaky_relu relu6 "
        "hard_sigmoid hard_silu log_softmax mish celu linear"
    ).split():
        yield f"activation/{activation}", L("Activation", activation=activation), [(2, 5)], {}

    for padding in ("same", "valid", "causal"):
        kwargs = {"filters": 3, "kernel_size": 3, "padding": padding}
        yield f"conv1d/{padding}", L("Conv1D", **kwargs), [series], {}
        yield f"conv1d/{padding}/strides", L("Conv1D", strides=2, **kwargs), [series], {}
        yield f"conv1d/{padding}/dilation", L("Conv1D", dilation_rate=2, **kwargs), [series], {}
    yield "conv1d/groups", L("Conv1D", filters=6, kernel_size=2, groups=2), [series], {}
    for padding in ("same", "valid"):
        kwargs = {"filters": 3, "kernel_size": [3, 2], "padding": padding}
        yield f"conv2d/{padding}", L("Conv2D", **kwargs), [image], {}
        yield f"conv2d/{padding}/strides", L("Conv2D", strides=[2, 3], **kwargs), [image], {}
        yield f"conv2d/{padding}/dilation", L("Conv2D", dilation_rate=[2, 1], **kwargs), [image], {}
        yield (
            f"conv2d/{padding}/channels_first",
            L("Conv2D", data_format="channels_first", **kwargs),
            [(2, 4, 5, 4)],
            {},
        )
        kwargs = {"filters": 2, "kernel_size": [2, 3, 2], "padding": padding}
        yield f"conv3d/{padding}", L("Conv3D", **kwargs), [volume], {}
        yield f"conv3d/{padding}/strides", L("Conv3D", strides=2, **kwargs), [volume], {}
        kwargs = {"kernel_size": 3, "padding": padding}
        yield f"depthwise/{padding}", L("DepthwiseConv2D", **kwargs), [image], {}
        yield (
            f"depthwise/{padding}/multiplier",
            L("DepthwiseConv2D", depth_multiplier=2, strides=2, **kwargs),
            [image],
            {},
        )
        for size in (4, 5):
            yield (
                f"conv2d/{padding}/strides_2_of_{size}",
                L("Conv2D", filters=1, kernel_size=3, strides=2, padding=padding),
                [(1, size, size, 1)],
                {},
            )
    yield "conv2d/groups", L("Conv2D", filters=4, kernel_size=3, groups=2), [image], {}
    yield "conv2d/1x1", L("Conv2D", filters=3, kernel_size=1, activation="relu"), [image], {}
    yield "conv2d/no_bias", L("Conv2D", filters=2, kernel_size=3, use_bias=False), [image], {}
    yield "conv3d/dilation", L("Conv3D", filters=2, kernel_size=2, dilation_rate=2), [volume], {}
    yield "conv3d/groups", L("Conv3D", filters=2, kernel_size=2, groups=2), [volume], {}
    yield "depthwise/dilation", L("DepthwiseConv2D", kernel_size=2, dilation_rate=2), [image], {}

    shapes = {"1D": series, "2D": image, "3D": volume}
    for rank, shape in shapes.items():
        for kind in ("Max", "Average"):
            for padding in ("same", "valid"):
                name, pool = f"{kind}Pooling{rank}", f"pool/{kind.lower()}{rank}/{padding}"
                yield pool, L(name, pool_size=2, padding=padding), [shape], {}
                yield (
                    f"{pool}/overlap",
                    L(name, pool_size=3, strides=2, padding=padding),
                    [shape],
                    {},
                )
            for keep in (False, True):
                yield (
                    f"pool/global_{kind.lower()}{rank}{'/keepdims' * keep}",
                    L(f"Global{kind}Pooling{rank}", keepdims=keep),
                    [shape],
                    {},
                )
    first = {"data_format": "channels_first"}
    yield "pool/max2D/channels_first", L("MaxPooling2D", pool_size=2, **first), [(1, 2, 4, 6)], {}
    yield "pool/global_average2D/channels_first", L("GlobalAveragePooling2D", **first), [image], {}
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool)
    yield "pool/global_average1D/mask", L("GlobalAveragePooling1D"), [(2, 4, 3)], {"mask": mask}

    yield "flatten", L("Flatten"), [(2, 3, 4)], {}
    yield "flatten/channels_first", L("Flatten", **first), [(2, 3, 2, 2)], {}
    yield "flatten/vector", L("Flatten"), [(4,)], {}
    yield "reshape", L("Reshape", target_shape=[-1, 2]), [(2, 3, 4)], {}
    yield "permute", L("Permute", dims=[2, 1]), [(2, 3, 4)], {}

    for training in (True, False):
        call = {"training": training}
        tail = "training" if training else "inference"
        yield f"batch_norm/{tail}", L("BatchNormalization", momentum=0.9), [(6, 3)], call
        yield f"batch_norm/{tail}/image", L("BatchNormalization"), [(2, 3, 3, 4)], call
        yield f"batch_norm/{tail}/axis", L("BatchNormalization", axis=1), [(3, 2, 4)], call
        yield (
            f"batch_norm/{tail}/bare",
            L("BatchNormalization", center=False, scale=False, epsilon=0.1),
            [(5, 2)],
            call,
        )
    mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
    call = {"training": True, "mask": mask}
    yield "batch_norm/training/mask", L("BatchNormalization"), [(2, 3, 4)], call
    yield "layer_norm", L("LayerNormalization"), [(3, 5)], {}
    yield "layer_norm/axes", L("LayerNormalization", axis=[1, 2], epsilon=1e-2), [(2, 3, 4)], {}
    yield "layer_norm/axis_1", L("LayerNormalization", axis=1), [(2, 3, 4)], {}
    yield "layer_norm/bare", L("LayerNormalization", center=False, scale=False), [(3, 5)], {}
    yield "rms_norm", L("RMSNormalization"), [(3, 4)], {}
    yield "rms_norm/axes", L("RMSNormalization", axis=[1, 2], epsilon=1e-2), [(2, 3, 4)], {}

    tokens = np.array([[1, 2, 0, 0], [4, 0, 0, 0], [3, 3, 1, 5]], "int32")
    yield "embedding", L("Embedding", input_dim=6, output_dim=3), [tokens], {}
    yield (
        "embedding/mask_zero",
        L("Embedding", input_dim=6, output_dim=3, mask_zero=True),
        [tokens],
        {},
    )

    holes = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 1, 0]], bool)
    whole = np.array([[0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], bool)
    sequence = (3, 5, 3)
    kinds = {
        "simple_rnn": ("SimpleRNN", {}),
        "lstm": ("LSTM", {}),
        "gru": ("GRU", {}),
        "gru/reset_before": ("GRU", {"reset_after": False}),
    }
    for name, (kind, extra) in kinds.items():
        r = {"units": 3, **extra}
        yield name, L(kind, **r), [sequence], {}
        yield f"{name}/sequences", L(kind, return_sequences=True, **r), [sequence], {}
        every = {"return_sequences": True, "return_state": True}
        yield f"{name}/state", L(kind, return_state=True, **r), [sequence], {}
        yield f"{name}/backwards", L(kind, go_backwards=True, **every, **r), [sequence], {}
        yield f"{name}/mask", L(kind, **every, **r), [sequence], {"mask": holes}
        yield f"{name}/mask_last", L(kind, **r), [sequence], {"mask": whole}
        zero = {"zero_output_for_mask": True, "return_sequences": True}
        yield f"{name}/mask_zero_output", L(kind, **zero, **r), [sequence], {"mask": holes}
        yield f"{name}/backwards/mask", L(kind, go_backwards=True, **r), [sequence], {"mask": holes}
        yield f"{name}/relu", L(kind, activation="relu", use_bias=False, **r), [sequence], {}
        yield f"{name}/unroll", L(kind, unroll=True, **r), [sequence], {"mask": holes}
    yield (
        "lstm/hard_sigmoid",
        L("LSTM", units=3, recurrent_activation="hard_sigmoid"),
        [sequence],
        {},
    )

    for mode in ("concat", "sum", "mul", "ave", None):
        for kind in ("LSTM", "GRU"):
            inner = L(kind, units=2, return_sequences=True)
            b = L("Bidirectional", layer=inner, merge_mode=mode)
            yield f"bidirectional/{kind.lower()}/{mode}", b, [sequence], {}
    inner = L("LSTM", units=2, return_sequences=False)
    yield "bidirectional/last", L("Bidirectional", layer=inner), [sequence], {"mask": holes}
    inner = L("GRU", units=2, return_sequences=True, return_state=True)
    yield "bidirectional/state", L("Bidirectional", layer=inner), [sequence], {"mask": holes}
    yield "time_distributed", L("TimeDistributed", layer=L("Dense", units=2)), [(2, 3, 4)], {}
    inner = L("Conv2D", filters=2, kernel_size=2)
    yield "time_distributed/conv", L("TimeDistributed", layer=inner), [(2, 3, 4, 4, 1)], {}

    heads = {"num_heads": 2, "key_dim": 3}
    attention = L("MultiHeadAttention", **heads)
    yield "attention/cross", attention, [(2, 4, 5), (2, 3, 5)], {}
    yield "attention/key_and_value", attention, [(2, 4, 5), (2, 3, 6), (2, 3, 4)], {}
    yield "attention/causal", attention, [(2, 4, 5), (2, 4, 5)], {"use_causal_mask": True}
    seen = np.array([[[1, 0, 1], [1, 1, 1], [0, 1, 0], [1, 0, 0]]] * 2, bool)
    yield "attention/mask", attention, [(2, 4, 5), (2, 3, 5)], {"attention_mask": seen}
    padded = np.array([[1, 1, 0], [1, 0, 0]], bool)
    yield "attention/value_mask", attention, [(2, 4, 5), (2, 3, 5)], {"value_mask": padded}
    scores = {"return_attention_scores": True}
    yield "attention/scores", attention, [(2, 4, 5), (2, 3, 5)], scores
    other = L("MultiHeadAttention", output_shape=[4], use_bias=False, **heads)
    yield "attention/sizes", other, [(2, 4, 5), (2, 3, 5)], {}
    wide = L("MultiHeadAttention", attention_axes=[1, 2], **heads)
    yield "attention/axes", wide, [(1, 2, 3, 4), (1, 2, 2, 4)], {}

    yield "relu", L("ReLU"), [(2, 6)], {}
    options = {"max_value": 1.0, "negative_slope": 0.25, "threshold": 0.5}
    yield "relu/options", L("ReLU", **options), [(3, 6)], {}
    yield "softmax", L("Softmax"), [(2, 6)], {}
    yield "softmax/axis", L("Softmax", axis=1), [(2, 3, 4)], {}
    mask = np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
    yield "softmax/mask", L("Softmax"), [(2, 4)], {"mask": mask}
    yield "leaky_relu", L("LeakyReLU", negative_slope=0.2), [(2, 6)], {}
    yield "add", L("Add"), [[(2, 3), (2, 3), (2, 3)]], {}
    yield "add/broadcast", L("Add"), [[(2, 3, 4), (2, 1, 4)]], {}
    yield "concatenate", L("Concatenate"), [[(2, 3), (2, 1)]], {}
    yield "concatenate/axis", L("Concatenate", axis=1), [[(2, 3, 4), (2, 1, 4)]], {}
    yield "rescaling", L("Rescaling", scale=0.5, offset=-1.0), [(2, 3)], {}
    yield "rescaling/channels", L("Rescaling", scale=[0.5, 2.0], offset=[0.0, 1.0]), [(3, 2)], {}


def material(r, spec):
    if isinstance(spec, list):
        return [material(r, s) for s in spec]
    return store.normal(r, *spec) if isinstance(spec, tuple) else spec


def is_float(x):
    return jnp.issubdtype(x.dtype, jnp.floating)


def record(name, recipe, inputs, call):
    r = store.rng(name)
    inputs = [material(r, s) for s in inputs]
    layer = recorded.construct(recipe, keras)
    layer(*inputs, **call)
    for w in layer.weights:
        value = store.normal(r, *w.shape, scale=0.5)
        w.assign(np.abs(value) + 0.5 if "variance" in w.name else value)

    flat = jax.tree_util.tree_leaves(inputs)
    tree = jax.tree_util.tree_structure(inputs)
    floating = [i for i, x in enumerate(flat) if is_float(x)]
    trainable = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]

    def forward(trainable, chosen):
        values = list(flat)
        for i, x in zip(floating, chosen, strict=True):
            values[i] = x
        arguments = jax.tree_util.tree_unflatten(tree, values)
        out, new = layer.stateless_call(trainable, state, *arguments, **call)
        out = jax.tree_util.tree_leaves(out)
        total = sum(jnp.sum(o * recorded.cotangent(o.shape)) for o in out if is_float(o))
        return total, (out, new)

    gradient = jax.grad(forward, argnums=(0, 1), has_aux=True)
    (to_weights, to_inputs), (outputs, new) = gradient(trainable, [flat[i] for i in floating])

    weights = layer.get_weights()
    case = {
        "name": name,
        "layer": recipe,
        "call": call,
        "inputs": inputs,
        "weight_names": [w.path.split("/", 1)[1] for w in layer.weights],
        "weights": weights,
        "outputs": [np.asarray(o) for o in outputs],
        "input_gradients": [np.asarray(g) for g in to_inputs],
        "weight_gradients": [np.asarray(g) for g in to_weights],
    }
    mask = getattr(layer, "compute_mask", None)
    if name == "embedding/mask_zero":
        case["output_mask"] = np.asarray(mask(inputs[0]))
    if name.startswith("batch_norm/training"):
        case["new_state"] = [np.asarray(v) for v in new]
    return case


def cases():
    for spec in specs():
        try:
            yield record(*spec)
        except Exception as error:
            raise RuntimeError(f"layers: {spec[0]}") from error
