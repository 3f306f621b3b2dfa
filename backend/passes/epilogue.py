"""Matmul and convolution take transposes and the element-wise work behind them into themselves.

Before: y = relu(conv(x, w) * scale + bias + skip)
After:  y = conv(x, w, scale, bias, skip, epilogue=("scale", "bias", "residual"), activation="relu")

What a product can do before it is stored (in this order, each at most once): times a vector of one
number per column, plus such a vector, plus a tensor of its shape, ReLU, and zero where the output
of an earlier ReLU is not positive (that ReLU's gradient). So batch normalisation with given
statistics, biases, skip connections and ReLU cost no pass over memory. Batch normalisation in
training takes in a skip connection and ReLU. Sums are taken before a view: reshape(matmul(x, w)) + b
is reshape(matmul(x, w, b)), for heads of attention.

The gradient of max pooling takes the gradient of a ReLU before it.

Before: d = max_pool_grad(x, y, dy); dx = where(x > 0, d, 0)
After:  dx = max_pool_grad(x, y, dy, activation="relu")
"""

from __future__ import annotations

from typing import NamedTuple

from hornbeam.backend import dtypes
from hornbeam.backend.graph import Graph
from hornbeam.backend.passes.rewrite import Rewrite, uses
from hornbeam.backend.passes.simplify import _scalar

_PRODUCERS = ("matmul", "conv", "conv_grad_input")
_OPERANDS = ("scale", "bias", "residual", "mask")  # as the kernels take them


class _Info(NamedTuple):
    """What is known of a value of the new graph."""

    single: bool  # its old value is used once
    stored: bool  # it is in memory anyway: a cluster cannot keep it to itself
    position: int


def run(graph: Graph) -> Graph:
    rewrite = Rewrite(graph)
    count = uses(graph)
    stored = {v for node in graph.nodes if not node.op.elementwise for v in node.inputs}
    stored.update(graph.outputs, graph.state.values())
    info: dict = {}

    def visit(node, inputs):
        rule = _RULES.get(node.op.name)
        out = rule(rewrite, node, inputs, info) if rule is not None else None
        if out is None:
            out = rewrite.copy(node, inputs)
        for old, new in zip(node.outputs, out, strict=True):
            position = info[new].position if new in info else len(info)
            is_stored = old in stored or not new.node.op.elementwise
            info[new] = _Info(count.get(old) == 1, is_stored, position)
        return out

    return rewrite.run(visit)


def _absorb_transposes(rewrite, node, inputs, info):
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


def _operands(node) -> dict:
    names = node.attrs.get("epilogue", _OPERANDS[1:2] if len(node.inputs) > 2 else ())
    return dict(zip(names, node.inputs[2:], strict=True))


def _has_relu(node) -> bool:
    return node.attrs.get("activation", "linear") != "linear"


def _on_cpu(node) -> bool:
    return node.device is None or node.device.startswith("cpu")


def _is_free(value, out, info) -> bool:
    """Whether more can be done to a value where it is made: nobody else uses it."""
    return value in info and info[value].single and value.shape == out.shape


def _is_open(value, out, info) -> bool:
    """Whether more can be done to a product, which ends without ReLU."""
    node = value.node
    return (
        node.op.name in _PRODUCERS
        and _is_free(value, out, info)
        and dtypes.is_float(value.dtype)
        and not _has_relu(node)
        and "mask" not in node.attrs.get("epilogue", ())
    )


def _takes_tensor(value, out, info) -> bool:
    """Whether a residual or a mask is read there; on the CPU a pass for 16 bits is faster (measured)."""
    in_place = value.dtype in ("float32", "float64") or not _on_cpu(value.node)
    return in_place and _is_open(value, out, info)


def _is_open_norm(value, out, info) -> bool:
    """The same for batch normalisation in training."""
    node = value.node
    return (
        node.op.name == "batch_norm_train"
        and value is node.outputs[0]
        and _is_free(value, out, info)
        and not _has_relu(node)
    )


def _rebuilt(rewrite, value, operands, **attrs):
    """The product with other operands of its epilogue.

    An operand may be newer than the product: the new node stands where all are known.
    """
    node = value.node
    names = tuple(n for n in _OPERANDS if n in operands)
    attrs = {k: v for k, v in node.attrs.items() if k != "epilogue"} | attrs
    if names not in ((), ("bias",)):
        attrs["epilogue"] = names
    return rewrite.copy(node, (*node.inputs[:2], *(operands[n] for n in names)), attrs)


def _is_vector(x, y) -> bool:
    """Whether x holds one number for each column of y."""
    n = y.shape[-1] if y.shape else 0
    return x.dtype == y.dtype and x.size == n and x.shape[-1:] == (n,)


def _view(rewrite, x, shape, where):
    from hornbeam.backend.registry import reshape

    if x.shape == shape:
        return x
    return rewrite.new.add(reshape, (x,), {"shape": shape}, where=where).outputs[0]


def _apply(rewrite, name, operands, where):
    from hornbeam.backend.registry import REGISTRY

    return rewrite.new.add(REGISTRY[name], operands, {}, where=where).outputs[0]


def _absorb_sum(rewrite, node, inputs, info):
    pairs = [inputs] if node.op.name == "subtract" else [inputs, inputs[::-1]]
    sums = _sum(rewrite, node, pairs, node.outputs[0], info)
    return sums or _sum_before_view(rewrite, node, pairs, info)


def _sum_before_view(rewrite, node, pairs, info):
    """reshape(product) + x = reshape(product + x'): for heads of attention."""
    for view, x in pairs:
        product = view.node.inputs[0] if view.node.op.name == "reshape" else None
        if product is None or not _is_free(view, node.outputs[0], info):
            continue
        if not _is_open(product, product, info):
            continue
        tail = x.shape[next((i for i, n in enumerate(x.shape) if n != 1), len(x.shape)) :]
        if x.shape == view.shape:
            if x in info and not info[x].stored:
                continue
            shape = product.shape
        elif tail == view.shape[-len(tail) :] and x.size == product.shape[-1]:
            shape = (x.size,)
        else:
            continue
        flat = _view(rewrite, x, shape, node.where)
        out = _sum(rewrite, node, [(product, flat)], product, info)
        if out is not None:
            info[out[0]] = _Info(True, True, info[view].position)
            return (_view(rewrite, out[0], view.shape, node.where),)
    return None


def _sum(rewrite, node, pairs, out, info):
    subtract = node.op.name == "subtract"
    for y, x in pairs:
        if not _is_open(y, out, info) or not _is_vector(x, y):
            continue
        operands = _operands(y.node)
        x = _view(rewrite, x, (x.size,), node.where)
        if "bias" in operands:
            x = _apply(rewrite, node.op.name, (operands["bias"], x), node.where)
        elif subtract:
            x = _apply(rewrite, "negative", (x,), node.where)
        return _rebuilt(rewrite, y, operands | {"bias": x})
    if subtract:
        return None
    # the later product, so that it moves little
    pairs = sorted(
        pairs, key=lambda pair: info[pair[0]].position if pair[0] in info else -1, reverse=True
    )
    for y, x in pairs:
        if x.shape != y.shape or x.dtype != y.dtype or (x in info and not info[x].stored) or x is y:
            continue
        if _takes_tensor(y, out, info) and "residual" not in (operands := _operands(y.node)):
            return _rebuilt(rewrite, y, operands | {"residual": x})
        if _is_open_norm(y, out, info) and len(y.node.inputs) == 3 and x in info:
            # it stays where it is, others use its statistics: x must be known there
            if info[x].position < info[y].position:
                y.node.inputs = (*y.node.inputs, x)
                return (y,)
    return None


def _absorb_scale(rewrite, node, inputs, info):
    for y, x in (inputs, inputs[::-1]):
        if not _is_open(y, node.outputs[0], info) or not _is_vector(x, y):
            continue
        operands = _operands(y.node)
        if "residual" in operands:
            continue
        x = _view(rewrite, x, (x.size,), node.where)
        for name in ("scale", "bias"):
            if name in operands:
                operands[name] = _apply(rewrite, "multiply", (operands[name], x), node.where)
        return _rebuilt(rewrite, y, {"scale": x} | operands)
    return None


def _absorb_relu(rewrite, node, inputs, info):
    for y, zero in (inputs, inputs[::-1]):
        if _scalar(zero) != 0:
            continue
        if _is_open(y, node.outputs[0], info):
            return _rebuilt(rewrite, y, _operands(y.node), activation="relu")
        if _is_open_norm(y, node.outputs[0], info):
            y.node.attrs = y.node.attrs | {"activation": "relu"}
            return (y,)
    return None


def _absorb_mask(rewrite, node, inputs, info):
    """The gradient of a ReLU: where(its output > 0, dy, 0)."""
    condition, y, zero = inputs
    if condition.node.op.name != "greater" or _scalar(zero) != 0:
        return None
    mask, bound = condition.node.inputs
    if y.node.op.name == "max_pool_grad" and mask is y.node.inputs[0] and _scalar(bound) == 0:
        # an element that attains the maximum is positive where the maximum is
        if not info[y].single:
            return None
        return rewrite.copy(y.node, y.node.inputs, y.node.attrs | {"activation": "relu"})
    if not _takes_tensor(y, node.outputs[0], info) or _scalar(bound) != 0:
        return None
    if mask.shape != y.shape or mask.dtype != y.dtype:
        return None
    if mask in info and not info[mask].stored:
        return None
    return _rebuilt(rewrite, y, _operands(y.node) | {"mask": mask})


_RULES = {
    "matmul": _absorb_transposes,
    "add": _absorb_sum,
    "subtract": _absorb_sum,
    "multiply": _absorb_scale,
    "maximum": _absorb_relu,
    "where": _absorb_mask,
}
