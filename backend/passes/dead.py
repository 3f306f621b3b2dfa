"""Drops nodes that no output and no variable needs.

Before: a = exp(x); b = log(x); return b        After: b = log(x); return b

The first pass: every later one leaves out what it makes superfluous itself (`Rewrite.finish`).
"""

from __future__ import annotations

from hornbeam.backend.graph import Graph
from hornbeam.backend.passes.rewrite import Rewrite, needed
from hornbeam.backend.registry import INPUT


def run(graph: Graph) -> Graph:
    live = needed(graph)
    nodes = [node for node in graph.nodes if node in live or node.op is INPUT]
    return Rewrite(graph).run(lambda node, inputs: None, nodes)
