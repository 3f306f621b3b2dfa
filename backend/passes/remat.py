"""Values of the forward pass are computed again instead of being kept for the backward pass.

Before: a = f(x); b = g(a); …; dx = df(a, …)
After:  a = f(x); b = g(a); …; a' = f(x); dx = df(a', …)

Runs only where a program needs more memory than `hornbeam.config.set_memory_budget` allows. The turn
is the step at which most memory is in use. What lives across it is either kept, or *dropped*: nodes
after the turn read a copy, made just before its first reader by the same nodes from what is kept. All
readers share one copy.

What to drop: each value in turn, cheapest work per byte first (element-wise clusters, normalisation,
then products and convolutions), if that lowers the memory over the budget, summed over all steps. Where
a node computes several values, or larger ones, its operands may be kept in their place.
That alone finds the checkpoints of long chains: a value whose copy would make its neighbours live
longer than it did lowers nothing. Other starts drop all but every n-th value at first. At the end,
what turned out to be needless is kept again.

Copies compute the same bits: random numbers are functions of their key, and functions in Python and
loops are never run again. Sources: see `hornbeam.backend.settings`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

from hornbeam.backend.devices import HOST
from hornbeam.backend.graph import Graph, Node, format_where
from hornbeam.backend.passes import schedule
from hornbeam.backend.passes.lifetimes import Flow
from hornbeam.backend.passes.rewrite import Rewrite
from hornbeam.backend.registry import LEAVES

_STARTS = (0, 2, 3, 4, 6, 8, 12)  # keep every n-th; 0: all
_ROUNDS = 3
_TRIES = 4
_FLOPS_PER_BYTE = 5.0  # that a processor does while it moves a byte
_MEBIBYTE = 2.0**20


def fit(graph: Graph, program, budget: int, lower: Callable):
    """(graph, program) within the budget, or as near to it as can be, with a warning."""
    need = program.arena_bytes
    best = (need, graph, program)
    flow = Flow(graph)
    if any(node.device not in (None, HOST) for node in flow.nodes):
        warnings.warn(
            f"set_memory_budget: a program on several devices keeps its {need} bytes; the budget "
            f"of {budget} is for programs on {HOST} only",
            stacklevel=2,
        )
        return graph, program
    # The plan also holds scratch, and gaps: the estimate aims lower by as much as it was wrong.
    target = budget - (need - max(flow.usage(flow.steps())))
    for _ in range(_TRIES):
        attempt, reached = _rewritten(Flow(graph), target)
        attempt = schedule.run(attempt)
        made = lower(attempt)
        if made.arena_bytes < best[0]:
            best = (made.arena_bytes, attempt, made)
        if made.arena_bytes <= budget or not reached:
            break
        target -= made.arena_bytes - budget
    if best[0] > budget:
        _warn(best, need, budget)
    return best[1:]


def _warn(best, need, budget):
    least, graph, _ = best
    flow = Flow(graph)
    used = flow.usage(flow.steps())
    alive = _alive(flow, used.index(max(used)))
    largest = sorted(alive, key=lambda v: -flow.bytes[v])[:3]
    what = "; ".join(
        f"{flow.bytes[v] / _MEBIBYTE:.1f} MiB by {flow.nodes[flow.producer[v]].op.name} "
        f"{tuple(flow.values[v].shape)} {format_where(flow.nodes[flow.producer[v]].where)}".rstrip()
        for v in largest
    )
    what = f"Largest at the peak: {what}." if largest else "All of it is scratch of kernels."
    before = "" if least == need else f" (computing values again brought it from {need} bytes)"
    warnings.warn(
        f"set_memory_budget: a program needs {least} bytes for its temporaries{before}; the budget is "
        f"{budget}. {what} Likely remedies: a smaller batch, or a larger budget",
        stacklevel=2,
    )


def _alive(flow, at):
    """The values in use at a step."""
    last: dict[int, int] = {}
    for i, (_, ins, outs) in enumerate(flow.steps()):
        for v in (*ins, *outs):
            last[flow.root[v]] = i
    return [v for v, i in last.items() if flow.bytes[v] and flow.producer[v] <= at <= i]


def _work(node: Node) -> float:
    """What a node costs, in bytes moved."""
    moved = sum(v.size for v in (*node.inputs, *node.outputs)) * 4.0
    out, name = node.outputs[0], node.op.name
    if name == "matmul":
        a = node.inputs[0].shape
        flops = 2.0 * out.size * a[-2 if node.attrs.get("transpose_a") else -1]
    elif name.startswith("conv"):
        w = node.inputs[1]
        flops = 2.0 * out.size * w.size / max(w.shape[-1], 1)
    elif name == "elementwise":
        flops = float(out.size * len(node.attrs["fns"]))
    elif name == "attention":
        flops = 4.0 * node.inputs[0].size * node.inputs[1].shape[1]
    elif name.endswith("_sequence"):
        flops = 2.0 * out.size * max(v.shape[-1] for v in node.inputs if len(v.shape) == 2)
    else:
        flops = 0.0
    return moved + flops / _FLOPS_PER_BYTE


class _Move(NamedTuple):
    """Values to drop, and values to keep across the turn that would have died before it."""

    dropped: tuple[int, ...]
    kept: tuple[int, ...]


class _Search:
    def __init__(self, flow: Flow, target: int):
        self.flow, self.target = flow, target
        used = flow.usage(flow.steps())
        self.turn = used.index(max(used))
        self.again = [  # nodes that may run twice
            node.op.host is None and not any(isinstance(a, Graph) for a in node.attrs.values())
            for node in flow.nodes
        ]
        self.work = [_work(node) for node in flow.nodes]
        late = {flow.root[v] for ins in flow.ins[self.turn :] for v in ins}
        self.crossing = [
            v
            for v in sorted(late)
            if 0 <= flow.producer[v] < self.turn and flow.bytes[v] and v not in flow.kept
        ]
        self._across = set(self.crossing)

    def steps(self, moves):
        """Steps, roots and bytes of values, and what the copies cost."""
        dropped = {v for move in moves for v in move.dropped}
        extra = {v for move in moves for v in move.kept}
        flow, turn = self.flow, self.turn
        root, size = list(flow.root), list(flow.bytes)
        steps, cost = flow.steps()[:turn], 0.0
        late: dict[int, int] = {}  # value → what nodes after the turn read in its place

        def stays(v):
            p, r = flow.producer[v], flow.root[v]
            if p < 0 or p >= turn or r in flow.kept or not self.again[p]:
                return True
            return r in extra or (r in self._across and r not in dropped)

        def copy(v):
            nonlocal cost
            pending = [v]
            while pending:
                u = pending[-1]
                if u in late:
                    pending.pop()
                    continue
                if stays(u):
                    late[u] = u
                    continue
                p = flow.producer[u]
                missing = [w for w in flow.ins[p] if w not in late]
                if missing:
                    pending += missing
                    continue
                ins, outs = [late[w] for w in flow.ins[p]], []
                for o in flow.outs[p]:
                    late[o] = len(root)
                    outs.append(len(root))
                    root.append(root[ins[0]] if flow.view[p] else len(root))
                    size.append(0 if flow.view[p] else flow.full_bytes(o))
                steps.append((p, ins, outs))
                cost += self.work[p] if not flow.view[p] else 0.0
            return late[v]

        for i in range(turn, len(flow.nodes)):
            ins = [copy(v) if flow.root[v] in dropped else v for v in flow.ins[i]]
            steps.append((i, ins, flow.outs[i]))
        return steps, root, size, cost

    def score(self, moves):
        """(peak, memory over the target summed over the steps, cost)."""
        steps, root, size, cost = self.steps(moves)
        used = self.flow.usage(steps, root, size)
        return max(used), sum(max(0, u - self.target) for u in used), cost

    def moves(self):
        """What can be dropped, cheapest work per byte first."""
        flow = self.flow
        least = max((flow.bytes[v] for v in self.crossing), default=0) / 256
        of_node: dict[int, list[int]] = {}
        for v in self.crossing:
            if flow.bytes[v] >= least and self.again[flow.producer[v]]:
                of_node.setdefault(flow.producer[v], []).append(v)
        moves = []
        for p, values in of_node.items():
            moves += [_Move((v,), ()) for v in values]
            if len(values) > 1:
                moves.append(_Move(tuple(values), ()))
            inputs = dict.fromkeys(flow.root[v] for v in flow.ins[p])
            kept = tuple(v for v in inputs if flow.bytes[v] and v not in self._across)
            if kept:  # what this node reads is kept in place of what it computes
                moves.append(_Move(tuple(values), kept))

        def price(move):
            gain = sum(flow.bytes[v] for v in move.dropped) - sum(flow.bytes[v] for v in move.kept)
            return self.score([move])[2] / gain if gain > 0 else None

        prices = {move: price(move) for move in moves}
        moves = [move for move in moves if prices[move] is not None]
        return sorted(moves, key=lambda move: (prices[move], move))

    def find(self):
        moves, results = self.moves(), []
        order = sorted({v for move in moves for v in move.dropped})
        for start in _STARTS:
            kept = set(order[:: start or 1])
            begin = [m for m in moves if not m.kept and kept.isdisjoint(m.dropped)]
            results.append(self._improve(begin, moves))
            if start == 0 and results[0][0][0] <= self.target:
                break
        fits = [r for r in results if r[0][0] <= self.target]
        if fits:
            return min(fits, key=lambda r: r[0][2])[1]
        return min(results, key=lambda r: r[0][0])[1]

    def _improve(self, taken, moves):
        now = self.score(taken)
        for _ in range(_ROUNDS):
            before = now
            for move in moves:
                if now[0] <= self.target:
                    break
                if move in taken:
                    continue
                then = self.score([*taken, move])
                if then[1] < now[1]:
                    now, taken = then, [*taken, move]
            if now[0] <= self.target or now == before:
                break
        for move in reversed(moves):  # the dearest first
            if move in taken:
                fewer = [m for m in taken if m != move]
                then = self.score(fewer)
                if then[0] <= max(self.target, now[0]) and then[2] <= now[2]:
                    now, taken = then, fewer
        return now, taken


def _rewritten(flow: Flow, target: int) -> tuple[Graph, bool]:
    """The graph with copies, and whether it stays within the target."""
    search = _Search(flow, target)
    taken = search.find()
    steps, *_ = search.steps(taken)
    reached = search.score(taken)[0] <= target
    rewrite = Rewrite(flow.graph)
    mapping = rewrite.mapping
    with rewrite.new:
        for node in flow.graph.nodes:
            if node.op in LEAVES:
                rewrite.copy_leaf(node)
        new = {i: mapping[v] for v, i in flow.number.items() if v in mapping}
        for position, ins, outs in steps:
            node = flow.nodes[position]
            inputs = tuple(new[i] for i in ins)
            if len(inputs) < len(node.inputs):  # a barrier also names what it waits for
                inputs += tuple(new[flow.number[v]] for v in node.inputs[len(inputs) :])
            values = rewrite.copy(node, inputs)
            new.update(zip(outs, values, strict=True))
            if outs is flow.outs[position]:
                mapping.update(zip(node.outputs, values, strict=True))
    return rewrite.finish(), reached
