"""A cross entropy and its gradient become one node: the logits are read once and written over.

Before: l = softmax_crossentropy(x, t); …; dx = softmax_crossentropy_grad(x, t, dy)
After:  dx, l = softmax_crossentropy_both(x, t, dy); …

Where dy does not depend on l, which it does not for means and weighted sums. What dy needs is moved
before the loss.
"""

from __future__ import annotations

from hornbeam.backend.graph import Graph, Node
from hornbeam.backend.passes import partition
from hornbeam.backend.passes.rewrite import Rewrite
from hornbeam.backend.registry import REGISTRY

_LOSSES = ("softmax_crossentropy", "sparse_softmax_crossentropy")


def run(graph: Graph) -> Graph:
    while (pair := _find(graph)) is not None:
        graph = _join(graph, *pair)
    return graph


def _find(graph: Graph):
    """(loss, gradient, what the latter's last operand is made of), or None."""
    losses = {(n.op.name, n.inputs): n for n in graph.nodes if n.op.name in _LOSSES}
    if not losses:
        return None
    for node in graph.nodes:
        loss = losses.get((node.op.name.removesuffix("_grad"), node.inputs[:2]))
        if loss is None or loss is node or loss.device != node.device:
            continue
        joined = REGISTRY[f"{loss.op.name}_both"]
        outputs = (*node.outputs, *loss.outputs)
        before = _ancestors(node.inputs[2].node)
        if loss not in before and partition.has_kernel(
            joined, node.inputs, {}, outputs, node.device
        ):
            return loss, node, before
    return None


def _ancestors(node: Node) -> set[Node]:
    found, pending = {node}, [node]
    while pending:
        for v in pending.pop().inputs:
            if v.node not in found:
                found.add(v.node)
                pending.append(v.node)
    return found


def _join(graph: Graph, loss: Node, gradient: Node, before: set[Node]) -> Graph:
    place = graph.nodes.index(loss)
    later = graph.nodes[place + 1 :]
    graph.nodes[place:] = [n for n in later if n in before]
    graph.nodes += [loss, *(n for n in later if n not in before)]
    rewrite = Rewrite(graph)
    made: list = []

    def visit(node, inputs):
        if node is loss:
            operands = (*inputs, rewrite.mapping[gradient.inputs[2]])
            new = rewrite.new.add(REGISTRY[f"{loss.op.name}_both"], operands, {}, where=loss.where)
            new.device = loss.device
            made.extend(new.outputs)
            return (made[1],)
        return (made[0],) if node is gradient else None

    return rewrite.run(visit)
