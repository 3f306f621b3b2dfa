"""Scaled dot-product attention: a composition, with fused kernels where they exist."""

from __future__ import annotations

from hornbeam import backend
from hornbeam.backend.registry import Spec, op
from hornbeam.ops import creation, joining, shapes
from hornbeam.ops._common import unbroadcast
from hornbeam.ops.nn import _float, _softmax

OPS = backend.OPS


def _spread(key, heads):
    """Keys (or values) repeated for the heads of the query that share them."""
    return key if key.shape[2] == heads else joining.repeat(key, heads // key.shape[2], axis=2)


def _gather(dkey, key_heads):
    """The gradient of `_spread`: sums over the heads that share a key."""
    b, s, heads, h = dkey.shape
    if heads == key_heads:
        return dkey
    grouped = shapes.reshape(dkey, (b, s, key_heads, heads // key_heads, h))
    return OPS["sum"](grouped, axis=3)


def _keep(mask, causal, t, s):
    """Where attention is allowed: both conditions together, None if there is none."""
    if not causal:
        return mask
    rows = shapes.reshape(creation.iota(t), (1, 1, t, 1))
    seen = OPS["greater_equal"](rows, shapes.reshape(creation.iota(s), (1, 1, 1, s)))
    return seen if mask is None else OPS["logical_and"](mask, seen)


def _scores(query, key, bias, mask, scale, causal, soft_cap=None):
    """(batch, heads, T, S), and where they are not masked."""
    scores = OPS["einsum"]("btnh,bsnh->bnts", query, _spread(key, query.shape[2])) * scale
    if soft_cap is not None:
        scores = OPS["tanh"](scores / soft_cap) * soft_cap
    scores = scores if bias is None else scores + bias
    keep = _keep(mask, causal, *scores.shape[-2:])
    if keep is not None:
        lowest = -3e4 if scores.dtype == "float16" else -1e30
        scores = OPS["where"](keep, scores, backend.convert_to_tensor(lowest, scores.dtype))
    return scores, keep


def _weighted(weights, value):
    return OPS["einsum"]("bnts,bsnh->btnh", weights, _spread(value, weights.shape[1]))


def _widened(*tensors):
    """Tensors of 16 bits in float32, as the kernels compute."""
    half = ("float16", "bfloat16")
    return [backend.cast(x, "float32") if x is not None and x.dtype in half else x for x in tensors]


@op(inputs=("query", "key", "value", "bias", "mask"), kernel="attention")
def _attention(query, key, value, bias=None, mask=None, scale=1.0, causal=False):
    """(y, the largest score of each query and 1 / sum(e^(score - largest)), last axis 2)."""
    dtype = query.dtype
    query, key, value, bias = _widened(query, key, value, bias)
    scores, _ = _scores(query, key, bias, mask, scale, causal)
    largest = OPS["max"](scores, axis=-1, keepdims=True)
    total = OPS["sum"](OPS["exp"](scores - largest), axis=-1, keepdims=True)
    stats = joining.concatenate([largest, 1 / total], axis=-1)
    return backend.cast(_weighted(_softmax(scores), value), dtype), stats


@op(
    inputs=("query", "key", "value", "bias", "mask", "y", "stats", "dy"),
    kernel="attention_grad",
)
def _attention_grad(query, key, value, bias, mask, y, stats, dy, scale, causal):
    # Of the operands alone, not of y and stats, which depend on them: so it can be differentiated.
    dtype = query.dtype
    query, key, value, bias, dy = _widened(query, key, value, bias, dy)
    scores, keep = _scores(query, key, bias, mask, scale, causal)
    heads = query.shape[2]
    p = _softmax(scores)
    ds = _score_gradient(p, keep, value, dy) * scale
    dquery = OPS["einsum"]("bnts,bsnh->btnh", ds, _spread(key, heads))
    dkey = OPS["einsum"]("bnts,btnh->bsnh", ds, query)
    dvalue = OPS["einsum"]("bnts,btnh->bsnh", p, dy)
    dx = dquery, _gather(dkey, key.shape[2]), _gather(dvalue, key.shape[2])
    return tuple(backend.cast(x, dtype) for x in dx)


def _score_gradient(p, keep, value, dy):
    dp = OPS["einsum"]("btnh,bsnh->bnts", dy, _spread(value, p.shape[1]))
    ds = p * (dp - OPS["sum"](dp * p, axis=-1, keepdims=True))
    return ds if keep is None else OPS["where"](keep, ds, backend.convert_to_tensor(0, ds.dtype))


@_attention.gradient
def _(op, dy, _dstats):
    # Only y is differentiated: `dot_product_attention` keeps the statistics to itself.
    query, key, value = op.inputs[:3]
    bias, mask = op.input("bias"), op.input("mask")
    scale, causal = op.scale, op.causal
    y, stats = op.outputs
    dx = _attention_grad(query, key, value, bias, mask, y, stats, dy, scale, causal)
    out = list(dx)
    if bias is not None:
        dbias = None
        if op.needs[3]:
            query, key, value, wide, dy = _widened(query, key, value, bias, dy)
            scores, keep = _scores(query, key, wide, mask, scale, causal)
            dbias = unbroadcast(_score_gradient(_softmax(scores), keep, value, dy), bias.shape)
            dbias = backend.cast(dbias, bias.dtype)
        out.append(dbias)
    return out if mask is None else [*out, None]


def _of_rank_4(x):
    return shapes.reshape(x, (1,) * (4 - x.ndim) + tuple(x.shape)) if x.ndim < 4 else x


@op(inputs=("query", "key", "value", "bias", "mask"))
def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    attn_logits_soft_cap=None,
):
    """softmax(query key^T * scale + bias) value, per head.

    Vaswani et al., "Attention is all you need", 2017, equation 1. In float32, float16 and
    bfloat16 the scores are computed in tiles, in float32, and never stored as a whole.

    Args:
        query: (batch, T, heads, features). key, value: (batch, S, key heads, features), where the
            number of heads is a multiple of the number of key heads.
        bias: added to the scores, broadcastable to (batch, heads, T, S).
        mask: where False, no attention; broadcastable to (batch, heads, T, S).
        scale: 1 / sqrt(features) if None.
        is_causal: position t attends to positions up to t only.
        flash_attention: accepted; the engine chooses.
        attn_logits_soft_cap: scores are limited to cap * tanh(scores / cap).

    Returns:
        (batch, T, heads, features).
    """
    query, key, value = (_float(t) for t in (query, key, value))
    if query.ndim != 4 or key.ndim != 4 or value.ndim != 4:
        raise ValueError(
            "dot_product_attention: expected (batch, length, heads, features) three times, got "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
        )
    heads, key_heads, features = query.shape[2], key.shape[2], query.shape[3]
    if key_heads == 0 or heads % key_heads:
        raise ValueError(
            f"dot_product_attention: expected a multiple of the {key_heads} key heads, got {heads}"
        )
    scale = features**-0.5 if scale is None else scale
    bias = None if bias is None else _of_rank_4(backend.convert_to_tensor(bias))
    if mask is not None:
        mask = _of_rank_4(backend.cast(backend.convert_to_tensor(mask), "bool"))
    operands = [query, key, value] + ([] if bias is None else [bias])
    if (
        attn_logits_soft_cap is None
        and isinstance(scale, (int, float))
        and all(x.dtype == query.dtype and 0 not in x.shape for x in operands)
        and _attention.node_op.has_kernel([Spec((), query.dtype)])
    ):
        return _attention(query, key, value, bias, mask, float(scale), bool(is_causal))[0]
    scores, _ = _scores(query, key, bias, mask, scale, is_causal, attn_logits_soft_cap)
    return _weighted(_softmax(scores), value)
