"""The graph between symbolic inputs and outputs, found by walking `KerasTensor` histories."""

from __future__ import annotations

from collections import defaultdict


def node_of(tensor):
    """The node that made a `KerasTensor`."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def is_input(tensor):
    """Whether a `KerasTensor` was made by `Input`."""
    return node_of(tensor).is_input


def between(inputs, outputs):
    """(nodes, first visits): the nodes that `outputs` need, `inputs` given; each after its inputs.

    First visits are operation → order in which a depth-first walk from the outputs meets it.
    """
    given = {id(x) for x in inputs}
    nodes, done, open_nodes, visits = [], set(), set(), {}

    def enter(tensor):
        node = node_of(tensor)
        if node in done:
            return None
        if not node.is_input and id(tensor) in given:
            done.add(node)
            return None
        if node in open_nodes:
            raise ValueError(f"model: tensor {tensor} of '{node.operation.name}' is in a cycle")
        visits.setdefault(node.operation, len(visits))
        open_nodes.add(node)
        return node, iter(() if node.is_input else node.input_tensors)

    for output in outputs:
        stack = [enter(output)]
        while stack and stack[-1] is not None:
            node, pending = stack[-1]
            child = next((e for e in map(enter, pending) if e is not None), None)
            if child is not None:
                stack.append(child)
                continue
            stack.pop()
            open_nodes.discard(node)
            done.add(node)
            nodes.append(node)
    return nodes, visits


class Graph:
    """Nodes in an order in which they can run, and the operations in Keras's order.

    The order of the operations is that of the layers, hence of the weights, of a model: by
    decreasing distance from the outputs, then by first visit.

    Attributes:
        nodes: nodes that compute something, each after its inputs.
        keys: set of (operation, index of the node) of all nodes, inputs included.
        operations: operations without repetition.
    """

    def __init__(self, inputs, outputs):
        nodes, visits = between(inputs, outputs)
        inside = set(nodes)
        depth, operation_depth = {}, {}
        for node in reversed(nodes):
            d = max(depth.setdefault(node, 0), operation_depth.get(node.operation, 0))
            operation_depth[node.operation] = depth[node] = d
            for parent in {id(n): n for n in map(node_of, node.input_tensors)}.values():
                if parent in inside:
                    depth[parent] = max(d + 1, depth.get(parent, 0))
        for tensor in inputs:  # those that no output needs
            node = node_of(tensor)
            if node.operation not in operation_depth and node.is_input:
                operation_depth[node.operation] = depth[node] = 0
                visits[node.operation] = -1
        by_depth = defaultdict(list)
        for node, d in depth.items():
            by_depth[d].append(node)
        ordered = [node for d in sorted(by_depth, reverse=True) for node in by_depth[d]]
        self.nodes = [node for node in ordered if not node.is_input]
        self.keys = {(n.operation, n.operation._inbound_nodes.index(n)) for n in ordered}
        self.operations = sorted(operation_depth, key=lambda op: (-operation_depth[op], visits[op]))
        self._check(inputs, ordered)

    def _check(self, inputs, ordered):
        known = {id(x) for x in inputs}
        for node in ordered:
            for x in node.input_tensors:
                if id(x) not in known:
                    raise ValueError(
                        f"model: graph disconnected: '{node.operation.name}' needs the tensor {x}, "
                        "which does not come from the given inputs"
                    )
            if not node.is_input:
                known.update(id(x) for x in node.output_tensors)
        names = [op.name for op in self.operations]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"model: the names of operations must be unique, got {twice} twice")
