"""Constants are computed now, and what does nothing is left out.

Before: y = transpose(transpose(x)) * 1         After: y = x
"""

from __future__ import annotations

import numpy as np

from hornbeam.backend.devices import HOST
from hornbeam.backend.graph import Graph
from hornbeam.backend.passes.rewrite import Rewrite
from hornbeam.backend.registry import CONSTANT

_MAX_FOLDED = 1 << 16  # elements of a constant result


def run(graph: Graph) -> Graph:
    rewrite = Rewrite(graph)

    def visit(node, inputs):
        name, out = node.op.name, node.outputs[0]
        if inputs and len(node.outputs) == 1 and all(v.node.op is CONSTANT for v in inputs):
            folded = _fold(rewrite.new, node, inputs)
            if folded is not None:
                return folded
        rule = _RULES.get(name)
        replacement = rule(rewrite, node, inputs, out) if rule is not None else None
        return None if replacement is None else (replacement,)

    return rewrite.run(visit)


def _fold(graph, node, inputs):
    if node.outputs[0].size > _MAX_FOLDED or any(isinstance(a, Graph) for a in node.attrs.values()):
        return None
    from hornbeam.backend import eager, scope

    with scope.eager():
        tensors = [v.node.attrs["tensor"].to(HOST) for v in inputs]
        (result,) = eager.run(node.op, tensors, node.attrs)
    return (graph.constant(result),)


def _scalar(value):
    """The number that a constant holds in every element, or None."""
    if value.node.op is not CONSTANT:
        return None
    tensor = value.node.attrs["tensor"]
    if tensor.size != 1:
        return None
    return np.asarray(tensor).reshape(())[()]


def _same(value, out):
    return value.shape == out.shape and value.dtype == out.dtype


def _neutral(number, either_side):
    def rule(rewrite, node, inputs, out):
        a, b = inputs
        if _same(a, out) and _scalar(b) == number:
            return a
        if either_side and _same(b, out) and _scalar(a) == number:
            return b
        return None

    return rule


def _reshape(rewrite, node, inputs, out):
    (x,) = inputs
    if x.shape == out.shape:
        return x
    if x.node.op.name == "reshape":
        source = x.node.inputs[0]
        if source.shape == out.shape:
            return source
        return rewrite.copy(node, (source,))[0]
    return None


def _transpose(rewrite, node, inputs, out):
    (x,) = inputs
    axes = node.attrs["axes"]
    if axes is None:
        return None
    if x.node.op.name == "transpose":
        inner = x.node.attrs["axes"]
        axes = tuple(inner[a] for a in axes)
        x = x.node.inputs[0]
    if list(axes) == list(range(len(axes))):
        return x
    moved = [a for a in axes if x.shape[a] != 1]
    if moved == sorted(moved):  # only axes of size 1 move: the elements stay where they are
        from hornbeam.backend.registry import reshape

        return rewrite.new.add(reshape, (x,), {"shape": out.shape}, where=node.where).outputs[0]
    if x is not inputs[0]:
        return rewrite.copy(node, (x,), {"axes": axes})[0]
    return None


def _slice(rewrite, node, inputs, out):
    """A slice of a slice is one slice, and so are their gradients; one of everything is nothing."""
    (x,), attrs = inputs, node.attrs
    if x.node.op.name == node.op.name:
        inner, x = x.node.attrs, x.node.inputs[0]
        # a gradient goes back through the slice that was taken last first
        order = (inner, attrs) if node.op.name == "slice" else (attrs, inner)
        attrs = attrs | _slice_of_slice(*order)
    if _is_everything(attrs) and _same(x, out):
        return x
    return None if x is inputs[0] else rewrite.copy(node, (x,), attrs)[0]


def _slice_of_slice(first, second):
    """Of the elements that `first` takes those that `second` takes."""
    axes = zip(first["begin"], first["strides"], second["begin"], strict=True)
    strides = zip(first["strides"], second["strides"], strict=True)
    return {
        "begin": tuple(b + s * more for b, s, more in axes),
        "strides": tuple(a * b for a, b in strides),
    }


def _is_everything(attrs):
    return not any(attrs["begin"]) and all(s == 1 for s in attrs["strides"])


def _identity_if_same(rewrite, node, inputs, out):
    return inputs[0] if _same(inputs[0], out) else None


def _reduce(rewrite, node, inputs, out):
    if any(inputs[0].shape[a] != 1 for a in node.attrs["axes"]):
        return None
    if inputs[0].dtype != out.dtype:
        return None
    from hornbeam.backend.registry import reshape

    return rewrite.new.add(reshape, inputs, {"shape": out.shape}, where=node.where).outputs[0]


_RULES = {
    "add": _neutral(0, True),
    "subtract": _neutral(0, False),
    "multiply": _neutral(1, True),
    "divide": _neutral(1, False),
    "true_divide": _neutral(1, False),
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "slice_grad": _slice,
    "cast": _identity_if_same,
    "broadcast_to": _identity_if_same,
    "reduce_sum": _reduce,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
    "reduce_prod": _reduce,
}
