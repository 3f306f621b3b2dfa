"""The walk that all passes share: a new graph, node by node, with values mapped to new ones."""

from __future__ import annotations

from hornbeam.backend.graph import Graph, Node, Value
from hornbeam.backend.registry import CONSTANT, INPUT, VARIABLE


class Rewrite:
    """Copies `graph` while `visit(node, inputs)` says what becomes of each node.

    `visit` returns the values that replace the node's outputs, or None to copy the node with the
    new inputs. It may call ops: the new graph is the one being traced. In the end it loses what no
    result needs.
    """

    def __init__(self, graph: Graph):
        self.old = graph
        self.new = Graph(parent=graph.parent)
        self.mapping: dict[Value, Value] = {}

    def run(self, visit, nodes=None) -> Graph:
        """The new graph; of these nodes of the old one, if not of all."""
        new, mapping = self.new, self.mapping
        with new:
            for node in self.old.nodes if nodes is None else nodes:
                if node.op in (INPUT, CONSTANT, VARIABLE):
                    self.copy_leaf(node)
                    continue
                inputs = tuple([mapping[v] for v in node.inputs])
                outputs = visit(node, inputs)
                if outputs is None:
                    outputs = self.copy(node, inputs)
                mapping.update(zip(node.outputs, outputs, strict=True))
        return self.finish()

    def copy_leaf(self, node: Node) -> None:
        new, (value,) = self.new, node.outputs
        if node.op is CONSTANT:
            self.mapping[value] = new.constant(node.attrs["tensor"])
            return
        copy = Node(new, node.op, (), node.attrs, [value], node.where)
        copy.device = node.device
        new.nodes.append(copy)
        self.mapping[value] = copy.outputs[0]
        if node.op is VARIABLE:
            new.variables[node.attrs["variable"]] = copy.outputs[0]

    def copy(self, node: Node, inputs, attrs=None) -> tuple[Value, ...]:
        copy = Node(self.new, node.op, inputs, attrs or node.attrs, node.outputs, node.where)
        copy.device = node.device
        self.new.nodes.append(copy)
        return copy.outputs

    def finish(self) -> Graph:
        old, new, m = self.old, self.new, self.mapping
        new.inputs = [m[v] for v in old.inputs]
        new.outputs = [m[v] for v in old.outputs]
        new.state = {var: m[v] for var, v in old.state.items()}
        new.captured = {outer: m[inner] for outer, inner in old.captured.items() if inner in m}
        new.keep(needed(new))
        return new


def needed(graph: Graph) -> set[Node]:
    """The nodes that results are made of; variables that are only written too."""
    found = {v.node for v in (*graph.outputs, *graph.state.values())}
    found.update(graph.variables[var].node for var in graph.state)
    for node in reversed(graph.nodes):
        if node in found:
            for v in node.inputs:
                found.add(v.node)
    return found


def uses(graph: Graph) -> dict[Value, int]:
    """How often each value is used, by nodes, outputs and new values of variables."""
    count: dict[Value, int] = {}
    for node in graph.nodes:
        for v in node.inputs:
            count[v] = count.get(v, 0) + 1
    for v in (*graph.outputs, *graph.state.values()):
        count[v] = count.get(v, 0) + 1
    return count
