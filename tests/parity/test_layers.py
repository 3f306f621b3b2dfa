"""Layers give Keras's outputs, gradients and updated state, from the same weights."""

import numpy as np
import pytest
import recorded

hornbeam = pytest.importorskip("hornbeam")
pytest.importorskip("hornbeam.layers.core.dense")

CASES = recorded.cases("layers")
# gradients are sums of many products; JAX's own float32 result is that far from the exact one
TOLERANCE = {"rtol": 2e-5, "atol": 5e-6}


def flat(inputs):
    return [x for item in inputs for x in (item if isinstance(item, list) else [item])]


def nested(inputs, values):
    """`values` in the structure of `inputs`."""
    rest = iter(values)
    return [[next(rest) for _ in x] if isinstance(x, list) else next(rest) for x in inputs]


def built(case):
    layer = recorded.construct(case["layer"], hornbeam)
    if not hasattr(hornbeam.layers, case["layer"]["class"].split(".")[1]):
        pytest.skip(f"hornbeam has no {case['layer']['class']}")
    layer(*case["inputs"], **case["call"])
    shapes = [w.shape for w in case["weights"]]
    assert [tuple(w.shape) for w in layer.weights] == shapes, "order or shapes of the weights"
    layer.set_weights(case["weights"])
    return layer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_outputs(case):
    layer = built(case)
    recorded.compare("output", layer(*case["inputs"], **case["call"]), case["outputs"], **TOLERANCE)
    if "new_state" in case:
        state = [v.numpy() for v in layer.non_trainable_variables]
        recorded.compare("state", state, case["new_state"], **TOLERANCE)
    if "output_mask" in case:
        mask = np.asarray(layer.compute_mask(case["inputs"][0]))
        np.testing.assert_array_equal(mask, case["output_mask"])
    names = [w.path.split("/", 1)[1] for w in layer.weights]
    assert names == case["weight_names"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_gradients(case):
    layer = built(case)
    values = [hornbeam.ops.convert_to_tensor(x) for x in flat(case["inputs"])]
    floating = [x for x in values if "float" in str(x.dtype)]
    weights = layer.trainable_variables
    with hornbeam.GradientTape() as tape:
        for x in floating:
            tape.watch(x)
        out = layer(*nested(case["inputs"], values), **case["call"])
        out = [o for o in hornbeam.tree.flatten(out) if "float" in str(o.dtype)]
        total = sum(hornbeam.ops.sum(o * recorded.cotangent(tuple(o.shape))) for o in out)
    gradients = tape.gradient(total, [*floating, *weights])
    gradients = [
        np.zeros(tuple(v.shape), "float32") if g is None else np.asarray(g)
        for g, v in zip(gradients, [*floating, *weights], strict=True)
    ]
    n = len(floating)
    recorded.compare("input gradient", gradients[:n], case["input_gradients"], **TOLERANCE)
    recorded.compare("weight gradient", gradients[n:], case["weight_gradients"], **TOLERANCE)
