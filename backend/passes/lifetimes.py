"""How much memory the temporaries of a graph need at each node: what the plan of the program will do.

A model of `csrc/runtime/planner.cc` that is fast enough to compare many orders: values live from the
node that computes them to the last one that reads them, views share memory, element-wise results
take over operands that die. Results and new values of variables live elsewhere and count as nothing.
Scratch of kernels is not known here.
"""

from __future__ import annotations

import functools

from hornbeam.backend import _core, dtypes
from hornbeam.backend.graph import Graph, Node, Value
from hornbeam.backend.registry import LEAVES

_VIEWS = ("reshape", "barrier")
_ALL = 2**32 - 1  # every result over every operand of its size


@functools.cache
def _overwritten_operands() -> dict[str, int]:
    return _core.overwritten_operands()


class Flow:
    """The nodes of a graph (without leaves) and its values as numbers.

    Attributes:
        nodes: in the order of the graph.
        ins, outs: numbers of the values that each node reads and computes. A barrier only reads its
            first operand.
        producer: position of the node that computes a value; -1 for leaves.
        root: the value whose memory a value is.
        overwrites: which operands a node's results may be written over (`KernelDef::inplace`).
        bytes: memory of a value among the temporaries.
        kept: whether a value leaves the program.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.nodes: list[Node] = []
        self.values: list[Value] = []
        self.ins: list[list[int]] = []
        self.outs: list[list[int]] = []
        self.producer: list[int] = []
        self.root: list[int] = []
        self.bytes: list[int] = []
        self.view: list[bool] = []
        self.overwrites: list[int] = []
        number: dict[Value, int] = {}

        def enter(value, position):
            number[value] = len(self.values)
            self.values.append(value)
            self.producer.append(position)
            self.root.append(number[value])
            self.bytes.append(0 if position < 0 else self.full_bytes(number[value]))

        for node in graph.nodes:
            if node.op in LEAVES:
                for v in node.outputs:
                    enter(v, -1)
                continue
            position = len(self.nodes)
            self.nodes.append(node)
            view = node.op.name in _VIEWS
            self.view.append(view)
            kernel = "elementwise" if node.op.elementwise else node.op.name
            self.overwrites.append(_overwritten_operands().get(kernel, 0))
            read = node.inputs[:1] if node.op.name == "barrier" else node.inputs
            self.ins.append([number[v] for v in read])
            for v in node.outputs:
                enter(v, position)
            self.outs.append([number[v] for v in node.outputs])
            if view:
                out = number[node.outputs[0]]
                self.root[out] = self.root[number[node.inputs[0]]]
                self.bytes[out] = 0
        self.number = number
        self.kept = {self.root[number[v]] for v in (*graph.outputs, *graph.state.values())}
        for v in self.kept:
            self.bytes[v] = 0

    def full_bytes(self, v: int) -> int:
        """Memory of a value, wherever it lives."""
        return self.values[v].size * dtypes.item_bytes(self.values[v].dtype)

    def steps(self):
        """(position, values read, values computed) of every node."""
        return list(zip(range(len(self.nodes)), self.ins, self.outs, strict=True))

    def usage(self, steps, root=None, bytes_=None) -> list[int]:
        """Bytes that are in use at every step.

        Args:
            steps: as `steps()`, in any order.
            root, bytes_: in place of the attributes.
        """
        root, bytes_ = root or self.root, bytes_ or self.bytes
        last: dict[int, int] = {}
        for i, (_, ins, outs) in enumerate(steps):
            for v in ins:
                last[root[v]] = i
            for v in outs:
                last.setdefault(root[v], i)
        dying: list[list[int]] = [[] for _ in steps]
        for v, i in last.items():
            if bytes_[v]:
                dying[i].append(v)
        current, used = 0, []
        for i, (position, ins, outs) in enumerate(steps):
            gone = sum(bytes_[v] for v in dying[i])
            new = 0 if self.view[position] else sum(bytes_[v] for v in outs)
            taken, mask = 0, self.overwrites[position]
            if mask:
                ends = {v for v in dying[i] if v not in outs}
                may = {root[v] for k, v in enumerate(ins) if mask >> min(k, 31) & 1}
                free = [bytes_[v] for v in ends & may]
                for v in outs if mask == _ALL else outs[:1]:
                    if bytes_[v] in free:
                        free.remove(bytes_[v])
                        taken += bytes_[v]
            used.append(current + new - taken)
            current += new - gone
        return used
