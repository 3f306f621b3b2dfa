"""Gradients of embedding tables stay rows: what reads such a sum element by element gets the rows.

Before: g = segment_reduce(rows, ids); w', m' = elementwise(g, w, m)
After:  keys, order = segment_order(ids); w', m' = elementwise(rows, w, m, keys, order, sparse=…)

The tile engine adds the rows of a tile up as it comes to it; a tile without any reads zeros. No buffer
of the table's size is made, filled or read. Same sums in the same order, so the same bits.

Where all results keep their old value unless the row is touched (`where(nonzero_rows(g), new, old)`, the
optimizers' `lazy_embeddings`), the engine walks over the touched rows alone (attribute `lazy`).

The norm of such a gradient, to clip it, is that of the sums of its rows:

Before: n = reduce_sum(square(g))
After:  n = reduce_sum(square(segment_sums(rows, keys, order)))
"""

from __future__ import annotations

from hornbeam.backend.graph import Graph, Node
from hornbeam.backend.passes.rewrite import Rewrite
from hornbeam.backend.registry import REGISTRY, VARIABLE

_MANY = 8  # rows for each of the table
_SMALL = 8192  # elements of a table


def run(graph: Graph) -> Graph:
    if not any(node.op.name == "segment_reduce" for node in graph.nodes):
        return graph
    readers: dict = {}
    for node in graph.nodes:
        for v in node.inputs:
            readers.setdefault(v, []).append(node)
    for v in (*graph.outputs, *graph.state.values()):
        readers.setdefault(v, []).append(None)
    squares = {node for node in graph.nodes if _is_for_norm(node, readers)}
    for node in squares:
        readers[node.inputs[0]].remove(node)
    rewrite, orders = Rewrite(graph), {}

    def sorted_rows(source):
        """(rows, the segments and rows in their order, number of segments)."""
        rows, ids = (rewrite.mapping[v] for v in source.inputs)
        order = {"num_segments": source.attrs["num_segments"], "wrap": source.attrs["wrap"]}
        key = (ids, *order.values())
        if key not in orders:
            op = REGISTRY["segment_order"]
            orders[key] = rewrite.new.add(op, (ids,), order, where=source.where).outputs
        return rows, orders[key], order["num_segments"]

    def visit(node, inputs):
        if node in squares:
            rows, order, segments = sorted_rows(node.inputs[0].node)
            sums = rewrite.new.add(
                REGISTRY["segment_sums"],
                (rows, *order),
                {"num_segments": segments},
                where=node.where,
            )
            return rewrite.new.add(node.op, sums.outputs, {}, where=node.where).outputs
        if not _is_cluster(node):
            return None
        sums = [i for i, v in enumerate(node.inputs) if _is_sparse(v, node)]
        lazy = _lazy(graph, node, sums, readers)
        if lazy is None:
            sums = [i for i in sums if _read_alike(node.inputs[i], readers)]
        if not sums:
            return None
        count, attrs, left_out = len(inputs), dict(node.attrs), None
        if lazy is not None:
            left_out, program = lazy
            attrs |= program
        place = {i: k for k, i in enumerate(i for i in range(count) if i != left_out)}
        inputs, places = [inputs[i] for i in place], []
        for i in sums:
            inputs[place[i]], order, _ = sorted_rows(node.inputs[i].node)
            places += [place[i], len(inputs), len(inputs) + 1]
            inputs += order
        for name in ("args", "outs", "lazy"):
            if name in attrs:
                attrs[name] = tuple(
                    place[a] if a < count else a - count + len(inputs) for a in attrs[name]
                )
        return rewrite.copy(node, tuple(inputs), attrs | {"sparse": tuple(places)})

    return rewrite.run(visit)


def _is_for_norm(node: Node, readers) -> bool:
    """Whether a node squares a sum of rows, and all that is wanted is the sum of all squares."""
    if node.op.name != "square" or node.device or not _is_sparse(node.inputs[0], node):
        return False
    return all(
        n is not None
        and n.op.name == "reduce_sum"
        and len(n.attrs["axes"]) == len(n.inputs[0].shape)
        for n in readers[node.outputs[0]]
    )


def _is_cluster(node: Node | None) -> bool:
    return node is not None and node.op.name == "elementwise" and not node.device


def _read_alike(value, readers) -> bool:
    return all(_is_cluster(n) and n.outputs[0].shape == value.shape for n in readers[value])


def _is_sparse(value, cluster: Node) -> bool:
    """Whether `value` is a sum of rows, of the shape of the cluster, that is better read as rows.

    Rows and their order must differ in size from the results, which else could take their memory. Many
    rows for a small table are summed first: that is done in parts, by all threads.
    """
    source = value.node
    if source.op.name != "segment_reduce" or source.attrs["reduction"] != "add":
        return False
    rows, segments = source.inputs[1].size, value.shape[0]
    return (
        value.dtype == "float32"
        and value.shape == cluster.outputs[0].shape
        and len(source.inputs[1].shape) == 1
        and 0 < rows < _MANY * segments
        and rows not in (segments, value.size)
        and (rows < segments or value.size > _SMALL)
    )


def _lazy(graph, node, sums, readers):
    """The mask among the inputs and the program without the choice of rows that it makes, if that
    is all that its results are; else None."""
    count = len(node.inputs)
    masks = [i for i, v in enumerate(node.inputs) if v.node.op.name == "nonzero_rows"]
    if len(masks) != 1 or len(sums) != 1:
        return None
    (mask,), value = masks, node.inputs[sums[0]]
    mask_node = node.inputs[mask].node
    if mask_node.inputs[0] is not value or readers[mask_node.outputs[0]] != [node]:
        return None
    if {id(n) for n in readers[value]} != {id(node), id(mask_node)}:
        return None
    others = [v for i, v in enumerate(node.inputs) if i not in (mask, sums[0])]
    full = [v for v in others if v.size == value.size]
    if any(v.node.op is not VARIABLE for v in full):
        return None

    fns, arity, args, dtypes = [], [], [], []
    new_id: dict[int, int] = {i: i for i in range(count)}
    old: dict[int, int] = {}  # id of a choice -> the input that it keeps
    at = 0
    for k, (fn, n, dtype) in enumerate(
        zip(node.attrs["fns"], node.attrs["arity"], node.attrs["dtypes"], strict=True)
    ):
        operands = node.attrs["args"][at : at + n]
        at += n
        if mask in operands:
            condition, new, kept = operands if n == 3 else (None, None, None)
            if fn != "where" or condition != mask or mask in (new, kept) or kept >= count:
                return None
            new_id[count + k], old[count + k] = new_id[new], kept
            continue
        new_id[count + k] = count + len(fns)
        fns.append(fn)
        arity.append(n)
        args += [new_id[a] for a in operands]
        dtypes.append(dtype)
    kept = []
    for out, result in zip(node.attrs["outs"], node.outputs, strict=True):
        source = node.inputs[old[out]].node if out in old else None
        if source is None or source.op is not VARIABLE or new_id[out] < count:
            return None
        if graph.state.get(source.attrs["variable"]) is not result:
            return None
        kept.append(old[out])
    if len({new_id[out] for out in node.attrs["outs"]}) != len(kept):
        return None
    return mask, {
        "fns": tuple(fns),
        "arity": tuple(arity),
        "args": tuple(args),
        "dtypes": tuple(dtypes),
        "outs": tuple(new_id[out] for out in node.attrs["outs"]),
        "lazy": tuple(kept),
    }
