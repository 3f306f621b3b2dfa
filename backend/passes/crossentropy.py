"""A cross entropy and its gradient become one node: the logits are read once and written over.

Before: l = softmax_crossentropy(x, t); …; dx = softmax_crossentropy_grad(x, t, dy)
After:  dx, l = softmax_crossentropy_both(x, t, dy); …

Where dy does not depend on l, which it does not for means and weighted sums. What dy needs is moved
before the loss, and so are metrics of the logits (`argmax`), which can then be written over.

In mixed precision, logits of 16 bits are read, and their gradient written, as such (dense targets
on the CPU only):

Before: dx, l = sparse_softmax_crossentropy_both(cast(x), t, dy); d = cast(dx)
After:  d, l = sparse_softmax_crossentropy_both(x, t, dy)
"""

from __future__ import annotations

from hornbeam.backend.graph import Graph, Node
from hornbeam.backend.passes import partition
from hornbeam.backend.passes.rewrite import Rewrite
from hornbeam.backend.registry import REGISTRY

_SMALLER = 8  # times: a metric of the logits
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
            return loss, node, before | _metrics(graph, loss, node)
    return None


def _metrics(graph: Graph, loss: Node, gradient: Node) -> set[Node]:
    """What reduces the logits to something small, with all that it is made of."""
    found: set[Node] = set()
    logits, source = loss.inputs[0], loss.inputs[0].node
    same = {logits} | (set(source.inputs) if source.op.name == "cast" else set())
    for node in graph.nodes:
        if node is loss or node is gradient or not any(v in same for v in node.inputs):
            continue
        if node.op.name == "reshape":
            same.add(node.outputs[0])
        elif sum(v.size for v in node.outputs) <= logits.size // _SMALLER:
            before = _ancestors(node)
            if loss not in before and gradient not in before:
                found |= before
    return found


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
    rewrite, narrow = Rewrite(graph), _is_narrow(graph, loss, gradient)
    made: list = []

    def visit(node, inputs):
        if node is loss:
            logits = inputs[0].node.inputs[0] if narrow else inputs[0]
            operands = (logits, *inputs[1:], rewrite.mapping[gradient.inputs[2]])
            new = rewrite.new.add(REGISTRY[f"{loss.op.name}_both"], operands, {}, where=loss.where)
            new.device = loss.device
            made.extend(new.outputs)
            return (made[1],)
        if node is gradient:
            return (made[0],)
        if narrow and node.op.name == "cast" and node.inputs[0] is gradient.outputs[0]:
            return inputs  # converted already
        return None

    return rewrite.run(visit)


def _is_narrow(graph: Graph, loss: Node, gradient: Node) -> bool:
    """Whether the logits come from 16 bits, and their gradient goes there and nowhere else."""
    source, dx = loss.inputs[0].node, gradient.outputs[0]
    dense = loss.op.name == "softmax_crossentropy"
    if dx.dtype != "float32" or (dense and not (loss.device or "cpu").startswith("cpu")):
        return False
    if source.op.name != "cast" or source.inputs[0].dtype not in ("float16", "bfloat16"):
        return False
    dtype = source.inputs[0].dtype
    readers = [n for n in graph.nodes if any(v is dx for v in n.inputs)]
    kept = any(v is dx for v in (*graph.outputs, *graph.state.values()))
    return not kept and all(n.op.name == "cast" and n.outputs[0].dtype == dtype for n in readers)
