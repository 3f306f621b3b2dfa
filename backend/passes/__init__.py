"""Rewrites of graphs. Each pass is a function Graph → Graph in a file of its own.

The order: what only differentiation needed goes first (`dead`, `prune`, `decompose`), then the
graph gets smaller (`simplify`, `cse`), then nodes are joined (`epilogue`, `cluster`, `sparse`). Last,
copies go where an edge crosses devices (`partition`), and small equal clusters on a GPU become one
launch (`launches`). Every pass leaves out what it makes superfluous.
"""

from __future__ import annotations

import sys

from hornbeam.backend import devices
from hornbeam.backend.graph import Graph
from hornbeam.backend.passes.rewrite import Rewrite as Rewrite


def optimize(graph: Graph) -> Graph:
    """All passes, in order; also over the bodies of control flow."""
    from hornbeam.backend import executor
    from hornbeam.backend.passes import (
        cluster,
        crossentropy,
        cse,
        dead,
        decompose,
        epilogue,
        launches,
        partition,
        prune,
        schedule,
        simplify,
        sparse,
    )

    trace = executor.debug("passes")
    stages = (
        dead, prune, decompose, simplify, cse, crossentropy, epilogue, cluster, sparse, partition,
        launches, schedule,
    )  # fmt: skip
    with devices.follow_inputs():  # what a pass adds belongs where its inputs are
        for stage in stages:
            before = len(graph.nodes)
            graph = stage.run(graph)
            if trace:
                name = stage.__name__.rsplit(".", 1)[-1]
                print(f"--- {name}: {before} -> {len(graph.nodes)} nodes\n{graph}", file=sys.stdout)
    return graph
