"""Every node gets a device that can run it; values cross devices by `copy` nodes.

Before: y = matmul(x, w) on cuda:0; z = sort(y) on cuda:0     (no CUDA kernel for sort; x on the CPU)
After:  a = copy(x) on cuda:0; y = matmul(a, w) on cuda:0; b = copy(y); z = sort(b)

A node asked for a device without a kernel for it runs on the CPU, and functions in Python always do.
Control flow runs where its bodies are (`bodies`); what decides how it goes on is copied to the CPU.
Results of the graph and new values of variables go back to where they belong. A pair of copies (send,
receive) is one instruction here: both ends are in one process.
"""

from __future__ import annotations

import contextlib

from hornbeam.backend import _core, devices
from hornbeam.backend.devices import HOST
from hornbeam.backend.graph import Graph, Value
from hornbeam.backend.passes.rewrite import Rewrite
from hornbeam.backend.registry import CONSTANT, LEAVES, copy

#: They compute nothing: their result is the memory of the first input.
_VIEWS = ("reshape", "barrier")


def scope(name: str | None):
    """The scope in which what replaces a node on this device is to be traced."""
    if name is None or not devices.in_use:
        return contextlib.nullcontext()
    return devices.device(name)


def has_kernel(op, inputs, attrs, outputs, name: str | None) -> bool:
    """Whether the device has a kernel for a composition or primitive on these operands."""
    if name is None or name.startswith("cpu"):
        return op.has_kernel(inputs, attrs)
    from hornbeam.backend import executor

    kernel, attrs = executor.kernel_call(op, inputs, attrs, outputs)
    return kernel == "copy" or _core.has_kernel(
        name.split(":")[0],
        kernel,
        [(v.dtype, v.shape) for v in inputs],
        [(v.dtype, v.shape) for v in outputs],
        attrs,
    )


def bodies(node) -> dict[str, Graph]:
    """The bodies of control flow, optimised: on the node's device if all of them can run there alone.

    Else on the CPU: a copy in every round would cost more than the kernels gain.
    """
    from hornbeam.backend import passes

    graphs = {k: v for k, v in node.attrs.items() if isinstance(v, Graph)}
    name = node.device or HOST
    if name.startswith("cuda"):
        found = {k: passes.optimize(_placed(g, name)) for k, g in graphs.items()}
        if all(_lives_on(g, name) for g in found.values()):
            if node.op.name == "while_loop":
                _fetch_outputs(found["condition"])
            return found
    return {k: passes.optimize(_placed(g, HOST)) for k, g in graphs.items()}


def _placed(graph: Graph, name: str) -> Graph:
    """The graph with every node on one device."""
    if not devices.in_use:
        return graph
    place = None if name == HOST else name
    rewrite = Rewrite(graph)

    def visit(node, inputs):
        out = rewrite.copy(node, inputs)
        out[0].node.device = place
        return out

    new = rewrite.run(visit)
    for node in new.nodes:
        if node.op is CONSTANT:
            node.attrs = {"tensor": node.attrs["tensor"].to(name)}
        if node.op in LEAVES:
            node.device = place
    return new


def _lives_on(graph: Graph, name: str) -> bool:
    """Whether nothing is computed elsewhere (the predicates of conditions inside are fetched)."""
    return all(node.device == name for node in graph.nodes if node.op not in (CONSTANT, copy))


def _fetch_outputs(graph: Graph) -> None:
    with graph:
        graph.outputs = [graph.add(copy, (v,), {}).outputs[0] for v in graph.outputs]
    for v in graph.outputs:
        v.node.device = None


def _body_device(node) -> str | None:
    """Where the bodies of control flow give their results; None for another node."""
    found = [g for k, g in node.attrs.items() if isinstance(g, Graph) and k != "condition"]
    return (found[0].outputs[0].node.device or HOST) if found else None


def run(graph: Graph) -> Graph:
    if all(node.device is None for node in graph.nodes):
        return graph
    rewrite = Rewrite(graph)
    moved: dict[tuple[Value, str], Value] = {}

    def on(value: Value, name: str) -> Value:
        if (value.node.device or HOST) == name:
            return value
        if (value, name) not in moved:
            if value.node.op is CONSTANT:
                new = rewrite.new.constant(value.node.attrs["tensor"].to(name))
            else:
                new = rewrite.new.add(copy, (value,), {}, where=value.node.where).outputs[0]
                new.node.device = name
            moved[value, name] = new
        return moved[value, name]

    def visit(node, inputs):
        name = node.device or HOST
        body_device = _body_device(node)
        if node.op.name in _VIEWS:
            name = inputs[0].node.device or HOST
        elif body_device is not None:
            name = body_device
        elif not _runs_on(node, name):
            name = HOST
        if node.op.name == "cond":
            inputs = (on(inputs[0], HOST), *(on(v, name) for v in inputs[1:]))
        elif node.op.name != "barrier":  # it only keeps an order
            inputs = tuple(on(v, name) for v in inputs)
        out = rewrite.copy(node, inputs)
        out[0].node.device = name
        return out

    new = rewrite.run(visit)
    with new:
        new.state = {var: on(v, var.device) for var, v in new.state.items()}
        new.outputs = [
            on(v, old.node.device or HOST)
            for old, v in zip(graph.outputs, new.outputs, strict=True)
        ]
    return new


def _runs_on(node, name) -> bool:
    if node.op.host is not None:
        return name == HOST
    return name.startswith("cpu") or has_kernel(
        node.op, node.inputs, node.attrs, node.outputs, name
    )
