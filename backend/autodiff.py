"""Reverse-mode differentiation: one walk over recorded operations, eager or traced.

The same `backward` serves the tape on concrete tensors and the graph being traced; gradient rules
are written in ops, so gradients are tensors (or nodes) like any others and can be differentiated
again. Source: reverse accumulation, e.g. Griewank & Walther, Evaluating Derivatives, 2008, ch. 3.
"""

from __future__ import annotations

import contextlib
import threading

from hornbeam.backend import dtypes, tree
from hornbeam.backend.tensor import OPS


class Record:
    """One executed operation on a tape (a traced one is the graph's Node)."""

    __slots__ = ("op", "inputs", "attrs", "outputs")

    def __init__(self, op, inputs, attrs, outputs):
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.outputs = outputs


class _State(threading.local):
    def __init__(self):
        self.tapes: list[GradientTape] = []
        self.paused = 0
        self.reads: dict = {}  # Variable -> (version, Tensor) while a tape is open


_state = _State()


def recording(inputs) -> bool:
    """Whether a tape watches one of these tensors."""
    if not _state.tapes or _state.paused:
        return False
    return any(id(t) in tape._tracked for tape in _state.tapes for t in inputs)


def record(op, inputs, attrs, outputs) -> None:
    for tape in _state.tapes:
        if any(id(t) in tape._tracked for t in inputs):
            tape._records.append(Record(op, inputs, attrs, outputs))
            tape._tracked |= {id(t): t for t in outputs if dtypes.is_float(t.dtype)}


@contextlib.contextmanager
def pause():
    """Nothing is recorded inside."""
    _state.paused += 1
    try:
        yield
    finally:
        _state.paused -= 1


def tape_is_open() -> bool:
    return bool(_state.tapes) and not _state.paused


def read_variable(variable, make):
    """The tensor that stands for a variable while tapes are open: the same until it is assigned."""
    entry = _state.reads.get(variable)
    if entry is None or entry[0] != variable._version:
        entry = _state.reads[variable] = (variable._version, make())
    tensor = entry[1]
    for tape in _state.tapes:
        known = tape._reads.setdefault(variable, [])
        if not any(t is tensor for t in known):
            known.append(tensor)
        if variable.trainable and tape._watch_variables:
            tape._tracked[id(tensor)] = tensor
    return tensor


class _OpView:
    """What a gradient rule sees of an operation: inputs, outputs and attributes by name."""

    def __init__(self, record):
        self._record = record
        self.inputs = record.inputs
        self.outputs = record.outputs
        self.output = record.outputs[0]

    def __getattr__(self, name):
        try:
            return self._record.attrs[name]
        except KeyError:
            raise AttributeError(f"{self._record.op.name}: no attribute {name!r}") from None

    @property
    def attrs(self):
        return self._record.attrs

    def input(self, name):
        """The input of this parameter name, or None (compositions with optional inputs)."""
        names = self._record.attrs.get("_inputs")
        if names is None:
            names = self._record.op.body.__self__.input_names
        return self.inputs[names.index(name)] if name in names else None


def backward(records, targets, sources, target_gradients) -> list:
    """Gradients of the sum of `targets` with respect to `sources` (None where there is none).

    Args:
        records: operations in the order in which they ran.
        target_gradients: one for each target: the gradient that comes in from above.
    """
    needed = {id(s) for s in sources}
    relevant = []
    for r in records:
        if any(id(v) in needed for v in r.inputs):
            outs = [v for v in r.outputs if dtypes.is_float(v.dtype)]
            if outs:
                needed.update(id(v) for v in outs)
                relevant.append(r)
    gradients: dict[int, object] = {}
    for t, g in zip(targets, target_gradients, strict=True):
        _accumulate(gradients, t, g)
    source_ids = {id(s) for s in sources}
    for r in reversed(relevant):
        dys = [gradients.get(id(v)) for v in r.outputs]
        if all(dy is None for dy in dys):
            continue
        for v in r.outputs:
            if id(v) not in source_ids:
                gradients.pop(id(v), None)
        dxs = _input_gradients(r, dys, needed)
        for x, dx in zip(r.inputs, dxs, strict=True):
            if dx is not None and id(x) in needed:
                _accumulate(gradients, x, dx)
    return [gradients.get(id(s)) for s in sources]


def once_each(sources, gradients) -> list:
    """Gradients for operands: a value that is an operand twice gets its whole gradient once."""
    seen: set[int] = set()
    out = []
    for s, g in zip(sources, gradients, strict=True):
        out.append(None if id(s) in seen else g)
        seen.add(id(s))
    return out


def _accumulate(gradients, x, dx):
    if tuple(dx.shape) != tuple(x.shape):
        raise ValueError(
            f"gradient: expected shape {tuple(x.shape)} (as the value has), got {tuple(dx.shape)}"
        )
    if dx.dtype != x.dtype:
        dx = OPS["cast"](dx, x.dtype)
    old = gradients.get(id(x))
    gradients[id(x)] = dx if old is None else OPS["add"](old, dx)


def _input_gradients(record, dys, needed):
    op = record.op
    if op.gradient_rule is None:
        if op.body is None:
            raise NotImplementedError(f"{op.name}: no gradient is defined for this op")
        return _differentiate_body(record, dys)
    view = _OpView(record)
    view.needs = [id(x) in needed for x in record.inputs]  # is this input's gradient wanted?
    view.missing = [dy is None for dy in dys]  # is this output unused (its dy zeros)?
    dys = [
        OPS["zeros_like"](v) if dy is None else dy
        for v, dy in zip(record.outputs, dys, strict=True)
    ]
    dxs = op.gradient_rule(view, *dys)
    if not isinstance(dxs, (tuple, list)):
        dxs = (dxs,) + (None,) * (len(record.inputs) - 1)
    if len(dxs) != len(record.inputs):
        raise ValueError(
            f"{op.name}: the gradient rule returned {len(dxs)} gradients for "
            f"{len(record.inputs)} inputs"
        )
    return dxs


def _differentiate_body(record, dys):
    """A composition without a rule of its own: trace its body again and walk through that."""
    from hornbeam.backend.graph import current_graph

    graph = current_graph()
    start = len(graph.nodes)
    outputs = record.op.body(record.inputs, record.attrs)
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    pairs = [(y, dy) for y, dy in zip(outputs, dys, strict=True) if dy is not None]
    found = backward(
        graph.nodes[start:], [y for y, _ in pairs], record.inputs, [dy for _, dy in pairs]
    )
    return once_each(record.inputs, found)


class GradientTape:
    """Records operations to differentiate them.

    Works on concrete tensors and inside compiled functions alike. Trainable variables are watched
    by themselves, tensors by `watch`. Tapes nest: the gradient of an inner tape, computed inside of
    an outer one, can be differentiated again.

    Args:
        persistent: keep the record after `gradient`, so that it can be called again.
        watch_accessed_variables: watch trainable variables that are read.

    Example:

    >>> import hornbeam
    >>> x = hornbeam.ops.convert_to_tensor(3.0)
    >>> with hornbeam.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * x
    >>> float(tape.gradient(y, x))
    6.0
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True):
        self._persistent = persistent
        self._watch_variables = watch_accessed_variables
        self._tracked: dict[int, object] = {}  # id -> tensor (kept, so that ids stay unique)
        self._records: list = []
        self._reads: dict = {}  # Variable -> tensors that stood for it (eager)
        self._watched_variables: set = set()
        self._graph = None
        self._used = False

    def __enter__(self):
        from hornbeam.backend.graph import current_graph

        self._graph = current_graph()
        if self._graph is not None:
            self._start = len(self._graph.nodes)
            self._end = None
        else:
            _state.tapes.append(self)
        return self

    def __exit__(self, *exc):
        if self._graph is not None:
            self._end = len(self._graph.nodes)
        else:
            _state.tapes.remove(self)
            if not _state.tapes:
                _state.reads.clear()

    def watch(self, tensor) -> None:
        """Track `tensor` (or a nested structure): gradients with respect to it can be asked."""
        from hornbeam.backend.variable import Variable

        for source in tree.flatten(tensor):
            if isinstance(source, Variable):
                self._watched_variables.add(source)
            for t in self._standing_for(source) or [_read(source)]:
                if not dtypes.is_float(t.dtype):
                    raise ValueError(
                        f"GradientTape.watch: expected a tensor of floats, got dtype {t.dtype}"
                    )
                self._tracked[id(t)] = t

    def _standing_for(self, source) -> list:
        """The tensors through which the record knows a source."""
        from hornbeam.backend.variable import Variable

        graph = self._graph
        if isinstance(source, Variable):
            if graph is None:
                return [t for t in self._reads.get(source, []) if id(t) in self._tracked]
            if not source.trainable and source not in self._watched_variables:
                return []
            first = graph.root().variables.get(source)
            if first is None:
                return []
            return [graph.captured[first]] if first in graph.captured else [first]
        if graph is not None:
            return [graph.captured.get(source, source)]
        return [source]

    def gradient(self, target, sources, output_gradients=None, unconnected_gradients="none"):
        """Gradient of `target` (of the sum of its elements) with respect to `sources`.

        Args:
            target: tensor, or structure of tensors whose gradients are added.
            sources: tensor, variable, or a structure of them.
            output_gradients: structure like `target`: weights of its elements.
            unconnected_gradients: "none" or "zero": for sources that `target` does not depend on.

        Returns:
            Structure like `sources` of tensors of the same shapes, or None where not connected.
        """
        if self._used and not self._persistent:
            raise RuntimeError(
                "GradientTape.gradient: a tape that is not persistent gives gradients only once; "
                "use GradientTape(persistent=True)"
            )
        self._used = True
        targets = [_read(t) for t in tree.flatten(target)]
        for t in targets:
            if not dtypes.is_float(t.dtype):
                raise ValueError(
                    f"GradientTape.gradient: expected a target of floats, got dtype {t.dtype}"
                )
        if output_gradients is None:
            dys = [OPS["ones_like"](t) for t in targets]
        else:
            dys = [
                OPS["ones_like"](t) if g is None else _read(g)
                for t, g in zip(targets, tree.flatten(output_gradients), strict=True)
            ]
        flat = tree.flatten(sources)
        standing = [self._standing_for(s) for s in flat]
        if self._graph is not None:
            records = self._graph.nodes[self._start : self._end]
        else:
            records = self._records
        resumed = self in _state.tapes
        if resumed:  # what backward computes is not for this tape itself
            _state.tapes.remove(self)
        try:
            found = iter(backward(records, targets, [t for ts in standing for t in ts], dys))
        finally:
            if resumed:
                _state.tapes.append(self)
        if not self._persistent and self._graph is None:
            self._records = []
        gradients = []
        for source, tensors in zip(flat, standing, strict=True):
            parts = [g for g in (next(found) for _ in tensors) if g is not None]
            total = None
            for part in parts:
                total = part if total is None else OPS["add"](total, part)
            if total is None and unconnected_gradients == "zero":
                total = OPS["zeros_like"](_read(source))
            gradients.append(total)
        return tree.pack_sequence_as(sources, gradients)


def _read(x):
    from hornbeam.backend.graph import convert_to_tensor

    return convert_to_tensor(x)


def _custom_spec(*inputs, count, rule):
    from hornbeam.backend.registry import Spec

    return [Spec(tuple(x.shape), x.dtype) for x in inputs[:count]]


def _custom_rule(op, *dys):
    dxs = op.rule(*dys)
    dxs = list(dxs) if isinstance(dxs, (tuple, list)) else [dxs]
    expected = len(op.inputs) - op.count
    if len(dxs) != expected:
        raise ValueError(
            f"custom_gradient: expected {expected} gradients (one for each argument), "
            f"got {len(dxs)}"
        )
    return [None] * op.count + dxs


def _with_rule(outputs, inputs, rule):
    """`outputs`, whose gradient with respect to `inputs` is what `rule(*dys)` says."""
    from hornbeam.backend import registry

    op = registry.REGISTRY["custom_gradient"]
    return registry.apply(op, (*outputs, *inputs), {"count": len(outputs), "rule": rule})


def custom_gradient(function):
    """Decorator: a function that computes its own gradient.

    Args:
        function: `function(*tensors)` → `(output, gradient)`, where `gradient(*upstream)` returns
            one gradient for each argument.

    Example:

    >>> import hornbeam
    >>> @hornbeam.custom_gradient
    ... def clipped_exp(x):
    ...     y = hornbeam.ops.exp(x)
    ...     return y, lambda upstream: upstream * hornbeam.ops.minimum(y, 10.0)
    >>> float(clipped_exp(0.0))
    1.0
    """

    def wrapper(*args, **kwargs):
        inputs = [_read(a) for a in args]
        with pause():
            output, rule = function(*inputs, **kwargs)
        outputs = [_read(t) for t in tree.flatten(output)]
        results = _with_rule(outputs, inputs, rule)
        return tree.pack_sequence_as(output, results)

    wrapper.__wrapped__ = function
    return wrapper


def remat(function):
    """Decorator: recompute the inside of `function` in the backward pass instead of keeping it.

    Trades arithmetic for memory: only the arguments (and variables) live until the gradient is
    computed. Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    Takes effect in compiled functions; eagerly, `function` just runs.
    """

    def wrapper(*args, **kwargs):
        from hornbeam.backend import registry
        from hornbeam.backend.graph import Value, current_graph

        graph = current_graph()
        if graph is None:
            return function(*args, **kwargs)
        start = len(graph.nodes)
        output = function(*args, **kwargs)
        inside = graph.nodes[start:]
        made = {node for node in inside if node.op not in registry.LEAVES}
        leaves = {v: None for v in tree.flatten((args, kwargs)) if isinstance(v, Value)}
        for node in inside:  # what the function closes over: variables, outer values
            leaves |= {v: None for v in node.inputs if v.node not in made}
        inputs = [v for v in leaves if dtypes.is_float(v.dtype)]
        outputs = tree.flatten(output)

        def rule(*dys):
            barrier = registry.REGISTRY["barrier"]
            again = {
                v: registry.apply(barrier, (v, dys[0]), {})[0]
                for v in tree.flatten((args, kwargs))
                if isinstance(v, Value)
            }
            new_args, new_kwargs = tree.map_structure(
                lambda v: again.get(v, v) if isinstance(v, Value) else v, (args, kwargs)
            )
            now = current_graph()
            first = len(now.nodes)
            recomputed = tree.flatten(function(*new_args, **new_kwargs))
            return backward(
                now.nodes[first:], recomputed, [again.get(v, v) for v in inputs], list(dys)
            )

        return tree.pack_sequence_as(output, _with_rule(outputs, inputs, rule))

    wrapper.__wrapped__ = function
    return wrapper
