"""Common subexpressions: the same op on the same values is computed once.

Before: a = exp(x); b = exp(x); return a + b    After: a = exp(x); return a + a
Source: global value numbering on SSA form, Click, Global Code Motion / Global Value Numbering, 1995.
"""

from __future__ import annotations

from hornbeam.backend.graph import Graph
from hornbeam.backend.passes.rewrite import Rewrite


def run(graph: Graph) -> Graph:
    rewrite = Rewrite(graph)
    known: dict = {}

    def visit(node, inputs):
        key = (node.op.name, node.device, inputs, *node.attrs.items())
        try:
            found = known.get(key)
        except TypeError:  # an attribute that does not hash: leave the node alone
            return None
        if found is None:
            found = known[key] = rewrite.copy(node, inputs)
        return found

    return rewrite.run(visit)
