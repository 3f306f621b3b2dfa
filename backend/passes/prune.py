"""Scans stop returning what nobody uses: the history of carries where nothing is differentiated.

Before: c, ys, history = scan(…); return c      After: c = scan(…); return c
"""

from __future__ import annotations

from hornbeam.backend.graph import Graph, Node
from hornbeam.backend.passes.rewrite import Rewrite, uses
from hornbeam.backend.registry import Spec


def run(graph: Graph) -> Graph:
    if not any(node.op.name == "scan" for node in graph.nodes):
        return graph
    count = uses(graph)
    rewrite = Rewrite(graph)

    def visit(node, inputs):
        if node.op.name != "scan":
            return None
        n = node.attrs["num_carry"]
        keep = [i for i, v in enumerate(node.outputs) if i < n or v in count]
        if len(keep) == len(node.outputs):
            return None
        body = _with_outputs(node.attrs["body"], keep)
        specs = [Spec(node.outputs[i].shape, node.outputs[i].dtype) for i in keep]
        new = Node(rewrite.new, node.op, inputs, node.attrs | {"body": body}, specs, node.where)
        new.device = node.device
        rewrite.new.nodes.append(new)
        outputs: list = [None] * len(node.outputs)
        for i, v in zip(keep, new.outputs, strict=True):
            outputs[i] = v
        return tuple(outputs)

    return rewrite.run(visit)


def _with_outputs(body: Graph, keep) -> Graph:
    rewrite = Rewrite(body)
    pruned = rewrite.run(lambda node, inputs: None)
    pruned.outputs = [pruned.outputs[i] for i in keep]
    return pruned
