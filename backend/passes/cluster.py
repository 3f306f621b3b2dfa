"""Element-wise nodes of one shape become programs of the tile engine: one pass over memory.

Before: a = x * y; b = exp(a); c = b + 1        After: c = elementwise[mul, exp, add](x, y, 1)

Nodes are joined greedily in topological order, with those that make their operands, and with those
that read the same ones where that delays nobody (updates of slots and weights). Joining must not
make a cycle: no value that a cluster needs from outside may itself depend on the cluster. That is
checked by a search backwards among the groups; it leaves out those whose `deep`, the latest node
that they wait for through any number of groups, stands before both candidates.
"""

from __future__ import annotations

import heapq

from hornbeam.backend.graph import Graph, Node, Value
from hornbeam.backend.passes import recompute
from hornbeam.backend.passes.rewrite import Rewrite
from hornbeam.backend.registry import Spec

_MAX_INSTRUCTIONS = 40
_MAX_OPERANDS = 24
_MAX_SEARCH = 400


class _Group:
    """Nodes that become one instruction (a single node at first)."""

    __slots__ = ("members", "again", "first", "last", "deep", "shape", "device")

    def __init__(self, index, node):
        self.members = {index: node}
        self.again: dict[int, Node] = {}  # nodes of other groups that it computes itself
        self.first = self.last = self.deep = index
        self.shape = node.outputs[0].shape if node.op.elementwise else None
        self.device = node.device

    def nodes(self) -> list[Node]:
        return [node for _, node in sorted((self.members | self.again).items())]

    def operands(self) -> list[Value]:
        """Values from outside, in the order of their first use."""
        nodes = self.nodes()
        inside = set(nodes)
        return list(dict.fromkeys(v for n in nodes for v in n.inputs if v.node not in inside))


def run(graph: Graph) -> Graph:
    group_of: dict[Node, _Group] = {}
    users: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
    for node in graph.nodes:
        for v in node.inputs:
            users[v.node].append(node)
    for i, node in enumerate(graph.nodes):
        group = group_of[node] = _Group(i, node)
        for v in node.inputs:
            group.deep = max(group.deep, group_of[v.node].deep)
        if group.shape is None:
            continue
        for v in node.inputs:
            candidates = [v.node]
            if v.shape == group.shape:
                # and who reads the same, if nobody waits for what they make of it
                readers = (n for n in users[v.node] if n in group_of)
                candidates += [n for n in readers if not _awaited(group_of[n], users)]
            for candidate in candidates:
                other, group = group_of[candidate], group_of[node]
                if (
                    other is not group
                    and other.shape == group.shape
                    and other.device == group.device
                    and _may_join(other, group, group_of)
                ):
                    _join(other, group, group_of, users)
    recompute.plan(graph, group_of, _MAX_INSTRUCTIONS, _MAX_OPERANDS)
    return _emit(graph, group_of, _order(group_of))


def _awaited(group, users) -> bool:
    """Whether a node outside of the group reads what it makes."""
    nodes = set(group.members.values())
    return any(user not in nodes for n in nodes for user in users[n])


def _may_join(a, b, group_of):
    members = a.members | b.members
    if len(members) > _MAX_INSTRUCTIONS:
        return False
    nodes = set(members.values())
    outside = {v for n in nodes for v in n.inputs if v.node not in nodes}
    if len(outside) > _MAX_OPERANDS:
        return False
    # Does a value from outside depend on a member?
    first = min(a.first, b.first)
    pending = [g for g in {group_of[v.node] for v in outside} if g.deep >= first]
    seen = set(pending)
    while pending:
        group = pending.pop()
        if group is a or group is b:
            return False
        if len(seen) > _MAX_SEARCH:
            return False
        for n in group.members.values():
            for v in n.inputs:
                g = group_of[v.node]
                if g is a or g is b:
                    return False
                if g.deep >= first and g not in seen:
                    seen.add(g)
                    pending.append(g)
    return True


def _join(a, b, group_of, users):
    for i, node in b.members.items():
        a.members[i] = node
        group_of[node] = a
    a.first = min(a.first, b.first)
    a.last = max(a.last, b.last)
    a.deep = max(a.deep, b.deep)
    pending = [a]
    while pending:  # who waits for one of them now waits for both
        group = pending.pop()
        for member in group.members.values():
            for user in users[member]:
                g = group_of.get(user)
                if g is not None and g.deep < group.deep:
                    g.deep = group.deep
                    pending.append(g)


def _order(group_of):
    """Groups, each after those it takes values from."""
    groups = list(dict.fromkeys(group_of.values()))
    waiting = {}  # group -> number of groups that it still waits for
    followers: dict[_Group, list[_Group]] = {g: [] for g in groups}
    for g in groups:
        before = {group_of[v.node] for v in g.operands()}
        waiting[g] = len(before)
        for other in before:
            followers[other].append(g)
    # (position, number, group): a group goes where its last member stood, inputs first
    ready = [(g.last, k, g) for k, g in enumerate(groups) if not waiting[g]]
    heapq.heapify(ready)
    number = {g: k for k, g in enumerate(groups)}
    order = []
    while ready:
        _, _, g = heapq.heappop(ready)
        order.append(g)
        for f in followers[g]:
            waiting[f] -= 1
            if not waiting[f]:
                heapq.heappush(ready, (f.last, number[f], f))
    if len(order) != len(groups):
        raise AssertionError("cluster: groups wait for each other")
    return order


def _emit(graph, group_of, order):
    used_outside = set(graph.outputs) | set(graph.state.values())
    for g in order:
        used_outside.update(g.operands())

    rewrite = Rewrite(graph)
    with rewrite.new:
        for g in order:
            _emit_group(rewrite, g, used_outside)
    return rewrite.finish()


def _emit_group(rewrite, group, used_outside):
    if not group.members:
        return  # computed again by the one that wanted it
    nodes, operands = group.nodes(), group.operands()
    m = rewrite.mapping
    if len(nodes) == 1:
        (node,) = nodes
        if not node.inputs and node.op.name in ("input", "constant", "variable"):
            rewrite.copy_leaf(node)
            return
        out = rewrite.copy(node, tuple(m[v] for v in node.inputs))
        m.update(zip(node.outputs, out, strict=True))
        return
    from hornbeam.backend.executor import CLUSTER

    inputs = {v: i for i, v in enumerate(operands)}
    ids = dict(inputs)
    fns, arity, args, dtypes = [], [], [], []
    for node in nodes:
        fns.append(node.op.name)
        arity.append(len(node.inputs))
        args += [ids[v] for v in node.inputs]
        dtypes.append(node.outputs[0].dtype)
        ids[node.outputs[0]] = len(inputs) + len(fns) - 1
    own = set(group.members.values())
    outs = [n.outputs[0] for n in nodes if n in own and n.outputs[0] in used_outside]
    attrs = {
        "fns": tuple(fns),
        "arity": tuple(arity),
        "args": tuple(args),
        "dtypes": tuple(dtypes),
        "outs": tuple(ids[v] for v in outs),
        "_specs": tuple(Spec(v.shape, v.dtype) for v in outs),
    }
    node = rewrite.new.add(CLUSTER, [m[v] for v in inputs], attrs, where=nodes[-1].where)
    node.device = group.device
    m.update(zip(outs, node.outputs, strict=True))
