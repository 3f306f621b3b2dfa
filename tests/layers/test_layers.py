"""Every layer through `check_layer`."""

import pytest

import hornbeam as keras
from tests.support.layer_check import LayerCase, check_layer

series, image, volume = (2, 6, 4), (2, 6, 5, 4), (2, 4, 4, 3, 2)
plain = {"masking": False}


def dense():
    return keras.layers.Dense(3)


def lstm():
    return keras.layers.LSTM(2, return_sequences=True)


def cells():
    return [keras.layers.LSTMCell(3), keras.layers.GRUCell(2)]


CASES = [
    LayerCase("Dense", (3, 4), {"units": 5, "activation": "tanh"}, weights=(2, 0)),
    LayerCase("Dense", series, {"units": 2, "use_bias": False}, weights=(1, 0), name="Dense 3D"),
    LayerCase(
        "EinsumDense",
        series,
        {"equation": "abc,cde->abde", "output_shape": (None, 2, 3), "bias_axes": "de"},
        weights=(2, 0),
        masking=False,
    ),
    LayerCase(
        "EinsumDense",
        series,
        {"equation": "...x,xy->...y", "output_shape": 3, "bias_axes": "y"},
        weights=(2, 0),
        masking=False,
        name="EinsumDense ellipsis",
    ),
    LayerCase(
        "Embedding",
        (2, 5),
        {"input_dim": 7, "output_dim": 3, "mask_zero": True},
        integers=7,
        weights=(1, 0),
    ),
    LayerCase("Identity", series),
    LayerCase("Masking", series),
    LayerCase("Activation", (3, 4), {"activation": "silu"}),
    LayerCase("ReLU", (3, 4), {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2}),
    LayerCase("LeakyReLU", (3, 4)),
    LayerCase("ELU", (3, 4), {"alpha": 0.5}),
    LayerCase("PReLU", series, {"shared_axes": [1]}, weights=(1, 0)),
    LayerCase("Softmax", series, {"axis": [1, 2]}),
    LayerCase("Dropout", series, {"rate": 0.5}),
    LayerCase("Dropout", series, {"rate": 0.5, "seed": 1}, {"training": True}, gradient=False),
    LayerCase("SpatialDropout1D", series, {"rate": 0.5}),
    LayerCase("SpatialDropout2D", image, {"rate": 0.5}),
    LayerCase("SpatialDropout3D", volume, {"rate": 0.5}),
    LayerCase("GaussianNoise", series, {"stddev": 0.5}),
    LayerCase("GaussianDropout", series, {"rate": 0.5}),
    LayerCase("AlphaDropout", series, {"rate": 0.5}, {"training": True}, gradient=False),
    LayerCase("ActivityRegularization", series, {"l1": 0.1}),
    LayerCase("Flatten", image, **plain),
    LayerCase("Reshape", image, {"target_shape": (10, -1)}, **plain),
    LayerCase("Permute", series, {"dims": (2, 1)}, **plain),
    LayerCase("RepeatVector", (2, 3), {"n": 4}, **plain),
    LayerCase("ZeroPadding1D", series, {"padding": (1, 2)}, **plain),
    LayerCase("ZeroPadding2D", image, {"padding": ((1, 2), (0, 3))}, **plain),
    LayerCase("ZeroPadding3D", volume, {"padding": 1}, **plain),
    LayerCase("Cropping1D", series, {"cropping": (1, 2)}, **plain),
    LayerCase("Cropping2D", image, {"cropping": ((1, 2), (0, 3))}, **plain),
    LayerCase("Cropping3D", volume, {"cropping": 1}, **plain),
    LayerCase("UpSampling1D", series, {"size": 3}, **plain),
    LayerCase("UpSampling2D", image, {"size": (2, 3)}, **plain),
    LayerCase("UpSampling3D", volume, **plain),
    *[LayerCase(name, [(2, 3), (2, 3)]) for name in ("Add", "Subtract", "Multiply", "Average")],
    *[LayerCase(name, [(2, 3), (2, 3), (2, 3)]) for name in ("Maximum", "Minimum")],
    LayerCase("Add", [(2, 3, 4), (2, 4)], name="Add ranks"),
    LayerCase("Concatenate", [(2, 3, 4), (2, 1, 4)], {"axis": 1}),
    LayerCase("Dot", [(2, 3, 4), (2, 4, 5)], {"axes": (2, 1)}),
    LayerCase("Dot", [(2, 3), (2, 3)], {"axes": -1, "normalize": True}, name="Dot cosine"),
    LayerCase("Conv1D", series, {"filters": 3, "kernel_size": 3}, weights=(2, 0), **plain),
    LayerCase(
        "Conv1D",
        series,
        {"filters": 4, "kernel_size": 2, "padding": "causal", "dilation_rate": 2, "groups": 2},
        weights=(2, 0),
        name="Conv1D causal",
        **plain,
    ),
    LayerCase(
        "Conv2D",
        image,
        {"filters": 3, "kernel_size": (3, 2), "strides": 2, "padding": "same"},
        weights=(2, 0),
        **plain,
    ),
    LayerCase(
        "Conv2D",
        (2, 4, 6, 5),
        {"filters": 3, "kernel_size": 2, "data_format": "channels_first"},
        weights=(2, 0),
        name="Conv2D channels_first",
        **plain,
    ),
    LayerCase("Conv3D", volume, {"filters": 2, "kernel_size": 2}, weights=(2, 0), **plain),
    *[
        LayerCase(
            f"Conv{n}DTranspose",
            shape,
            {"filters": 3, "kernel_size": 3, "strides": 2, "padding": padding},
            weights=(2, 0),
            name=f"Conv{n}DTranspose {padding}",
            **plain,
        )
        for n, shape in ((1, series), (2, image), (3, (1, 3, 2, 2, 2)))
        for padding in ("same", "valid")
    ],
    LayerCase("DepthwiseConv1D", series, {"kernel_size": 3}, weights=(2, 0), **plain),
    LayerCase(
        "DepthwiseConv2D",
        image,
        {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"},
        weights=(2, 0),
        **plain,
    ),
    LayerCase("SeparableConv1D", series, {"filters": 3, "kernel_size": 3}, weights=(3, 0), **plain),
    LayerCase("SeparableConv2D", image, {"filters": 3, "kernel_size": 3}, weights=(3, 0), **plain),
    *[
        LayerCase(f"{kind}Pooling{n}D", shape, {"pool_size": 2, "padding": padding}, **plain)
        for kind in ("Max", "Average")
        for n, shape in ((1, series), (2, image), (3, volume))
        for padding in ("same", "valid")
    ],
    *[
        LayerCase(
            f"Global{kind}Pooling{n}D",
            shape,
            {"keepdims": keepdims},
            masking=kind == "Average" and n == 1,
        )
        for kind in ("Max", "Average")
        for n, shape in ((1, series), (2, image), (3, volume))
        for keepdims in (False, True)
    ],
    LayerCase("BatchNormalization", image, weights=(2, 2)),
    LayerCase(
        "BatchNormalization",
        series,
        {"axis": 1},
        {"training": True},
        weights=(2, 2),
        name="BatchNormalization training",
    ),
    LayerCase("LayerNormalization", series, {"axis": [1, 2]}, weights=(2, 0)),
    LayerCase("RMSNormalization", series, weights=(1, 0)),
    LayerCase("GroupNormalization", image, {"groups": 2}, weights=(2, 0)),
    LayerCase("UnitNormalization", series, {"axis": 1}),
    LayerCase("SimpleRNN", series, {"units": 3}, weights=(3, 0)),
    LayerCase("LSTM", series, {"units": 3, "return_sequences": True}, weights=(3, 0)),
    LayerCase("GRU", series, {"units": 3, "go_backwards": True}, weights=(3, 0)),
    LayerCase(
        "LSTM",
        series,
        {"units": 3, "dropout": 0.3, "recurrent_dropout": 0.3},
        {"training": True},
        weights=(3, 0),
        gradient=False,
        name="LSTM dropout",
    ),
    LayerCase(
        "GRU",
        series,
        {"units": 2, "reset_after": False, "return_state": True},
        weights=(3, 0),
        name="GRU reset before",
    ),
    LayerCase("RNN", series, {"cell": cells, "return_sequences": True}, weights=(6, 0)),
    LayerCase("Bidirectional", series, {"layer": lstm, "merge_mode": "sum"}, weights=(6, 0)),
    LayerCase("TimeDistributed", series, {"layer": dense}, weights=(2, 0)),
    LayerCase(
        "MultiHeadAttention",
        [(2, 3, 4), (2, 5, 4)],
        {"num_heads": 2, "key_dim": 3},
        weights=(8, 0),
        positional=True,
    ),
    LayerCase(
        "MultiHeadAttention",
        [(2, 3, 4), (2, 3, 4)],
        {"num_heads": 2, "key_dim": 3, "value_dim": 2, "output_shape": 5, "use_gate": True},
        {"use_causal_mask": True},
        weights=(10, 0),
        positional=True,
        name="MultiHeadAttention gate",
    ),
    LayerCase(
        "GroupQueryAttention",
        [(2, 3, 4), (2, 5, 4)],
        {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2},
        weights=(8, 0),
        positional=True,
    ),
    LayerCase("SpectralNormalization", (3, 4), {"layer": dense}, weights=(2, 1), masking=False),
    *[
        LayerCase(f"Adaptive{kind}Pooling{n}D", shape, {"output_size": 2}, **plain)
        for kind in ("Average", "Max")
        for n, shape in ((1, series), (2, image), (3, volume))
    ],
    LayerCase("Attention", [(2, 3, 4), (2, 5, 4)], {"use_scale": True}, weights=(1, 0)),
    LayerCase("AdditiveAttention", [(2, 3, 4), (2, 5, 4), (2, 5, 4)], weights=(1, 0)),
    LayerCase("Rescaling", series, {"scale": 0.5, "offset": 1.0}),
    LayerCase("Normalization", series, {"mean": 1.0, "variance": 4.0}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case):
    check_layer(case)
