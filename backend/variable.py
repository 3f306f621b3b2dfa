"""Variable: named state that programs update in place."""

from __future__ import annotations

import itertools
import math

import numpy as np

from hornbeam.backend import _core, autodiff, devices, dtypes, scope
from hornbeam.backend import graph as graphs
from hornbeam.backend.tensor import OPS, Tensor, TensorLike

_counter = itertools.count()


class Variable(TensorLike):
    """State of a model: a weight, a moving average, a counter, a seed.

    Args:
        initializer: initial value (array, tensor, number), or a callable `f(shape, dtype)`, or the
            name of an initializer; a callable needs `shape`.
        shape: expected shape (tuple of ints).
        dtype: dtype name; default `floatx()`, or that of an integer or boolean initial value.
        trainable: whether optimizers update it.
        autocast: whether layers with a mixed-precision policy read it in their compute dtype.
        aggregation, synchronization, layout: kept for Keras scripts.
        name: name; the path is the name with the open name scopes before it.

    Example:

    >>> import hornbeam
    >>> v = hornbeam.Variable([1.0, 2.0])
    >>> v.assign_add([1.0, 1.0]).numpy()
    array([2., 3.], dtype=float32)
    """

    #: How often any variable was made, frozen or unfrozen: what depends on which variables are
    #: trained goes by it.
    changes = 0

    __slots__ = (
        "core", "shape", "dtype", "name", "path", "_trainable", "regularizer", "constraint",
        "overwrite_with_gradient", "aggregation", "synchronization", "autocast", "_version",
        "_layout", "is_embedding", "__weakref__", "__dict__",
    )  # fmt: skip

    def __init__(
        self,
        initializer,
        shape=None,
        dtype=None,
        trainable=True,
        autocast=True,
        aggregation="none",
        synchronization="auto",
        name=None,
        layout=None,
        **kwargs,
    ):
        if kwargs:
            raise TypeError(f"Variable: unexpected arguments {sorted(kwargs)}")
        self.name = f"variable_{next(_counter)}" if name is None else name
        if "/" in self.name:
            raise ValueError(f"Variable: a name holds no '/', got {self.name!r}")
        prefix = scope.current_path()
        self.path = f"{prefix}/{self.name}" if prefix else self.name
        Variable.changes += 1
        self._trainable = bool(trainable)
        self.autocast = bool(autocast)
        self.aggregation = aggregation
        self.synchronization = synchronization
        self.regularizer = None
        self.constraint = None
        self.overwrite_with_gradient = False
        self._layout = layout
        self.is_embedding = False  # a table that is read by rows
        self._version = 0
        if isinstance(initializer, str):
            initializer = OPS["get_initializer"](initializer)
        with scope.eager():  # made while a function is traced: it still gets its value at once
            if callable(initializer) and not isinstance(initializer, TensorLike):
                if shape is None:
                    raise ValueError(
                        f"Variable {self.path!r}: a shape is needed when the initializer is a "
                        f"function; got shape=None"
                    )
                dtype = dtypes.standardize_dtype(dtype)
                shape = tuple(int(d) for d in standardize_shape(shape))
                scope.check_variable(self.path, shape, math.prod(shape) * dtypes.item_bytes(dtype))
                value = graphs.to_tensor(initializer(shape, dtype=dtype), dtype)
            else:
                value = initializer.value if isinstance(initializer, Variable) else initializer
                if dtype is None and not hasattr(value, "dtype"):
                    kind = np.asarray(value).dtype.kind
                    dtype = {"b": "bool", "i": "int32"}.get(kind, dtypes.floatx())
                value = graphs.to_tensor(value, dtype and dtypes.standardize_dtype(dtype))
            if shape is not None and tuple(shape) != value.shape:
                raise ValueError(
                    f"Variable {self.path!r}: expected an initial value of shape {tuple(shape)}, "
                    f"got {value.shape}"
                )
        if devices.in_use:
            value = value.to(devices.scope_device() or value.device)
        self.core = _core.Variable(value.core)
        self.shape = value.shape
        self.dtype = value.dtype

    # ------------------------------------------------------------------ reading

    def read(self):
        """Content as a Tensor, or as a Value of the graph being traced."""
        graph = graphs.current_graph()
        value = graph.read(self) if graph is not None else self._read_eager()
        target = scope.autocast_dtype() if self.autocast else None
        if target is not None and dtypes.is_float(self.dtype) and target != self.dtype:
            return OPS["cast"](value, target)
        return value

    def _read_eager(self):
        if autodiff.tape_is_open():
            return autodiff.read_variable(self, lambda: Tensor(self.core.value()))
        return Tensor(self.core.value())

    @property
    def value(self):
        """Content as a tensor. It does not change when the variable is assigned later."""
        return self.read()

    @property
    def device(self) -> str:
        """Where the content is: `"cpu:0"`, `"cuda:0"`. Assignments leave it there."""
        return self.core.device

    def move(self, device: str) -> None:
        """The content goes to another device; functions that hold the variable compile again."""
        if device != self.device:
            self.core = _core.Variable(self.core.value().to(device))
            Variable.changes += 1
            devices.moves += 1

    def numpy(self) -> np.ndarray:
        """Copy of the content as a NumPy array."""
        return Tensor(self.core.value()).numpy()

    def __array__(self, dtype=None, copy=None):
        return Tensor(self.core.value()).__array__(dtype, copy)

    # ------------------------------------------------------------------ writing

    def assign(self, value):
        """Replaces the content. Shape must match; values are cast to the variable's dtype."""
        graph = graphs.current_graph()
        if graph is None:
            value = graphs.to_tensor(_plain(value), self.dtype)
        else:
            value = graphs.convert_to_tensor(value, self.dtype)
        if tuple(value.shape) != self.shape:
            raise ValueError(
                f"Variable {self.path!r}: assign expected a value of shape {self.shape}, "
                f"got {tuple(value.shape)}"
            )
        if graph is not None:
            graph.assign(self, value)
        else:
            self.core.set(value.core)
            self._version += 1
        return self

    def assign_add(self, value):
        return self.assign(OPS["add"](self._raw(), value))

    def assign_sub(self, value):
        return self.assign(OPS["subtract"](self._raw(), value))

    def _raw(self):
        graph = graphs.current_graph()
        return graph.read(self) if graph is not None else self._read_eager()

    # ------------------------------------------------------------------ the rest

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value):
        Variable.changes += 1
        self._trainable = bool(value)

    @property
    def handle(self):
        return self

    def __len__(self):
        return self.shape[0]

    def __iter__(self):
        return iter(self.value)

    def __float__(self):
        return float(self.value)

    def __int__(self):
        return int(self.value)

    def __index__(self):
        return self.value.__index__()

    def __bool__(self):
        return bool(self.value)

    def __repr__(self):
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}>"

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        new = Variable(
            self.numpy(), dtype=self.dtype, trainable=self.trainable, autocast=self.autocast,
            name=self.name,
        )  # fmt: skip
        new.path = self.path
        memo[id(self)] = new
        return new


def _plain(value):
    return value.value if isinstance(value, Variable) else value


def standardize_shape(shape) -> tuple:
    """`shape` as a tuple of ints and None; raises ValueError for anything else."""
    if shape is None:
        raise ValueError("shape: expected a list or tuple of sizes, got None")
    if isinstance(shape, int):
        shape = (shape,)
    out = []
    for d in shape:
        if d is not None:
            if not hasattr(d, "__index__") or isinstance(d, bool):
                raise ValueError(
                    f"shape: expected sizes that are ints or None, got {d!r} in {shape}"
                )
            d = int(d)
            if d < 0:
                raise ValueError(f"shape: expected sizes of 0 or more, got {shape}")
        out.append(d)
    return tuple(out)
