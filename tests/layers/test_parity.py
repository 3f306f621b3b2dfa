"""Layers against the numbers of real Keras: outputs, gradients, state, masks."""

import re

import numpy as np
import pytest

import hornbeam as keras
from hornbeam.backend import tree
from tests.support import parity

CASES = parity.cases("layers")


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_layer_computes_what_keras_computes(case):
    layer = parity.construct(case["layer"], keras)
    inputs = tree.map_structure(keras.ops.convert_to_tensor, case["inputs"])
    layer(*inputs, **case["call"])
    names = [w.path.split("/", 1)[1] for w in layer.weights]
    assert [counted(name) for name in names] == [counted(name) for name in case["weight_names"]]
    layer.set_weights(case["weights"])
    floating = [x for x in tree.flatten(inputs) if "float" in x.dtype]

    with keras.GradientTape() as tape:
        for x in floating:
            tape.watch(x)
        outputs = tree.flatten(layer(*inputs, **case["call"]))
        total = sum(
            keras.ops.sum(y * parity.cotangent(y.shape)) for y in outputs if "float" in y.dtype
        )
    to_inputs, to_weights = tape.gradient(total, [floating, layer.trainable_weights])

    compare(outputs, case["outputs"])
    compare(to_inputs, case["input_gradients"], rtol=2e-4, atol=2e-5)
    compare(to_weights, case["weight_gradients"], rtol=2e-4, atol=2e-5)
    if "new_state" in case:
        compare(layer.non_trainable_variables, case["new_state"])
    if "output_mask" in case:
        compare([outputs[0]._keras_mask], [case["output_mask"]])


def counted(name):
    """Automatic names end in a number that depends on how many came before."""
    return re.sub(r"_\d+(?=/)", "", name)


def compare(got, expected, rtol=2e-5, atol=2e-6):
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.asarray(g), e, rtol=rtol, atol=atol)
