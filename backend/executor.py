"""Lowers an optimised graph to a `_core.Program`."""

from __future__ import annotations

import os

from hornbeam.backend import _core, passes
from hornbeam.backend.devices import HOST
from hornbeam.backend.graph import Graph, Node, Value, format_where
from hornbeam.backend.passes import remat
from hornbeam.backend.registry import CONSTANT, INPUT, VARIABLE, primitive, reshape
from hornbeam.backend.tensor import _from_bits, _to_bits


class ExecutionError(RuntimeError):
    """A kernel refused its input, or failed; says op, shapes and the user's line."""


def debug(stage: str) -> bool:
    """Whether HORNBEAM_DEBUG asks for this stage (graph, passes, plan, kernels)."""
    return stage in os.environ.get("HORNBEAM_DEBUG", "").split(",")


def compile_graph(graph: Graph, memory_budget: int | None = None) -> _core.Program:
    """The program that computes `graph.outputs` and the new values in `graph.state`.

    It stays within the budget for temporaries (bytes) if it can, and warns if it cannot.
    """
    if debug("graph"):
        print(f"--- graph\n{graph}")
    graph = passes.optimize(graph)
    program = lower(graph)
    if memory_budget is not None and program.arena_bytes > memory_budget:
        graph, program = remat.fit(graph, program, memory_budget, lower)
    if debug("plan") or debug("kernels"):
        print(f"--- plan\n{program.describe()}")
    return program


def lower(graph: Graph) -> _core.Program:
    slots: list[tuple[str, tuple[int, ...]]] = []
    slot_of: dict[Value, int] = {}
    constants, variables, instructions = [], [], []

    def new_slot(value: Value) -> int:
        slot_of[value] = len(slots)
        slots.append((value.dtype, value.shape))
        return slot_of[value]

    for node in graph.nodes:
        if node.op is VARIABLE:
            variables.append((new_slot(node.outputs[0]), node.attrs["variable"].core))
        elif node.op is CONSTANT:
            constants.append((new_slot(node.outputs[0]), node.attrs["tensor"].core))
        elif node.op is INPUT:
            new_slot(node.outputs[0])
        else:
            instructions.append(_instruction(node, slot_of, new_slot))
    variable_slot = {
        node.attrs["variable"]: slot_of[node.outputs[0]]
        for node in graph.nodes
        if node.op is VARIABLE
    }
    updates = [(variable_slot[var], slot_of[v]) for var, v in graph.state.items()]
    inputs = [slot_of[v] for v in graph.inputs] + [slot_of[v] for _, v in graph.capture_list()]
    places = []
    if any(node.device not in (None, HOST) for node in graph.nodes):
        places = [v.node.device or HOST for v in slot_of]
    try:
        return _core.Program(
            slots, inputs, constants, variables, instructions,
            [slot_of[v] for v in graph.outputs], updates, places, _is_inference(graph),
        )  # fmt: skip
    except MemoryError:
        raise
    except RuntimeError as e:
        raise ExecutionError(str(e)) from None


def _is_inference(graph: Graph) -> bool:
    """Whether weights may stay the same over many runs: the graph trains none."""
    return not any(variable.trainable for variable in graph.state)


def _instruction(node: Node, slot_of, new_slot):
    op, host = node.op, None
    children = [lower(v) for v in node.attrs.values() if isinstance(v, Graph)]
    name, attrs = kernel_call(op, node.inputs, node.attrs, node.outputs)
    if op.host is not None:
        name, host, attrs = "host", _host_call(node), {}
    inputs = [slot_of[v] for v in node.inputs]
    if node.op.name == "barrier":
        inputs = inputs[:1]
    outputs = [new_slot(v) for v in node.outputs]
    return (name, inputs, outputs, attrs, children, host, format_where(node.where))


def kernel_call(op, inputs, attrs, outputs) -> tuple[str, dict]:
    """Name of the kernel that runs an op on such operands, and the attributes that it gets."""
    if op.elementwise:  # one node as a program of the tile engine
        n = len(inputs)
        return "elementwise", {
            "fns": [op.name],
            "arity": [n],
            "args": list(range(n)),
            "dtypes": [outputs[0].dtype],
            "outs": [n],
        }
    if op.name in ("reshape", "barrier"):
        return "reshape", {}
    return op.name, {
        k: v for k, v in attrs.items() if not k.startswith("_") and not isinstance(v, Graph)
    }


def _host_call(node: Node):
    host, attrs = node.op.host, dict(node.attrs)
    in_dtypes = [v.dtype for v in node.inputs]
    out_dtypes = [v.dtype for v in node.outputs]

    def call(inputs, outputs):
        arrays = [
            _from_bits(a) if d == "bfloat16" else a for a, d in zip(inputs, in_dtypes, strict=True)
        ]
        results = host(*arrays, **attrs)
        if not isinstance(results, (tuple, list)):
            results = (results,)
        for out, result, dtype in zip(outputs, results, out_dtypes, strict=True):
            out[...] = _to_bits(result) if dtype == "bfloat16" else result

    return call


def _cluster_spec(*inputs, _specs, **attrs):
    return list(_specs)


#: Several element-wise nodes run as one pass over memory (made by the clustering pass). Attributes:
#: the program of the tile engine (fns, arity, args, dtypes, outs), and `_specs` of the outputs.
CLUSTER = primitive("elementwise", _cluster_spec, doc="A fused group of element-wise ops.")

__all__ = ["CLUSTER", "ExecutionError", "compile_graph", "debug", "lower", "reshape"]
