"""Matmul and convolution take transposes, bias and ReLU into themselves.

Before: t = transpose(w); y = relu(matmul(x, t) + b)
After:  y = matmul(x, w, b, transpose_b=1, activation="relu")

The gradient of max pooling takes the gradient of a ReLU before it.

Before: d = max_pool_grad(x, y, dy); dx = where(x > 0, d, 0)
After:  dx = max_pool_grad(x, y, dy, activation="relu")
"""

from __future__ import annotations

from hornbeam.backend.graph import Graph
from hornbeam.backend.passes.rewrite import Rewrite, uses

_PRODUCERS = ("matmul", "conv")


def run(graph: Graph) -> Graph:
    rewrite = Rewrite(graph)
    count = uses(graph)
    single: dict = {}  # new value -> True if its old value is used once

    def visit(node, inputs):
        out = None
        if node.op.name == "matmul":
            out = _absorb_transposes(rewrite, node, inputs)
        elif node.op.name == "add":
            out = _absorb_bias(rewrite, node, inputs, single)
        elif node.op.name == "maximum":
            out = _absorb_relu(rewrite, node, inputs, single)
        elif node.op.name == "where":
            out = _absorb_relu_gradient(rewrite, inputs, single)
        if out is None:
            out = rewrite.copy(node, inputs)
        single.update(
            (new, count.get(old) == 1) for old, new in zip(node.outputs, out, strict=True)
        )
        return out

    return rewrite.run(visit)


def _absorb_transposes(rewrite, node, inputs):
    inputs, attrs, changed = list(inputs), dict(node.attrs), False
    for i, flag in enumerate(("transpose_a", "transpose_b")):
        source = inputs[i].node
        if source.op.name != "transpose":
            continue
        axes = list(source.attrs["axes"])
        rank = len(axes)
        if axes == [*range(rank - 2), rank - 1, rank - 2]:
            inputs[i] = source.inputs[0]
            attrs[flag] = 1 - int(attrs.get(flag, 0))
            changed = True
    return rewrite.copy(node, tuple(inputs), attrs) if changed else None


def _is_producer(value, single):
    node = value.node
    return (
        node.op.name in _PRODUCERS
        and single.get(value, False)
        and node.attrs.get("activation", "linear") == "linear"
    )


def _absorb_bias(rewrite, node, inputs, single):
    for y, b in (inputs, inputs[::-1]):
        if not _is_producer(y, single) or len(y.node.inputs) != 2:
            continue
        n = y.shape[-1]
        if y.shape != node.outputs[0].shape or b.dtype != y.dtype or b.size != n:
            continue
        if not b.shape or b.shape[-1] != n:
            continue
        if y.dtype not in ("float32", "float64"):
            continue
        if b.shape != (n,):
            from hornbeam.backend.registry import reshape

            b = rewrite.new.add(reshape, (b,), {"shape": (n,)}, where=node.where).outputs[0]
        # the bias may be newer than the matmul: the joined node stands here, where both are known
        return rewrite.copy(y.node, (*y.node.inputs, b))
    return None


def _absorb_relu(rewrite, node, inputs, single):
    from hornbeam.backend.passes.simplify import _scalar

    for y, zero in (inputs, inputs[::-1]):
        if not _is_producer(y, single) or y.dtype not in ("float32", "float64"):
            continue
        if y.shape == node.outputs[0].shape and _scalar(zero) == 0:
            return rewrite.copy(y.node, y.node.inputs, y.node.attrs | {"activation": "relu"})
    return None


def _absorb_relu_gradient(rewrite, inputs, single):
    from hornbeam.backend.passes.simplify import _scalar

    mask, d, zero = inputs
    if d.node.op.name != "max_pool_grad" or not single.get(d, False) or _scalar(zero) != 0:
        return None
    test = mask.node
    if test.op.name != "greater" or test.inputs[0] is not d.node.inputs[0]:
        return None
    if _scalar(test.inputs[1]) != 0:
        return None
    # an element that attains the maximum is positive where the maximum is
    return rewrite.copy(d.node, d.node.inputs, d.node.attrs | {"activation": "relu"})
