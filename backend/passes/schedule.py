"""The order of the nodes: values live shorter.

Before: dw1 = …; dw2 = …; w1' = w1 - dw1; w2' = w2 - dw2
After:  dw1 = …; w1' = w1 - dw1; dw2 = …; w2' = w2 - dw2

A node that gives back at least as much memory as it takes runs as soon as its operands are there; one
that takes more than it gives back, and whose operands are there anyway, waits for its first reader.
The result is taken if it needs less memory than the order of the trace. New values of variables are
computed after the last reader of the old value, so that they are written in place.
"""

from __future__ import annotations

import heapq

from hornbeam.backend.graph import Graph
from hornbeam.backend.passes.lifetimes import Flow
from hornbeam.backend.registry import LEAVES

_FEWEST = 8  # nodes of a graph that is worth a look
_SMALL = 4096  # bytes that are not worth waiting for (a step size on which all updates wait)


def run(graph: Graph) -> Graph:
    if len(graph.nodes) < _FEWEST or any(node.device for node in graph.nodes):
        return graph
    flow = Flow(graph)
    if len(flow.nodes) < _FEWEST:
        return graph
    after = _dependencies(flow)
    steps = flow.steps()
    start = list(range(len(steps)))

    def need(order):
        return max(flow.usage([steps[i] for i in order]))

    lazy = _delayed(flow, after)
    candidates = [_hoisted(flow, after, order) for order in (start, lazy)]
    best = min(candidates, key=need)
    if need(best) > need(start) or best == start:
        return graph
    leaves = [node for node in graph.nodes if node.op in LEAVES]
    graph.nodes = leaves + [flow.nodes[i] for i in best]
    return graph


def _dependencies(flow: Flow) -> list[set[int]]:
    """The nodes that each node runs after."""
    number, position = flow.number, {node: i for i, node in enumerate(flow.nodes)}
    after = [{position[v.node] for v in node.inputs if v.node in position} for node in flow.nodes]
    readers: dict[int, list[int]] = {}
    for i, ins in enumerate(flow.ins):
        for v in ins:
            readers.setdefault(flow.root[v], []).append(i)
    for variable, new in flow.graph.state.items():
        old = flow.graph.variables.get(variable)
        update = position.get(new.node)
        if old is None or update is None:
            continue
        for i in readers.get(number[old], ()):
            if i < update:  # as traced: no cycle
                after[update].add(i)
    return after


def _followers(after) -> list[list[int]]:
    followers: list[list[int]] = [[] for _ in after]
    for i, needs in enumerate(after):
        for j in needs:
            followers[j].append(i)
    return followers


def _delayed(flow: Flow, after) -> list[int]:
    """The order in which nodes that only take memory stand before their first reader."""
    count = len(flow.nodes)
    place = [float(i) for i in range(count)]
    followers, last = _followers(after), {}
    for i, ins in enumerate(flow.ins):
        for v in ins:
            last[flow.root[v]] = i
    for i in reversed(range(count)):
        grows = sum(flow.bytes[v] for v in flow.outs[i]) > 0 or flow.view[i]
        if not grows or not followers[i]:
            continue
        until = min(place[j] for j in followers[i])
        roots = {flow.root[v] for v in flow.ins[i]}
        if all(not flow.bytes[v] or last[v] >= until for v in roots):
            place[i] = until - 0.5 + i / (4 * count)
    order = sorted(range(count), key=lambda i: (place[i], i))
    at = {i: k for k, i in enumerate(order)}
    valid = all(at[j] < at[i] for i in range(count) for j in after[i])
    return order if valid else list(range(count))


def _hoisted(flow: Flow, after, order) -> list[int]:
    """`order`, but what frees as much as it takes comes as soon as it can."""
    count = len(order)
    rank = {i: k for k, i in enumerate(order)}
    waiting = [len(needs) for needs in after]
    followers = _followers(after)
    readers: dict[int, set[int]] = {}
    for i, ins in enumerate(flow.ins):
        for v in ins:
            readers.setdefault(flow.root[v], set()).add(i)
    done, result = [False] * count, []

    def shrinks(i):
        takes = 0 if flow.view[i] else sum(flow.bytes[v] for v in flow.outs[i])
        roots = {flow.root[v] for v in flow.ins[i]}
        return takes <= _SMALL + sum(flow.bytes[v] for v in roots if len(readers[v]) == 1)

    def emit(i):
        done[i] = True
        result.append(i)
        touched = []
        for j in followers[i]:
            waiting[j] -= 1
            touched.append(j)
        for v in {flow.root[v] for v in flow.ins[i]}:
            readers[v].discard(i)
            if len(readers[v]) == 1:  # the last reader frees it
                touched += readers[v]
        return touched

    touched = [i for i in range(count) if not waiting[i]]
    for i in order:
        if done[i]:
            continue
        ready: list[tuple[int, int]] = []
        touched += emit(i)
        while touched or ready:
            for j in touched:
                if not done[j] and not waiting[j] and shrinks(j):
                    heapq.heappush(ready, (rank[j], j))
            touched = []
            if ready:
                _, j = heapq.heappop(ready)
                if not done[j] and shrinks(j):
                    touched = emit(j)
    return result
