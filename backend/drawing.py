"""Graphs as pictures: SVG by a small layered layout of our own (no Graphviz needed), and DOT."""

from __future__ import annotations

from html import escape

from hornbeam.backend.graph import Graph

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 150, 36, 24, 40


def _label(node) -> str:
    name = node.op.name
    if name == "variable":
        return node.attrs["variable"].path
    if name == "elementwise":
        return " ".join(node.attrs["fns"])
    return name


def to_svg(graph: Graph) -> str:
    """The graph as an SVG document: a node lies below everything that it needs.

    Rows are the longest distances from the inputs; within a row, nodes are ordered by the mean
    position of their inputs, which keeps most edges short (Sugiyama et al., 1981).
    """
    row: dict = {}
    rows: list[list] = []
    for node in graph.nodes:
        r = 1 + max((row[v.node] for v in node.inputs), default=-1)
        row[node] = r
        while len(rows) <= r:
            rows.append([])
        rows[r].append(node)
    place: dict = {}
    for nodes in rows:

        def mean_input(node):
            xs = [place[v.node][0] for v in node.inputs]
            return sum(xs) / len(xs) if xs else 0.0

        for column, node in enumerate(sorted(nodes, key=mean_input)):
            place[node] = (column * (_WIDTH + _GAP_X) + 10, row[node] * (_HEIGHT + _GAP_Y) + 10)
    width = max((x for x, _ in place.values()), default=0) + _WIDTH + 10
    height = len(rows) * (_HEIGHT + _GAP_Y) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="10">'
    ]
    for node in graph.nodes:
        x, y = place[node]
        for v in node.inputs:
            a, b = place[v.node]
            parts.append(
                f'<line x1="{a + _WIDTH / 2}" y1="{b + _HEIGHT}" x2="{x + _WIDTH / 2}" y2="{y}" '
                'stroke="#999"/>'
            )
    results = {v.node for v in (*graph.outputs, *graph.state.values())}
    for node, (x, y) in place.items():
        leaf = not node.inputs
        fill = "#e8f0fe" if leaf else "#e6f4ea" if node in results else "#fff"
        shape = ", ".join(f"{v.dtype} {list(v.shape)}" for v in node.outputs[:2])
        label = _label(node)
        parts.append(
            f'<g><title>{escape(label)}: {escape(shape)}</title><rect x="{x}" y="{y}" '
            f'width="{_WIDTH}" height="{_HEIGHT}" rx="4" fill="{fill}" stroke="#555"/>'
            f'<text x="{x + 6}" y="{y + 15}">{escape(label[:24])}</text>'
            f'<text x="{x + 6}" y="{y + 29}" fill="#666">{escape(shape[:26])}</text></g>'
        )
    return "\n".join([*parts, "</svg>"])


def to_dot(graph: Graph) -> str:
    """The graph in the DOT language of Graphviz."""
    ids = {node: i for i, node in enumerate(graph.nodes)}
    lines = ["digraph hornbeam {", "  node [shape=box, fontname=sans, fontsize=10];"]
    for node, i in ids.items():
        shapes = "\\n".join(f"{v.dtype} {list(v.shape)}" for v in node.outputs)
        lines.append(f'  n{i} [label="{_label(node)}\\n{shapes}"];')
        lines += [f"  n{ids[v.node]} -> n{i};" for v in node.inputs]
    for k, v in enumerate(graph.outputs):
        lines += [f'  out{k} [label="output {k}", shape=ellipse];', f"  n{ids[v.node]} -> out{k};"]
    return "\n".join([*lines, "}"])
