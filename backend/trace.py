"""Compiled functions: Python is traced once per input signature into one program."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import gc
import threading
import warnings
from typing import NamedTuple

import numpy as np

from hornbeam.backend import _core, autodiff, devices, dtypes, executor, registry, settings, tree
from hornbeam.backend import graph as graphs
from hornbeam.backend.graph import Graph, Value
from hornbeam.backend.tensor import Tensor, from_numpy, standard_name
from hornbeam.backend.variable import Variable


class CacheInfo(NamedTuple):
    """Counters of a compiled function."""

    hits: int
    traces: int
    size: int
    maxsize: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Leaf:
    """Stands for an array among the arguments."""

    shape: tuple
    dtype: str
    device: str | None = None  # None: an array, which is on the CPU


class Concrete:
    """A function compiled for one signature.

    Attributes:
        graph: the graph as traced, before optimisation.
        program: the compiled program.
        variables: the variables that it updates.
    """

    def __init__(self, function, args, kwargs):
        with _no_collection():
            self._compile(function, args, kwargs)

    def _compile(self, function, args, kwargs):
        graph = Graph()
        with graph:

            def enter(x):
                return graph.input(x.shape, x.dtype, x.device) if isinstance(x, _Leaf) else x

            args, kwargs = tree.map_structure(enter, (args, kwargs))
            out = function(*args, **kwargs)
            self._leaves = []  # of the result: index of a program output, or the object itself
            outputs: dict[Value, int] = {}
            for x in tree.flatten(out):
                if isinstance(x, (Value, Tensor, Variable)) or (
                    isinstance(x, (int, float, np.ndarray)) and not isinstance(x, bool)
                ):
                    v = graphs.convert_to_tensor(x)
                    v = v if v.node.graph is graph else graph.capture(v)
                    self._leaves.append((True, outputs.setdefault(v, len(outputs))))
                else:
                    self._leaves.append((False, x))
            graph.outputs = list(outputs)
        self._structure = tree.map_structure(lambda x: None, out)
        self._is_single = self._structure is None and self._leaves[0][0]
        _separate_state(graph)
        self.graph = graph
        self.variables = list(graph.state)
        self.program = executor.compile_graph(graph, settings.current.memory_budget)

    def pack(self, outputs):
        """Program outputs in the structure that the function returned."""
        if self._is_single:
            return outputs[0]
        flat = [outputs[x] if is_output else x for is_output, x in self._leaves]
        return tree.pack_sequence_as(self._structure, flat)

    def run(self, arrays):
        """Runs on the flat list of arrays; returns what the function returned, as Tensors."""
        outputs = _guarded(self.program.run, [_as_tensor(a).core for a in arrays])
        for v in self.variables:
            v._version += 1
        return self.pack([Tensor(c) for c in outputs])

    def run_arrays(self, arrays):
        """As `run` on C-contiguous NumPy arrays of the right dtypes, without looking at them first."""
        outputs = _guarded(self.program.run_arrays, arrays)
        for v in self.variables:
            v._version += 1
        return Tensor(outputs[0]) if self._is_single else self.pack([Tensor(c) for c in outputs])

    def run_numpy(self, arrays):
        """As `run` on C-contiguous NumPy arrays of the right dtypes, without copies; returns arrays."""
        outputs = _guarded(self.program.run_numpy, arrays)
        for v in self.variables:
            v._version += 1
        return self.pack(outputs)

    def batches(self, arrays, index, batch_size, first, end, outputs=None):
        """Steps over in-memory arrays without Python in between, a `Batches`.

        Args:
            arrays: C-contiguous NumPy arrays [samples, …], one for each array of the signature.
            index: int64 array: step k takes the rows index[k·batch_size : (k+1)·batch_size]; None:
                in order.
            first, end: which steps.
            outputs: NumPy arrays [samples, …] that receive the rows of each program output, or None.
        """
        return Batches(self, arrays, index, batch_size, first, end, outputs)

    def run_batches(self, arrays, index, batch_size, first, count, outputs=None):
        """`count` steps of `batches` at once; returns what the function returned in the last one."""
        return self.batches(arrays, index, batch_size, first, first + count, outputs).run(count)


class Batches:
    """Steps over arrays, some at a time: a GPU has its next batch whatever happens in between."""

    def __init__(self, concrete, *arguments):
        self._concrete = concrete
        self._core = _guarded(_core.Batches, concrete.program, *arguments)

    def run(self, count):
        """The next `count` steps; returns what the function returned in the last, as Tensors."""
        try:
            last = _guarded(self._core.run, count)
        finally:
            for v in self._concrete.variables:
                v._version += 1
        return self._concrete.pack([Tensor(c) for c in last])


@contextlib.contextmanager
def _no_collection():
    """Without the cyclic garbage collector: most of what a trace makes lives until it is compiled.

    The collector would walk over it again and again, a third of the time. (Threads that overlap
    can have it back early, but it never stays off.)
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _separate_state(graph):
    """New values of variables must be results of their own (see `_core.Program`)."""
    taken = set()
    views = {registry.reshape, registry.REGISTRY["barrier"], registry.stop_gradient}
    for var, value in list(graph.state.items()):
        if value is graph.variables.get(var):
            del graph.state[var]  # assigned its own old value
            continue
        source = value
        while source.node.op in views or source.node.op.name == "custom_gradient":
            source = source.node.inputs[
                source.index if source.node.op.name == "custom_gradient" else 0
            ]
        if source.node.op in registry.LEAVES or source in taken or source is not value:
            with graph:
                value = graph.add(registry.copy, (value,), {}).outputs[0]
            graph.state[var] = value
        taken.add(source)


def _guarded(run, *args):
    """Runs a program; what a kernel refuses is an ExecutionError."""
    try:
        return run(*args)
    except MemoryError:
        raise
    except RuntimeError as e:
        raise executor.ExecutionError(str(e)) from None


def _as_tensor(x) -> Tensor:
    return x if isinstance(x, Tensor) else from_numpy(np.asarray(x), copy=False)


class Function:
    """A Python function that is compiled for each signature of its arguments. See `function`."""

    def __init__(self, python_function, maxsize=64):
        functools.update_wrapper(self, python_function)
        self.python_function = python_function
        self._cache: collections.OrderedDict = collections.OrderedDict()
        self._maxsize = maxsize
        self._hits = self._traces = 0
        self._lock = threading.RLock()
        self._warned = False

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        name = f"_hornbeam_function_{id(self)}"
        bound = instance.__dict__.get(name)
        if bound is None:
            bound = Function(self.python_function.__get__(instance, owner), self._maxsize)
            object.__setattr__(instance, name, bound)
        return bound

    def __call__(self, *args, **kwargs):
        # inside another trace it becomes part of it; a tape must see the single operations
        if graphs.is_tracing() or autodiff.tape_is_open():
            return self.python_function(*args, **kwargs)
        concrete, arrays = self.lookup(args, kwargs)
        return concrete.run(arrays)

    def concrete(self, *args, **kwargs) -> Concrete:
        """The compiled form for arguments like these (arrays, or specs with shape and dtype)."""
        return self.lookup(args, kwargs)[0]

    def lookup(self, args, kwargs):
        """(Concrete, flat list of the arrays among the arguments)."""
        arrays: list = []
        signature = _signature(args, arrays), _signature(kwargs, arrays) if kwargs else None
        key = (signature, settings.key(*arrays))
        with self._lock:
            concrete = self._cache.get(key)
            if concrete is not None:
                self._hits += 1
                self._cache.move_to_end(key)
                return concrete, arrays
            self._traces += 1
            structure = tree.map_structure(_placeholder, (args, kwargs))
            concrete = self._cache[key] = Concrete(self.python_function, *structure)
            if len(self._cache) > self._maxsize:
                self._cache.popitem(last=False)
                if not self._warned:
                    self._warned = True
                    warnings.warn(
                        f"function {self.__name__!r} was compiled for more than {self._maxsize} "
                        "signatures: shapes of its arguments keep changing; pad them to a few sizes",
                        stacklevel=3,
                    )
            return concrete, arrays

    def cache_info(self) -> CacheInfo:
        """Hits, traces, and the size of the cache of compiled programs."""
        return CacheInfo(self._hits, self._traces, len(self._cache), self._maxsize)

    def cache_clear(self) -> None:
        self._cache.clear()


class _ById:
    """Key for an argument that does not hash: the object itself (kept alive)."""

    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x

    def __hash__(self):
        return id(self.x)

    def __eq__(self, other):
        return isinstance(other, _ById) and self.x is other.x


def _signature(x, arrays):
    """Hashable form of an argument; its arrays are appended to `arrays`, in the order of `tree`."""
    kind = type(x)
    if kind is np.ndarray:
        arrays.append(x)
        return ("array", x.shape, standard_name(x))
    if kind is Tensor:
        arrays.append(x)
        return ("array", x.shape, x.dtype)
    if x is None or kind in (bool, int, float, str):
        return (kind, x)
    if isinstance(x, (list, tuple)):
        return (kind, *[_signature(v, arrays) for v in x])
    if isinstance(x, dict):
        return (kind, *[(k, _signature(x[k], arrays)) for k in tree.sorted_keys(x)])
    leaf = _placeholder(x)
    if leaf is not x:
        arrays.append(x)
        return ("array", leaf.shape, leaf.dtype)
    if kind is _Leaf:
        return ("array", x.shape, x.dtype)
    try:
        hash(x)
    except TypeError:
        return _ById(x)
    return (kind, x)


def _placeholder(x):
    """What stands for an argument while tracing: shape and dtype of an array, else itself."""
    if isinstance(x, (_Leaf, Variable, type)):
        return x
    if isinstance(x, Tensor):
        return _Leaf(x.shape, x.dtype, x.device if devices.in_use else None)
    if isinstance(x, (np.ndarray, np.generic)):
        return _Leaf(x.shape, standard_name(x))
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return _Leaf(tuple(x.shape), dtypes.standardize_dtype(x.dtype))
    if hasattr(x, "__array__"):
        x = np.asarray(x)
        return _Leaf(x.shape, standard_name(x))
    return x


def function(python_function=None, *, maxsize: int = 64):
    """Compiles a function of tensors: traced once per signature, then run without Python.

    Shapes and dtypes of arrays make the signature; other arguments count by value. Variables that
    the function assigns are updated in place at each call.

    Args:
        python_function: function whose arguments and results are tensors, in any nesting.
        maxsize: how many compiled signatures are kept (least recently used go first).

    Example:

    >>> import hornbeam
    >>> @hornbeam.function
    ... def norm(x):
    ...     return hornbeam.ops.sqrt(hornbeam.ops.sum(x * x))
    >>> float(norm(hornbeam.ops.array([3.0, 4.0])))
    5.0
    """
    if python_function is None:
        return lambda f: Function(f, maxsize)
    return Function(python_function, maxsize)
