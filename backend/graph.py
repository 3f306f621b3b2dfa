"""The dataflow graph: nodes in single-assignment form, in topological order.

A `Graph` is what tracing fills and passes rewrite. Shapes are concrete. `Value` is an output of a
node; calling an op on a Value adds a node to the graph being traced.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import types

import numpy as np

from hornbeam.backend import devices, dtypes, scope
from hornbeam.backend.tensor import Tensor, TensorLike, from_numpy

# Folders of hornbeam's own code, as imported and (in a source tree the rooms are links) as stored.
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_ROOTS = tuple(
    path + os.sep
    for path in {
        _PACKAGE,
        *(os.path.realpath(os.path.join(_PACKAGE, d)) for d in ("", "layers", "models", "backend")),
    }
)


class _State(threading.local):
    graph: Graph | None = None


_state = _State()


def current_graph() -> Graph | None:
    """The graph being traced in this thread, or None in eager mode."""
    return _state.graph


def tracing_graph() -> Graph:
    """The graph being traced in this thread, where it is known that there is one."""
    assert _state.graph is not None
    return _state.graph


def is_tracing() -> bool:
    return _state.graph is not None


@functools.lru_cache(maxsize=1024)
def _is_own(file: str) -> bool:
    """Whether a file is part of hornbeam (or of the import system)."""
    return file.startswith(_ROOTS) or "<frozen" in file


def _user_line() -> tuple[str, int, str] | None:
    """File and line of the innermost frame outside of hornbeam, and the layer that is called."""
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not _is_own(file):
            return file, frame.f_lineno, scope.current_path()
        frame = frame.f_back
    return None


class Value(TensorLike):
    """Symbolic value: an output of a node of the graph being traced."""

    __slots__ = ("node", "index", "shape", "dtype", "_keras_mask")

    def __init__(self, node: Node, index: int, shape: tuple[int, ...], dtype: str):
        self.node = node
        self.index = index
        self.shape = shape
        self.dtype = dtype

    @property
    def graph(self) -> Graph:
        return self.node.graph

    def __len__(self):
        if not self.shape:
            raise TypeError("tensor: len() of a tensor of rank 0")
        return self.shape[0]

    def __iter__(self):
        for i in range(len(self)):
            yield self[i]

    def _no_value(self, what, instead):
        raise TypeError(
            f"tracing: {what} needs the values of a tensor ({self.dtype}, shape {self.shape}) that "
            f"is symbolic while the function is compiled; {instead}, or run eagerly "
            "(compile(run_eagerly=True))"
        )

    def __bool__(self):
        self._no_value(
            "a Python `if`, `while`, `and`, `or` or `not`",
            "use ops.where, ops.cond or ops.while_loop",
        )

    def __float__(self):
        self._no_value("float()", "keep it a tensor")

    def __int__(self):
        self._no_value("int()", "keep it a tensor")

    __index__ = __int__

    def __array__(self, *args, **kwargs):
        self._no_value("a NumPy function", "use the op of the same name in hornbeam.ops")

    def numpy(self):
        self._no_value("numpy()", "keep it a tensor")

    def __repr__(self):
        return f"<hornbeam.Value {self.node.op.name} shape={self.shape}, dtype={self.dtype}>"


class Node:
    """One operation: op, inputs, attributes, outputs, the user's line and the device (None: cpu:0)."""

    __slots__ = ("graph", "op", "inputs", "attrs", "outputs", "where", "device")

    def __init__(self, graph, op, inputs, attrs, specs, where):
        self.graph = graph
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.outputs = tuple([Value(self, i, s.shape, s.dtype) for i, s in enumerate(specs)])
        self.where = where
        self.device: str | None = None
        if devices.in_use:
            self.device = _placement(op.name, inputs, attrs)


def _placement(name, inputs, attrs) -> str | None:
    """Where a new node belongs (the partition pass may move it to the CPU for want of a kernel)."""
    if name == "constant":
        return attrs["tensor"].device
    if name == "variable":
        return attrs["variable"].device
    if name == "input":
        return None
    return devices.of_inputs(v.node.device for v in inputs)


class Graph:
    """Nodes in topological order, with inputs, variables read, and new values of variables."""

    def __init__(self, parent: Graph | None = None):
        self.parent = parent
        self.nodes: list[Node] = []
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.variables: dict = {}  # Variable -> Value of its content at the start
        self.state: dict = {}  # Variable -> Value of its content now, where assigned
        self.captured: dict[Value, Value] = {}  # Value of an outer graph -> our input for it
        self._constants: dict = {}
        self.fill: int | None = None  # size that stands for an unknown one (symbolic.infer)

    # ------------------------------------------------------------------ building

    def add(self, op, inputs, attrs, specs=None, where=None) -> Node:
        inputs = tuple([v if v.node.graph is self else self.capture(v) for v in inputs])
        if specs is None:
            specs = op.specs(inputs, attrs)
        node = Node(self, op, inputs, attrs, specs, where or _user_line())
        self.nodes.append(node)
        return node

    def input(self, shape, dtype, device: str | None = None) -> Value:
        from hornbeam.backend.registry import INPUT, Spec

        value = self.add(INPUT, (), {}, [Spec(tuple(shape), dtype)], where=("", 0, "")).outputs[0]
        value.node.device = device
        self.inputs.append(value)
        return value

    def constant(self, tensor: Tensor) -> Value:
        """Node for a concrete tensor; equal small constants share one."""
        from hornbeam.backend.registry import CONSTANT, Spec

        key: object = id(tensor)
        if tensor.core.nbytes <= 64 and not (devices.in_use and tensor.device != devices.HOST):
            key = (tensor.dtype, tensor.shape, tensor.core.array().tobytes())
        value = self._constants.get(key)
        if value is None:
            spec = Spec(tensor.shape, tensor.dtype)
            node = self.add(CONSTANT, (), {"tensor": tensor}, [spec], where=("", 0, ""))
            value = self._constants[key] = node.outputs[0]
        return value

    def capture(self, value: Value) -> Value:
        """A value of an outer graph, as an input of this one."""
        if value in self.captured:
            return self.captured[value]
        outer = self.parent
        while outer is not None and outer is not value.node.graph:
            outer = outer.parent
        if outer is None:
            raise ValueError(
                "tracing: a symbolic value was used outside of the function that made it "
                f"({value!r}); return it from the function instead of storing it"
            )
        if value.node.op.name == "constant":
            inner = self.captured[value] = self.constant(value.node.attrs["tensor"])
            return inner
        return self.input_for_capture(value)

    def input_for_capture(self, value: Value) -> Value:
        inner = self.input(value.shape, value.dtype)
        self.inputs.pop()  # captures come after the declared inputs
        self.captured[value] = inner
        return inner

    def capture_list(self) -> list[tuple[Value, Value]]:
        """(outer, inner) pairs of captured values that are inputs of this graph."""
        return [(o, i) for o, i in self.captured.items() if i.node.op.name == "input"]

    def read(self, variable) -> Value:
        """Content of a variable at this point of the program."""
        if self.parent is not None:
            return self.capture(self.root().read(variable))
        if variable in self.state:
            return self.state[variable]
        if variable not in self.variables:
            from hornbeam.backend.registry import VARIABLE, Spec

            spec = Spec(variable.shape, variable.dtype)
            node = self.add(VARIABLE, (), {"variable": variable}, [spec], where=("", 0, ""))
            self.variables[variable] = node.outputs[0]
        return self.variables[variable]

    def assign(self, variable, value: Value) -> None:
        if self.parent is not None:
            raise RuntimeError(
                f"assign: variable {variable.path!r} cannot be updated inside the body of cond, "
                "while_loop or scan; make it a loop value and assign it afterwards"
            )
        self.read(variable)
        self.state[variable] = value

    def keep(self, nodes: set[Node]) -> None:
        """Drops all other nodes; inputs stay."""
        self.nodes = [n for n in self.nodes if n in nodes or n.op.name == "input"]
        self.variables = {var: v for var, v in self.variables.items() if v.node in nodes}
        self._constants = {key: v for key, v in self._constants.items() if v.node in nodes}

    def root(self) -> Graph:
        graph = self
        while graph.parent is not None:
            graph = graph.parent
        return graph

    # ------------------------------------------------------------------ entering

    def __enter__(self):
        self._outer = _state.graph
        _state.graph = self
        return self

    def __exit__(self, *exc):
        _state.graph = self._outer
        del self._outer

    # ------------------------------------------------------------------ printing

    def __str__(self):
        names: dict[Value, str] = {}
        lines = []
        for i, node in enumerate(self.nodes):
            for v in node.outputs:
                names[v] = f"%{i}" + (f".{v.index}" if len(node.outputs) > 1 else "")
            left = ", ".join(f"{names[v]}: {v.dtype}{list(v.shape)}" for v in node.outputs)
            args = [names.get(v, "?") for v in node.inputs]
            args += [f"{k}={_short(a)}" for k, a in node.attrs.items() if not k.startswith("_")]
            place = f" on {node.device}" if node.device not in (None, devices.HOST) else ""
            lines.append(f"{left} = {node.op.name}({', '.join(args)}){place}")
        lines.append(f"return {', '.join(names[v] for v in self.outputs)}")
        lines += [f"{var.path} <- {names[v]}" for var, v in self.state.items()]
        return "\n".join(lines)

    def to_dot(self) -> str:
        """The graph in the DOT language of Graphviz."""
        from hornbeam.backend import drawing

        return drawing.to_dot(self)

    def to_svg(self) -> str:
        """The graph as an SVG picture."""
        from hornbeam.backend import drawing

        return drawing.to_svg(self)

    def _repr_html_(self) -> str:
        return self.to_svg()


def _short(attr) -> str:
    if isinstance(attr, Graph):
        return f"<{len(attr.nodes)} nodes>"
    if isinstance(attr, Tensor):
        return repr(attr.item()) if attr.size == 1 else f"{attr.dtype}{list(attr.shape)}"
    text = getattr(attr, "path", None) or repr(attr)
    return text if len(text) <= 60 else text[:57] + "..."


def format_where(where) -> str:
    if not (where and where[0]):
        return ""
    file, line, layer = where
    return f"{file}:{line}" + (f", in {layer}" if layer else "")


# ---------------------------------------------------------------------- conversion


def to_tensor(x, dtype: str | None = None) -> Tensor:
    """Concrete tensor of `x` (NumPy array, number, nested list, foreign tensor)."""
    if isinstance(x, Tensor):
        t = x
    elif isinstance(x, (bool, int, float)):
        if dtype is None:
            dtype = (
                "bool"
                if isinstance(x, bool)
                else "int32"
                if isinstance(x, int)
                else dtypes.floatx()
            )
            if dtype == "int32" and not -(2**31) <= x < 2**31:
                dtype = "int64"
        return from_numpy(np.asarray(x), dtype)
    elif isinstance(x, (np.ndarray, np.generic)):
        return from_numpy(np.asarray(x), dtype)
    elif isinstance(x, (list, tuple)):
        t = _from_list(x, dtype)
        if dtype is None:
            return t
    elif hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
        return from_numpy(np.from_dlpack(x), dtype)
    else:
        if hasattr(x, "detach"):  # torch: without the gradient history
            x = x.detach()
        try:
            array = np.asarray(x)
        except Exception as e:
            raise ValueError(
                f"convert_to_tensor: cannot convert {type(x).__name__} to a tensor: {e}"
            ) from e
        return from_numpy(array, dtype)
    if dtype is not None and t.dtype != dtype:
        from hornbeam.backend.tensor import OPS

        return OPS["cast"](t, dtype)
    return t


def _from_list(x, dtype):
    def plain(item):
        if isinstance(item, (list, tuple)):
            return [plain(i) for i in item]
        return np.asarray(item) if isinstance(item, TensorLike) else item

    try:
        array = np.asarray(plain(x))
    except ValueError as e:
        raise ValueError(f"convert_to_tensor: the nested list is ragged: {e}") from None
    if dtype is None:
        has_tensors = _leaf_arrays(x)
        if not has_tensors and array.dtype == np.float64:
            dtype = dtypes.floatx()
        elif not has_tensors and array.dtype == np.int64 and _fits_int32(array):
            dtype = "int32"
    return from_numpy(array, dtype)


def _fits_int32(a):
    return a.size == 0 or (a.min() >= -(2**31) and a.max() < 2**31)


def _leaf_arrays(x):
    if isinstance(x, (list, tuple)):
        return any(_leaf_arrays(i) for i in x)
    return isinstance(x, (np.ndarray, np.generic, TensorLike))


def convert_to_tensor(x, dtype: str | None = None):
    """Tensor (eager) or Value (while tracing) of anything that holds numbers.

    Python floats become `floatx()`, Python integers int32; arrays keep their dtype.
    """
    graph = _state.graph
    if graph is not None and type(x) is Value and (dtype is None or dtype is x.dtype):
        return x  # operands of operands: most calls
    from hornbeam.backend.variable import Variable

    if dtype is not None:
        dtype = dtypes.standardize_dtype(dtype)
    if isinstance(x, Variable):
        x = x.read()
    if graph is None:
        if isinstance(x, Value):
            raise ValueError(
                f"tracing: {x!r} is symbolic and has no value outside of the function that made "
                "it; return it from the function instead of storing it"
            )
        t = to_tensor(x, dtype)
        return t.to(devices.current_device()) if devices.in_use and t is not x else t
    if not isinstance(x, Value):
        if isinstance(x, (list, tuple)) and _has_value(x):
            from hornbeam.backend.tensor import OPS

            x = OPS["stack"]([convert_to_tensor(i) for i in x])
        else:
            if not isinstance(x, Tensor):
                x = to_tensor(x, dtype)
            x = graph.constant(x)
    if dtype is not None and x.dtype != dtype:
        from hornbeam.backend.tensor import OPS

        return OPS["cast"](x, dtype)
    return x


def _has_value(x):
    from hornbeam.backend.variable import Variable

    if isinstance(x, (list, tuple)):
        return any(_has_value(i) for i in x)
    return isinstance(x, (Value, Variable))
