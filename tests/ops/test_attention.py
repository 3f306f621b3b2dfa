"""The attention kernels against the composition in float64: sizes, masks, threads, levels."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from support.attention_cases import KINDS, SIZES, operands, with_gradients

from hornbeam import backend, layers, ops
from hornbeam.backend import _core
from hornbeam.backend.registry import REGISTRY
from hornbeam.ops import attention

LEVELS = ["baseline", "avx2", "avx512", "amx"]


def fused(arrays, arguments):
    return with_gradients(lambda *x: ops.dot_product_attention(*x, **arguments), *arrays)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_kernels_do_what_the_composition_says(sizes, kind):
    arrays, arguments = operands(sizes, kind)
    got = fused(arrays, arguments)
    if arguments["bias"] is not None:
        arguments["bias"] = arguments["bias"].astype("float64")
    expected = fused([x.astype("float64") for x in arrays], arguments)
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == "float32"
        np.testing.assert_allclose(g, e, rtol=1e-4, atol=4e-6 * max(1, abs(e).max()))


def test_float64_runs_the_composition():
    assert attention._attention.node_op.has_kernel([backend.Spec((), "float32")])
    assert not attention._attention.node_op.has_kernel([backend.Spec((), "float64")])
    assert REGISTRY["attention_grad"].has_kernel([backend.Spec((), "float32")])
    shape = (1, 8, 2, 4)
    function = backend.function(ops.dot_product_attention)
    for dtype, found in (("float32", True), ("float64", False)):
        program = str(function.concrete(*[np.ones(shape, dtype)] * 3).graph)
        assert ("attention" in program and "softmax" not in program) == found, program


@pytest.mark.parametrize("dtype, unit", [("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [SIZES[0], *SIZES[2:]], ids=str)
def test_in_16_bits_only_what_is_stored_is_rounded(sizes, kind, dtype, unit):
    arrays, arguments = operands(sizes, kind)
    half = [ops.cast(x, dtype) for x in arrays]
    if kind == "far" and dtype == "float16":
        arguments["bias"] = np.maximum(arguments["bias"], -6e4)
    wide = dict(arguments)
    if arguments["bias"] is not None:
        arguments["bias"] = ops.cast(arguments["bias"], dtype)
        wide["bias"] = ops.cast(arguments["bias"], "float64")
    y, *gradients = with_gradients(lambda *x: ops.dot_product_attention(*x, **arguments), *half)
    got = [np.asarray(ops.cast(backend.convert_to_tensor(x), "float64")) for x in (y, *gradients)]
    for g, e in zip(got, fused([ops.cast(x, "float64") for x in half], wide), strict=True):
        rms = np.sqrt((e**2).mean())
        assert np.sqrt(((g - e) ** 2).mean()) <= unit * rms + 1e-7
        np.testing.assert_allclose(g, e, rtol=0, atol=2 * unit * abs(e).max() + 1e-6)


def test_16_bits_are_read_and_written_as_such():
    x = ops.cast(np.ones((1, 8, 2, 4)), "bfloat16")
    program = str(backend.function(ops.dot_product_attention).concrete(x, x, x).graph)
    assert "attention" in program and "cast" not in program, program


def test_a_query_that_sees_no_key_attends_to_all_alike():
    (q, k, v, dy), _ = operands((1, 40, 300, 1, 1, 8, 8), "plain")
    mask = np.ones((40, 300), bool)
    mask[7] = False
    y, dq, _, dv = fused((q, k, v, dy), dict(mask=mask))
    np.testing.assert_allclose(y[0, 7, 0], v[0, :, 0].mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(dq[0, 7], 0)
    only = np.zeros_like(dy)
    only[0, 7] = dy[0, 7]
    dv = fused((q, k, v, only), dict(mask=mask))[3]
    np.testing.assert_allclose(dv[0, :, 0], np.tile(dy[0, 7] / 300, (300, 1)), rtol=1e-5)


def test_not_a_number_stays_in_its_row():
    (q, k, v, dy), _ = operands((1, 40, 40, 1, 1, 8, 8), "plain")
    q[0, 3, 0, 2] = np.nan
    y = np.asarray(ops.dot_product_attention(q, k, v))
    assert np.isnan(y[0, 3]).all() and np.isfinite(np.delete(y[0], 3, 0)).all()


def test_the_gradient_of_a_bias():
    (q, k, v, dy), arguments = operands((2, 5, 7, 2, 1, 4, 4), "all")
    mask = arguments["mask"]

    def attend(q, bias):
        return ops.dot_product_attention(q, k.astype(q.dtype), v.astype(q.dtype), bias, mask)

    got = with_gradients(attend, q, arguments["bias"], dy)
    wide = (x.astype("float64") for x in (q, arguments["bias"], dy))
    for g, e in zip(got, with_gradients(attend, *wide), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-5)


def test_layers_of_shared_heads_and_without_projections():
    x = np.random.default_rng(0).standard_normal((2, 20, 8)).astype("float32")
    layer = layers.GroupQueryAttention(4, num_query_heads=4, num_key_value_heads=2)
    y, _ = layer(x, x, use_causal_mask=True, return_attention_scores=True)  # the composition
    np.testing.assert_allclose(layer(x, x, use_causal_mask=True), y, rtol=1e-4, atol=1e-5)
    layer = layers.Attention(use_scale=True)
    masks = [None, np.arange(20)[None] < np.array([[20], [5]])]
    for mask in (None, masks):
        for causal in (False, True):
            arguments = dict(mask=mask, use_causal_mask=causal)
            y, _ = layer([x, x], return_attention_scores=True, **arguments)
            np.testing.assert_allclose(layer([x, x], **arguments), y, rtol=1e-4, atol=1e-5)


def digest():
    """Of results of several blocks of keys and parts of the gradient."""
    h = hashlib.sha256()
    for sizes in ((1, 130, 600, 2, 1, 24, 24), (3, 40, 33, 4, 4, 16, 16)):
        for kind in ("causal", "blind"):
            arrays, arguments = operands(sizes, kind)
            for dtype in ("float32", "bfloat16"):
                for x in fused([ops.cast(x, dtype) for x in arrays], arguments):
                    h.update(
                        np.asarray(ops.cast(backend.convert_to_tensor(x), "float32")).tobytes()
                    )
    return h.hexdigest()


def outcome(code, **environment):
    here = os.path.dirname(__file__)
    tests = os.path.dirname(here)
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {[here, tests]!r}; {code}"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout.strip()


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_bits_do_not_depend_on_threads(threads):
    code = "import test_attention; print(test_attention.digest())"
    assert outcome(code, HORNBEAM_NUM_THREADS=threads) == digest()


@pytest.mark.parametrize("level", LEVELS[: LEVELS.index(_core.isa_level())])
def test_level(level):
    code = (
        "import test_attention as t; "
        "[t.test_the_kernels_do_what_the_composition_says(s, k) for s in t.SIZES for k in t.KINDS];"
        "[t.test_in_16_bits_only_what_is_stored_is_rounded(t.SIZES[i], k, *d) for i in (3, 5, 6) "
        "for k in t.KINDS for d in (('bfloat16', 2.0**-8), ('float16', 2.0**-11))]"
    )
    outcome(code, HORNBEAM_ISA=level)
