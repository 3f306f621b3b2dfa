"""Drops nodes that no output and no variable needs.

Before: a = exp(x); b = log(x); return b        After: b = log(x); return b
"""

from __future__ import annotations

from hornbeam.backend.graph import Graph
from hornbeam.backend.passes.rewrite import Rewrite
from hornbeam.backend.registry import INPUT


def run(graph: Graph) -> Graph:
    needed = {v.node for v in (*graph.outputs, *graph.state.values())}
    # the slot of a variable that is only written is needed too
    needed |= {graph.variables[var].node for var in graph.state}
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(v.node for v in node.inputs)
    rewrite = Rewrite(graph)
    with rewrite.new:
        for node in graph.nodes:
            if node.op is INPUT or node in needed:
                if node.op.name in ("input", "constant", "variable"):
                    rewrite.copy_leaf(node)
                else:
                    out = rewrite.copy(node, tuple(rewrite.mapping[v] for v in node.inputs))
                    rewrite.mapping.update(zip(node.outputs, out, strict=True))
    return rewrite.finish()
