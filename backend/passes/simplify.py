"""Constants are computed now, what does nothing is left out, and convolutions pad by themselves.

Before: y = transpose(transpose(x)) * 1         After: y = x
        y = conv(pad(x), w)                            y = conv(x, w, padding=...)
"""

from __future__ import annotations

import numpy as np

from hornbeam.backend.devices import HOST
from hornbeam.backend.graph import Graph
from hornbeam.backend.passes.rewrite import Rewrite, uses
from hornbeam.backend.registry import CONSTANT

_MAX_FOLDED = 1 << 16  # elements of a constant result


def run(graph: Graph) -> Graph:
    rewrite = Rewrite(graph)
    count = uses(graph)

    def visit(node, inputs):
        name, out = node.op.name, node.outputs[0]
        if inputs and len(node.outputs) == 1 and all(v.node.op is CONSTANT for v in inputs):
            folded = _fold(rewrite.new, node, inputs)
            if folded is not None:
                return folded
        rule = _RULES.get(name)
        if name == "slice" and count[node.inputs[0]] == 1:
            rule = _crop_of_gradient if inputs[0].node.op.name == "conv_grad_input" else rule
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


def _padded(padding, before, after):
    """The padding of a convolution with so many zeros more around every axis of its image.

    None where batch or channels are padded.
    """
    if before[0] or before[-1] or after[0] or after[-1]:
        return None
    more = [n for pair in zip(before[1:-1], after[1:-1], strict=True) for n in pair]
    return tuple(a + b for a, b in zip(padding, more, strict=True))


def _conv_of_pad(rewrite, node, inputs, out):
    """Zeros around the image of a convolution, or of the gradient to its filter."""
    source = inputs[0].node
    if source.op.name != "pad" or _scalar(source.inputs[1]) != 0:
        return None
    padding = _padded(node.attrs["padding"], source.attrs["lo"], source.attrs["hi"])
    if padding is None:
        return None
    inputs = (source.inputs[0], *inputs[1:])
    return rewrite.copy(node, inputs, node.attrs | {"padding": padding})[0]


def _crop_of_gradient(rewrite, node, inputs, out):
    """What remains, without the border, of a gradient to an image that had been padded."""
    source, begin = inputs[0].node, node.attrs["begin"]
    if any(s != 1 for s in node.attrs["strides"]) or len(source.inputs) != 2:
        return None
    sizes = zip(inputs[0].shape, begin, out.shape, strict=True)
    padding = _padded(source.attrs["padding"], begin, [n - b - m for n, b, m in sizes])
    if padding is None:
        return None
    attrs = source.attrs | {"padding": padding, "input_shape": tuple(out.shape)}
    return rewrite.new.add(source.op, source.inputs, attrs, where=source.where).outputs[0]


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
    "conv": _conv_of_pad,
    "conv_grad_filter": _conv_of_pad,
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
