"""Cheap element-wise values that a later cluster reads are computed again in it, not stored.

Before: s, y = elementwise[sigmoid, mul](x); …; dx = elementwise[…](s, x, dy)
After:  y = elementwise[sigmoid, mul](x); …; dx = elementwise[sigmoid, …](x, dy)

Called by `cluster`, between grouping and writing. A value goes where one group alone reads it and
what it is made of is read there anyway, or is no larger: that saves a write, mostly a read, and the
memory in between. Same functions of the same numbers, so the same bits but where the tile engine
makes a product and a sum one instruction. (Not for float16 and bfloat16, which are rounded as they
are stored.)
"""

from __future__ import annotations

from hornbeam.backend import dtypes

_LEAST_BYTES = 1 << 18  # what is smaller stays in the cache
# Costs in bytes that could be moved meanwhile, for each element (a core moves 40 GB/s). Functions
# that are not here cost too much.
_COST, _DEAR_COST, _WRITE = 2.0, 8.0, 1.25
_DEAR = frozenset(("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "gelu", "gelu_tanh"))
_CHEAP = frozenset(
    "add subtract multiply divide negative abs sign square sqrt rsqrt reciprocal maximum minimum "
    "where cast equal not_equal less less_equal greater greater_equal logical_and logical_or "
    "logical_not".split()
)


def plan(graph, group_of, max_instructions: int, max_operands: int) -> None:
    """Fills `again` of groups: nodes of other groups (by position) that they compute themselves."""
    readers: dict = {}  # value → groups that read it from outside, None for results
    for node in graph.nodes:
        for v in node.inputs:
            if group_of[v.node] is not group_of[node]:
                readers.setdefault(v, set()).add(group_of[node])
    for v in (*graph.outputs, *graph.state.values()):
        readers.setdefault(v, set()).add(None)
    for group in sorted(set(group_of.values()), key=lambda g: g.last):
        if group.shape is None or not group.members:
            continue
        sources = [group_of[v.node] for n in group.members.values() for v in n.inputs]
        for source in dict.fromkeys(sources):
            if source is group or source.shape != group.shape or source.device != group.device:
                continue
            saved = [v for n in source.members.values() for v in n.outputs if _is_apt(v)]
            saved = [v for v in saved if readers.get(v) == {group}]
            for part in (saved, *([v] for v in saved if len(saved) > 1)):  # all, else each
                found = _again(group, source, part, readers) if part else None
                if found is None:
                    continue
                again, leaves = found
                operands = {v for v, r in readers.items() if group in r}
                if len(group.members) + len(group.again) + len(again) > max_instructions:
                    continue
                if len(operands.difference(part) | leaves) > max_operands:
                    continue
                group.again |= again
                for v in part:
                    readers[v].discard(group)
                for v in leaves:
                    readers.setdefault(v, set()).add(group)
                _prune(source, readers)
                if part is saved:
                    break


def _is_apt(v) -> bool:
    return _bytes(v) >= _LEAST_BYTES and v.dtype not in ("bool", "float16", "bfloat16")


def _again(group, source, saved, readers):
    """(nodes by position, values read in place of those saved), or None if it does not pay."""
    position = {n: i for i, n in source.members.items()}
    again, leaves, pending, dear = {}, set(), list(saved), 0
    wanted = set(saved)
    while pending:
        node = pending.pop().node
        if position[node] in again:
            continue
        if node.op.name not in _CHEAP and node.op.name not in _DEAR:
            return None
        if node.outputs[0].dtype in ("float16", "bfloat16"):
            return None
        again[position[node]] = node
        dear += node.op.name in _DEAR
        for v in node.inputs:
            stored = bool(readers.get(v)) and v not in wanted
            if v.node in position and not stored:
                pending.append(v)
            else:
                leaves.add(v)
    less, more = sum(map(_bytes, saved)), 0.0
    for v in leaves:
        by = readers.get(v, ())
        more += _bytes(v) * (0 if group in by else 1 if by else 1 + _WRITE)
    cost = (_COST * (len(again) - dear) + _DEAR_COST * dear) * saved[0].size
    pays = cost < (1 + _WRITE) * less - more and more <= 1.05 * less  # (a scalar may come along)
    return (again, leaves) if pays else None


def _prune(group, readers) -> None:
    """Leaves out of a group what nobody wants any more."""
    before = group.operands()
    wanted = {n for n in group.members.values() if any(readers.get(v) for v in n.outputs)}
    for i in sorted(group.members, reverse=True):
        node = group.members[i]
        if node in wanted:
            wanted.update(v.node for v in node.inputs)
        else:
            del group.members[i]
    for v in set(before).difference(group.operands()):
        readers[v].discard(group)


def _bytes(v) -> int:
    return v.size * dtypes.item_bytes(v.dtype)
