"""The table that `model.summary()` prints."""

from __future__ import annotations

import math
import re
import shutil
import textwrap

from hornbeam.backend import dtypes, tree
from hornbeam.layers.layer import Layer


def print_summary(
    model,
    line_length=None,
    positions=None,
    print_fn=None,
    expand_nested=False,
    show_trainable=False,
    layer_range=None,
):
    """Print the layers of a model with shapes and numbers of parameters."""
    text = summary_text(model, line_length, positions, expand_nested, show_trainable, layer_range)
    (print_fn or print)(text)


def summary_text(
    model,
    line_length=None,
    positions=None,
    expand_nested=False,
    show_trainable=False,
    layer_range=None,
):
    graph = getattr(model, "_graph", None)
    connections = graph is not None and not _is_chain(graph)
    header = ["Layer (type)", "Output Shape", "Param #"]
    align = ["<", "<", ">"]
    width, ends = 88, positions or [0.45, 0.80, 1.0]
    if connections:
        header.append("Connected to")
        align.append("<")
        width, ends = 108, positions or [0.3, 0.56, 0.74, 1.0]
    if show_trainable:
        header.append("Trainable")
        align.append("^")
        width, ends = width + 12, [p * 0.9 for p in ends] + [1.0]
    width = line_length or min(width, shutil.get_terminal_size().columns - 4)
    ends = [int(p * width) if p <= 1 else int(p) for p in ends]
    widths = [b - a - 1 for a, b in zip([0, *ends], ends, strict=False)]
    widths[-2] -= 1  # the frame has one line more than there are columns
    if min(widths) < 4:
        raise ValueError(
            f"summary: a table of {len(widths)} columns needs more than {width} characters"
        )

    layers = graph.operations if graph is not None else model.layers
    rows = []
    for layer in _in_range(layers, layer_range):
        _add_rows(rows, layer, 0, graph if connections else None, expand_nested, show_trainable)
    lines = [f'Model: "{model.name}"', *_table(header, rows, widths, align)]
    trainable = model.trainable_weights
    frozen = model.non_trainable_weights
    optimizer = getattr(model, "optimizer", None)
    slots = optimizer.variables if optimizer is not None and optimizer.built else []
    lines += [
        _total("Total", [*trainable, *frozen, *slots]),
        _total("Trainable", trainable),
        _total("Non-trainable", frozen),
    ]
    if slots:
        lines.append(_total("Optimizer", slots))
    return "\n".join(lines)


def _is_chain(graph):
    """Whether every node has one input, made by the node before it."""
    inputs = [op for op in graph.operations if any(n.is_input for n in op._inbound_nodes)]
    single = all(len(node.input_tensors) == 1 for node in graph.nodes)
    sources = [id(t) for node in graph.nodes for t in node.input_tensors]
    operations = [id(node.operation) for node in graph.nodes]
    unique = len(set(sources)) == len(sources) and len(set(operations)) == len(operations)
    return len(inputs) == 1 and single and unique


def _in_range(layers, layer_range):
    if layer_range is None:
        return layers
    if len(layer_range) != 2 or not all(isinstance(name, str) for name in layer_range):
        raise ValueError(f"summary: `layer_range` must be two strings, got {layer_range}")
    first, last = (
        [i for i, layer in enumerate(layers) if re.match(name, layer.name)] for name in layer_range
    )
    if not first or not last:
        raise ValueError(f"summary: no layers match {layer_range}")
    if min(first) > max(last):
        first, last = last, first
    return layers[min(first) : max(last) + 1]


def _add_rows(rows, layer, level, graph, expand_nested, show_trainable):
    prefix = "   " * level + "└ " if level else ""
    kind = layer.serialized_name()[1] if hasattr(layer, "serialized_name") else type(layer).__name__
    if not isinstance(layer, Layer):
        parameters = "0"
    elif layer.built:
        parameters = f"{layer.count_params():,}"
    else:
        parameters = "0 (unbuilt)"
    row = [f"{prefix}{layer.name} ({kind})", _output_shape(layer), parameters]
    if graph is not None:
        row.append(_sources(layer, graph))
    if show_trainable:
        row.append(("Y" if layer.trainable else "N") if getattr(layer, "weights", None) else "-")
    rows.append(row)
    if expand_nested:
        for inner in getattr(layer, "layers", []):
            _add_rows(rows, inner, level + 1, graph, expand_nested, show_trainable)


def _output_shape(layer):
    if layer._inbound_nodes:
        shapes = [_format(t.shape) for t in layer._inbound_nodes[-1].output_tensors]
        return shapes[0] if len(shapes) == 1 else "[" + ", ".join(shapes) + "]"
    build_shapes = getattr(layer, "_build_shapes_dict", None)
    if not build_shapes or any(shape is None for shape in build_shapes.values()):
        return "?"
    try:
        shapes = layer.compute_output_shape(**build_shapes)
    except (TypeError, ValueError, NotImplementedError):
        return "?"
    if all(d is None or isinstance(d, int) for d in tree.flatten(shapes)):
        return _format(shapes) if isinstance(shapes, tuple) else str(shapes)
    return str(shapes)


def _format(shape):
    return "(" + ", ".join(str(d) for d in shape) + ")"


def _sources(layer, graph):
    found = []
    for index, node in enumerate(layer._inbound_nodes):
        if (layer, index) in graph.keys:
            for tensor in node.input_tensors:
                operation, node_index, tensor_index = tensor._keras_history
                found.append(f"{operation.name}[{node_index}][{tensor_index}]")
    return ", ".join(found) or "-"


def _table(header, rows, widths, align):
    def rule(left, line, cross, right):
        return left + cross.join(line * w for w in widths) + right

    def cells(row, bar):
        wrapped = [_wrapped(text, w - 2) for text, w in zip(row, widths, strict=True)]
        for i in range(max(map(len, wrapped))):
            parts = [
                f" {(c[i] if i < len(c) else ''):{a}{w - 2}} "
                for c, a, w in zip(wrapped, align, widths, strict=True)
            ]
            yield bar + bar.join(parts) + bar

    lines = [rule("┏", "━", "┳", "┓"), *cells(header, "┃"), rule("┡", "━", "╇", "┩")]
    for i, row in enumerate(rows):
        if i:
            lines.append(rule("├", "─", "┼", "┤"))
        lines.extend(cells(row, "│"))
    lines.append(rule("└", "─", "┴", "┘"))
    return lines


def _wrapped(text, width):
    """Lines of whole words; of a word wider than the column, what fits and an ellipsis."""
    lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False) or [""]
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]


def _total(what, variables):
    count = sum(math.prod(v.shape) for v in variables)
    size = sum(math.prod(v.shape) * dtypes.item_bytes(v.dtype) for v in variables)
    return f" {what} params: {count:,} ({readable_size(size)})"


def readable_size(size):
    """`1536` → `"1.50 KB"`."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1024 or unit == "TB":
            return f"{size:.2f} {unit}"
        size /= 1024
    return ""
