"""Compositions without a kernel become their bodies; markers of differentiation disappear.

Before: y = softmax(x)                          After: e = exp(x - max(x)); y = e / sum(e)
(where no kernel `softmax` takes the dtype)
"""

from __future__ import annotations

from hornbeam.backend.graph import Graph
from hornbeam.backend.passes import partition
from hornbeam.backend.passes.rewrite import Rewrite


def _has_loop(nodes) -> bool:
    return any(isinstance(a, Graph) for node in nodes for a in node.attrs.values())


def run(graph: Graph) -> Graph:
    rewrite = Rewrite(graph)

    def expand(op, inputs, attrs, outputs, device):
        if op.name == "stop_gradient":
            return inputs
        if op.name == "custom_gradient":
            return inputs[: attrs["count"]]
        if op.body is not None and not partition.has_kernel(op, inputs, attrs, outputs, device):
            start = len(rewrite.new.nodes)
            with partition.scope(device):
                out = op.body(inputs, attrs)
            if device and op.has_kernel(inputs, attrs) and _has_loop(rewrite.new.nodes[start:]):
                del rewrite.new.nodes[start:]  # it would run on the CPU: rather by its kernel there
                return None
            out = tuple(out) if isinstance(out, (tuple, list)) else (out,)
            return settle(start, out)
        return None

    def settle(start, outputs):
        """The nodes that a body added may need decomposing themselves."""
        new = rewrite.new
        added, new.nodes[start:] = new.nodes[start:], []
        local: dict = {}
        for node in added:
            inputs = tuple(local.get(v, v) for v in node.inputs)
            result = with_bodies(node, inputs) or expand(
                node.op, inputs, node.attrs, node.outputs, node.device
            )
            if result is None:
                if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
                    new.nodes.append(node)
                    continue
                result = rewrite.copy(node, inputs)
            local.update(zip(node.outputs, result, strict=True))
        return tuple(local.get(v, v) for v in outputs)

    def with_bodies(node, inputs):
        """A node with sub-graphs (a loop, a condition), with these optimised; else None."""
        if not any(isinstance(v, Graph) for v in node.attrs.values()):
            return None
        return rewrite.copy(node, inputs, node.attrs | partition.bodies(node))

    def visit(node, inputs):
        return with_bodies(node, inputs) or expand(
            node.op, inputs, node.attrs, node.outputs, node.device
        )

    return rewrite.run(visit)
