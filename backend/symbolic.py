"""KerasTensor: a placeholder with an unknown batch size, and the record of what made it.

Functional models are built by calling layers and ops on KerasTensors. Each call records a
`CallNode` (operation, arguments, outputs); shapes are found by tracing the call on concrete
stand-ins: every unknown size is filled in twice, with two highly composite numbers, and what
differs between the two traces is unknown in the result. So no shape rule ever sees None.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

from hornbeam.backend import dtypes, tree
from hornbeam.backend import graph as graphs
from hornbeam.backend.tensor import TensorLike

# Divisible by every number up to 16, so that reshapes of an unknown size by usual factors work.
_FILLS = (720720, 1441440)
_counter = itertools.count()


class KerasTensor(TensorLike):
    """Symbolic input or output of layers: shape (None where unknown) and dtype, no values.

    Args:
        shape: tuple of ints and None.
        dtype: dtype name.
        name: name; a generated one if None.
        record_history: kept for Keras scripts.
    """

    __slots__ = (
        "shape",
        "dtype",
        "name",
        "node",
        "index",
        "_keras_mask",
        "__dict__",
        "__weakref__",
    )

    def __init__(
        self,
        shape,
        dtype="float32",
        sparse=False,
        ragged=False,
        record_history=True,
        name=None,
        **kwargs,
    ):
        from hornbeam.backend.variable import standardize_shape

        if sparse or ragged:
            raise ValueError("KerasTensor: sparse and ragged tensors are not supported")
        self.shape = standardize_shape(shape)
        self.dtype = dtypes.standardize_dtype(dtype)
        self.name = name or f"keras_tensor_{next(_counter)}"
        self.node: CallNode | None = None
        self.index = 0

    @property
    def _keras_history(self):
        """(operation, position of the call among its calls, position among the outputs)."""
        if self.node is None:
            return None
        return KerasHistory(self.node.operation, self.node.position, self.index)

    @property
    def size(self):
        n = 1
        for d in self.shape:
            if d is None:
                return None
            n *= d
        return n

    def _no_value(self, what):
        raise TypeError(
            f"KerasTensor: {what} needs values, but this is a symbolic input or output of a layer "
            f"(shape {self.shape}); use hornbeam.ops, or put the code into the `call` of a Layer"
        )

    def __array__(self, *args, **kwargs):
        self._no_value("a NumPy function")

    def __bool__(self):
        self._no_value("a Python `if`, `while`, `and`, `or` or `not`")

    def __float__(self):
        self._no_value("float()")

    def __int__(self):
        self._no_value("int()")

    def __index__(self):
        self._no_value("an index")

    def __len__(self):
        if not self.shape or self.shape[0] is None:
            self._no_value("len() of an axis of unknown size")
        return self.shape[0]

    def __iter__(self):
        if not self.shape or self.shape[0] is None:
            self._no_value("iteration over an axis of unknown size")
        return (self[i] for i in range(self.shape[0]))

    def __repr__(self):
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


def is_keras_tensor(x) -> bool:
    """Whether `x` is a symbolic input or output of layers."""
    return isinstance(x, KerasTensor)


class KerasHistory(NamedTuple):
    """Where a KerasTensor comes from."""

    operation: object
    node_index: int
    tensor_index: int


class CallNode:
    """One call of an operation (layer or op) on KerasTensors.

    Attributes:
        operation: what was called; the call is added to its `_inbound_nodes`.
        args, kwargs: its arguments, with the KerasTensors in place.
        outputs: structure of the KerasTensors it returned.
        position: which of the operation's calls this is.
    """

    __slots__ = ("operation", "args", "kwargs", "outputs", "position")

    def __init__(self, operation, args, kwargs, outputs):
        self.operation = operation
        self.args = args
        self.kwargs = kwargs
        self.outputs = outputs
        self.position = len(operation._inbound_nodes)
        operation._inbound_nodes.append(self)
        for i, t in enumerate(tree.flatten(outputs)):
            if isinstance(t, KerasTensor):
                t.node, t.index = self, i

    @property
    def is_input(self) -> bool:
        """Whether nothing was computed: the operation stands for an input."""
        return not self.input_tensors

    @property
    def input_tensors(self) -> list[KerasTensor]:
        leaves = tree.flatten((self.args, self.kwargs))
        return [t for t in leaves if isinstance(t, KerasTensor)]

    @property
    def output_tensors(self) -> list[KerasTensor]:
        return [t for t in tree.flatten(self.outputs) if isinstance(t, KerasTensor)]


def any_symbolic(structure) -> bool:
    """Whether a KerasTensor is among the leaves."""
    if isinstance(structure, KerasTensor):
        return True
    if isinstance(structure, (list, tuple)):
        for x in structure:
            if isinstance(x, (KerasTensor, list, tuple, dict)) and any_symbolic(x):
                return True
        return False
    if isinstance(structure, dict):
        return any(any_symbolic(x) for x in structure.values())
    return False


def infer(function, *args, **kwargs):
    """Output of `function` on these arguments, as KerasTensors without history.

    The KerasTensors among the arguments are replaced by values of a scratch graph (with their
    masks, if they have any); whatever tensors come out are turned into KerasTensors of the same
    shape. Other leaves pass through.
    """
    unknown = any(
        None in t.shape for t in tree.flatten((args, kwargs)) if isinstance(t, KerasTensor)
    )
    first, masks = _trace(function, args, kwargs, _FILLS[0])
    second = _trace(function, args, kwargs, _FILLS[1])[0] if unknown else first

    def merge(a, b):
        if not isinstance(a, tuple):
            return a
        (shape_a, dtype), (shape_b, _) = a[1:], b[1:]
        if len(shape_a) != len(shape_b):
            raise ValueError(
                "symbolic call: the rank of the result depends on an unknown size; "
                "give the full shape to Input"
            )
        shape = tuple(x if x == y else None for x, y in zip(shape_a, shape_b, strict=True))
        return KerasTensor(shape, dtype)

    structure, leaves_a = first
    leaves_b = second[1]
    out = tree.pack_sequence_as(
        structure, [merge(a, b) for a, b in zip(leaves_a, leaves_b, strict=True)]
    )
    for t, masked in zip(tree.flatten(out), masks, strict=True):
        if masked:
            t._keras_mask = KerasTensor(t.shape[:masked], "bool")
    return out


def _trace(function, args, kwargs, fill):
    with graphs.Graph(parent=None) as g:
        g.fill = fill

        def stand_in(t):
            if not isinstance(t, KerasTensor):
                return t
            value = g.input([fill if d is None else d for d in t.shape], t.dtype)
            mask = getattr(t, "_keras_mask", None)
            if mask is not None:
                value._keras_mask = g.input([fill if d is None else d for d in mask.shape], "bool")
            return value

        known: dict[int, object] = {}

        def once(t):
            if id(t) not in known:
                known[id(t)] = stand_in(t)
            return known[id(t)]

        new_args, new_kwargs = tree.map_structure(once, (args, kwargs))
        out = function(*new_args, **new_kwargs)
    leaves, masks = [], []
    for v in tree.flatten(out):
        if isinstance(v, graphs.Value) or type(v).__name__ == "Tensor":
            leaves.append(("tensor", tuple(v.shape), v.dtype))
            mask = getattr(v, "_keras_mask", None)
            masks.append(len(mask.shape) if mask is not None else 0)
        else:
            leaves.append(v)
            masks.append(0)
    return (out, leaves), masks


def record(operation, args, kwargs, outputs):
    """Notes that `operation(*args, **kwargs)` made `outputs` (KerasTensors); returns them."""
    CallNode(operation, args, kwargs, outputs)
    return outputs


#: `(op, args, kwargs)` → the operation that stands for one call of a public op in a functional
#: model, and the arguments of its call. The layer above sets it.
operation_for: Callable | None = None


def record_call(op, args, kwargs):
    """Infers and records a call of a public op on KerasTensors."""
    outputs = infer(op, *args, **kwargs)
    operation, args, kwargs = operation_for(op, args, kwargs)
    return record(operation, args, kwargs, outputs)
