"""Equal small clusters on a GPU become one launch: the updates of an optimizer's variables.

Before: w1', m1' = elementwise[…](w1, g1, m1, lr); w2', m2' = elementwise[…](w2, g2, m2, lr)
After:  w1', m1', w2', m2' = elementwise[…, parts=2](w1, g1, m1, lr, w2, g2, m2, lr)

Starting a kernel takes as long as some megabytes of reading and writing, so large ones gain nothing.
Only results that no node reads are joined (new values of variables): nobody waits for them, and none
depends on another. Each part runs at the place of the last one.
"""

from __future__ import annotations

import math

from hornbeam.backend.graph import Graph, Node, Value
from hornbeam.backend.passes.rewrite import Rewrite
from hornbeam.backend.registry import Spec

_LARGEST = 1 << 20  # elements


def run(graph: Graph) -> Graph:
    if all((node.device or "cpu").startswith("cpu") for node in graph.nodes):
        return graph
    read = {v for node in graph.nodes for v in node.inputs}
    groups: dict[tuple, list[Node]] = {}
    for node in graph.nodes:
        if (key := _key(node, read)) is not None:
            groups.setdefault(key, []).append(node)
    joined = {node: group for group in groups.values() if len(group) > 1 for node in group}
    if not joined:
        return graph
    rewrite = Rewrite(graph)

    def visit(node, inputs):
        if node not in joined:
            return None
        group = joined[node]
        if node is not group[-1]:
            return node.outputs  # replaced below
        made = iter(_join(rewrite, group).outputs)
        for member in group:
            rewrite.mapping.update({v: next(made) for v in member.outputs})
        return tuple(rewrite.mapping[v] for v in node.outputs)

    return rewrite.run(visit)


def _cluster(node: Node) -> dict | None:
    """The attributes of a node as a cluster."""
    from hornbeam.backend import executor

    name, attrs = executor.kernel_call(node.op, node.inputs, node.attrs, node.outputs)
    return attrs if name == "elementwise" else None


def _key(node: Node, read: set[Value]) -> tuple | None:
    """Equal for nodes that can be joined; None for one that cannot."""
    if (node.device or "cpu").startswith("cpu") or any(v in read for v in node.outputs):
        return None
    attrs = _cluster(node)
    if attrs is None or "parts" in attrs:
        return None
    total = math.prod(node.outputs[0].shape)
    sizes = [math.prod(v.shape) for v in node.inputs]
    if not 0 < total <= _LARGEST or any(size not in (1, total) for size in sizes):
        return None
    return (
        node.device,
        tuple((name, tuple(value)) for name, value in sorted(attrs.items())),
        tuple((v.dtype, size == total) for v, size in zip(node.inputs, sizes, strict=True)),
    )


def _join(rewrite: Rewrite, group: list[Node]) -> Node:
    from hornbeam.backend.executor import CLUSTER

    cluster = _cluster(group[0])
    assert cluster is not None  # _key has asked
    attrs = {name: tuple(value) for name, value in cluster.items()} | {
        "parts": len(group),
        "_specs": tuple(Spec(v.shape, v.dtype) for node in group for v in node.outputs),
    }
    inputs = [rewrite.mapping[v] for node in group for v in node.inputs]
    joined = rewrite.new.add(CLUSTER, inputs, attrs, where=group[-1].where)
    joined.device = group[0].device
    return joined
