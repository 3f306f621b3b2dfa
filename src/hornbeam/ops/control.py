"""Control flow: cond, switch, while_loop, fori_loop, scan, map and what is built from them.

While a function is traced these become nodes whose bodies are graphs of their own, run natively by
the runtime without Python. Eagerly they are plain Python loops over ops, which a GradientTape
records step by step.
"""

from __future__ import annotations

import numpy as np

from hornbeam.backend import autodiff, dtypes, tree
from hornbeam.backend import graph as graphs
from hornbeam.backend.graph import Graph, convert_to_tensor, is_tracing
from hornbeam.backend.registry import LEAVES, Spec, op, primitive
from hornbeam.backend.tensor import OPS

# ---------------------------------------------------------------------- bodies as graphs


def _trace_body(function, specs):
    """(graph, structure of the result) of `function` on inputs of these specs."""
    body = Graph(parent=graphs.current_graph())
    with body:
        inputs = [body.input(*s) for s in specs]
        out = function(*inputs)
        flat = [convert_to_tensor(x) for x in tree.flatten(out)]
        body.outputs = [v if v.node.graph is body else body.capture(v) for v in flat]
    return body, out


def _close(body: Graph, outer_values) -> None:
    """Makes every captured value a declared input, in the order of `outer_values`."""
    body.inputs += [_input_for(body, v) for v in outer_values]
    body.captured = {}


def _input_for(body, outer):
    inner = body.captured.get(outer)
    return inner if inner is not None else body.input_for_capture(outer)


def _captures(*bodies) -> list:
    seen: dict = {}
    for body in bodies:
        seen |= {outer: None for outer, _ in body.capture_list()}
    return list(seen)


def _inline(body: Graph, values) -> list:
    """The nodes of a closed body, copied into the graph being traced."""
    graph = graphs.tracing_graph()
    mapping = dict(zip(body.inputs, values, strict=True))
    for node in body.nodes:
        if node.op in LEAVES:
            if node.op.name == "constant":
                mapping[node.outputs[0]] = graph.constant(node.attrs["tensor"])
            continue
        specs = [Spec(v.shape, v.dtype) for v in node.outputs]
        new = graph.add(node.op, [mapping[v] for v in node.inputs], node.attrs, specs, node.where)
        mapping.update(zip(node.outputs, new.outputs, strict=True))
    return [mapping[v] for v in body.outputs]


def _vjp(body: Graph, values, sources, dys):
    """Gradients of a body on `values` with respect to some of them (zeros where unconnected)."""
    graph = graphs.tracing_graph()
    start = len(graph.nodes)
    outputs = _inline(body, values)
    pairs = [(y, dy) for y, dy in zip(outputs, dys, strict=True) if dy is not None]
    found = autodiff.backward(
        graph.nodes[start:], [y for y, _ in pairs], sources, [dy for _, dy in pairs]
    )
    return [OPS["zeros_like"](s) if g is None else g for s, g in zip(sources, found, strict=True)]


def _check_loop(name, before, after):
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        if tuple(a.shape) != tuple(b.shape) or a.dtype != b.dtype:
            raise ValueError(
                f"{name}: loop value {i} must keep its shape and dtype; expected "
                f"{a.dtype}{list(a.shape)} (as it starts), got {b.dtype}{list(b.shape)} after one "
                "step; cast or reshape it in the body"
            )


def _is_float(t):
    return dtypes.is_float(t.dtype)


# ---------------------------------------------------------------------- cond


def _cond_spec(pred, *captures, true, false):
    return [Spec(v.shape, v.dtype) for v in true.outputs]


def _cond_gradient(o, *dys):
    pred, *captures = o.inputs
    wanted = [i for i, c in enumerate(captures) if _is_float(c) and o.needs[i + 1]]
    floats = [i for i, v in enumerate(o.true.outputs) if _is_float(v)]
    specs = [(v.shape, v.dtype) for v in captures] + [(dys[i].shape, dys[i].dtype) for i in floats]

    def branch(body):
        def run(*values):
            ins, d = values[: len(captures)], values[len(captures) :]
            full = [None] * len(body.outputs)
            for i, dy in zip(floats, d, strict=True):
                full[i] = dy
            return _vjp(body, ins, [ins[i] for i in wanted], full)

        return _trace_body(run, specs)[0]

    true, false = branch(o.true), branch(o.false)
    outer = _captures(true, false)
    _close(true, outer)
    _close(false, outer)
    inputs = (pred, *captures, *[dys[i] for i in floats], *outer)
    found = graphs.tracing_graph().add(_cond, inputs, {"true": true, "false": false}).outputs
    out = [None] * len(o.inputs)
    for i, g in zip(wanted, found, strict=True):
        out[i + 1] = g
    return out


_cond = primitive("cond", _cond_spec, _cond_gradient, doc="One of two graphs, chosen at run time.")


@op(inputs=())
def cond(pred, true_fn, false_fn):
    """`true_fn()` if `pred` else `false_fn()`, decided when the program runs.

    Args:
        pred: boolean scalar.
        true_fn, false_fn: functions without arguments, returning structures of the same form,
            shapes and dtypes.

    Example:

    >>> from hornbeam import ops
    >>> x = ops.convert_to_tensor(2.0)
    >>> float(ops.cond(x > 1, lambda: x * 10, lambda: x))
    20.0
    """
    if not is_tracing():
        return true_fn() if bool(convert_to_tensor(pred)) else false_fn()
    pred = OPS["cast"](convert_to_tensor(pred), "bool")
    if pred.shape != ():
        raise ValueError(f"cond: expected a predicate of rank 0, got shape {tuple(pred.shape)}")
    (true, out), (false, other) = _trace_body(true_fn, ()), _trace_body(false_fn, ())
    tree.assert_same_structure(out, other)
    for a, b in zip(true.outputs, false.outputs, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(
                f"cond: both branches must return the same shapes and dtypes; true_fn gives "
                f"{a.dtype}{list(a.shape)}, false_fn gives {b.dtype}{list(b.shape)}"
            )
    outer = _captures(true, false)
    _close(true, outer)
    _close(false, outer)
    node = graphs.tracing_graph().add(_cond, (pred, *outer), {"true": true, "false": false})
    return tree.pack_sequence_as(out, node.outputs)


@op(inputs=())
def switch(index, branches, *operands):
    """`branches[index](*operands)`; the index is clipped to the number of branches.

    Args:
        index: integer scalar.
        branches: functions of the operands, all returning the same shapes and dtypes.
    """
    if not branches:
        raise ValueError("switch: expected at least one branch")
    index = OPS["clip"](convert_to_tensor(index), 0, len(branches) - 1)
    if not is_tracing():
        return branches[int(index)](*operands)

    def choose(low, high):
        if low == high:
            return branches[low](*operands)
        middle = (low + high) // 2
        return cond(index <= middle, lambda: choose(low, middle), lambda: choose(middle + 1, high))

    return choose(0, len(branches) - 1)


# ---------------------------------------------------------------------- scan


def _scan_spec(*inputs, body, num_carry, num_xs, length, reverse):
    carries = [Spec(v.shape, v.dtype) for v in body.outputs[:num_carry]]
    return carries + [Spec((length, *v.shape), v.dtype) for v in body.outputs[num_carry:]]


def _add_scan(body, carries, xs, length, reverse):
    """Node for a traced body (carries, x slices) → (carries, y slices); its outputs."""
    outer = _captures(body)
    _close(body, outer)
    attrs = {
        "body": body,
        "num_carry": len(carries),
        "num_xs": len(xs),
        "length": length,
        "reverse": int(reverse),
    }
    return graphs.tracing_graph().add(_scan, (*carries, *xs, *outer), attrs).outputs


def _scan_gradient(o, *dys):
    # Runs the steps in the opposite order. The body is computed again from the carries that the
    # forward scan kept (its last outputs); gradients of captured values add up in a carry.
    body, n, m = o.body, o.num_carry, o.num_xs
    carries, xs, captures = o.inputs[:n], o.inputs[n : n + m], o.inputs[n + m :]
    history = o.outputs[len(o.outputs) - n :]
    needs = o.needs
    num_y = len(body.outputs) - n
    d_carry = [i for i in range(n) if _is_float(carries[i])]
    d_y = [i for i in range(num_y) if _is_float(body.outputs[n + i]) and not o.missing[n + i]]
    w_x = [i for i in range(m) if _is_float(xs[i]) and needs[n + i]]
    w_c = [i for i in range(len(captures)) if _is_float(captures[i]) and needs[n + m + i]]

    start = [dys[i] for i in d_carry] + [OPS["zeros_like"](captures[i]) for i in w_c]
    streams = [*history, *xs, *[dys[n + i] for i in d_y]]
    specs = [(t.shape, t.dtype) for t in start] + [(t.shape[1:], t.dtype) for t in streams]

    def step(*values):
        k = len(start)
        dc, acc, rest = values[: len(d_carry)], values[len(d_carry) : k], values[k:]
        c_in, x_in, dy_in = rest[:n], rest[n : n + m], rest[n + m :]
        full = [None] * len(body.outputs)
        for i, g in zip(d_carry, dc, strict=True):
            full[i] = g
        for i, g in zip(d_y, dy_in, strict=True):
            full[n + i] = g
        caps = [graphs.tracing_graph().capture(c) for c in captures]
        sources = [c_in[i] for i in d_carry] + [x_in[i] for i in w_x] + [caps[i] for i in w_c]
        found = _vjp(body, [*c_in, *x_in, *caps], sources, full)
        a, b = len(d_carry), len(d_carry) + len(w_x)
        new_acc = [old + g for old, g in zip(acc, found[b:], strict=True)]
        return [*found[:a], *new_acc, *found[a:b]]

    traced, _ = _trace_body(step, specs)
    out = _add_scan(_with_history(traced, len(start)), start, streams, o.length, not o.reverse)
    grads: list = [None] * len(o.inputs)
    for i, g in zip(d_carry, out, strict=False):
        grads[i] = g
    for i, g in zip(w_c, out[len(d_carry) : len(start)], strict=True):
        grads[n + m + i] = g
    for i, g in zip(w_x, out[len(start) : len(start) + len(w_x)], strict=True):
        grads[n + i] = g
    return grads


_scan = primitive("scan", _scan_spec, _scan_gradient, doc="A loop with carried values and streams.")


def _with_history(body, num_carry):
    """Every scan also returns what its carries were before each step, for its gradient.

    A pass drops these outputs again where nobody differentiates.
    """
    body.outputs += body.inputs[:num_carry]
    return body


@op(inputs=())
def scan(f, init, xs=None, length=None, reverse=False, unroll=1):
    """Applies `f(carry, x) → (carry, y)` along the first axis of `xs`.

    Args:
        f: function of the carry and one slice of `xs`.
        init: initial carry, any structure of tensors.
        xs: structure of tensors [length, …], or None.
        length: number of steps; needed if `xs` is None.
        reverse: from the last slice to the first.
        unroll: kept for Keras scripts; the native loop needs none.

    Returns:
        `(carry, ys)`: the last carry, and the ys stacked along a new first axis.

    Example:

    >>> from hornbeam import ops
    >>> total, partial = ops.scan(lambda c, x: (c + x, c + x), 0.0, ops.arange(4.0))
    >>> float(total), partial.numpy().tolist()
    (6.0, [0.0, 1.0, 3.0, 6.0])
    """
    if not callable(f):
        raise TypeError(f"scan: expected a function f, got {f!r}")
    init = tree.map_structure(convert_to_tensor, init)
    xs_flat = [] if xs is None else [convert_to_tensor(x) for x in tree.flatten(xs)]
    lengths = {x.shape[0] for x in xs_flat}
    if length is not None:
        lengths.add(int(length))
    if len(lengths) != 1:
        raise ValueError(
            f"scan: expected xs of one common length (or `length`), got {sorted(lengths) or None}"
        )
    (length,) = lengths

    def pack_x(flat):
        return None if xs is None else tree.pack_sequence_as(xs, flat)

    if not is_tracing():
        return _scan_eagerly(f, init, xs_flat, pack_x, length, reverse)

    carries = tree.flatten(init)
    specs = [(c.shape, c.dtype) for c in carries] + [(x.shape[1:], x.dtype) for x in xs_flat]
    structure = []

    def step(*values):
        carry, y = f(
            tree.pack_sequence_as(init, values[: len(carries)]), pack_x(values[len(carries) :])
        )
        tree.assert_same_structure(carry, init)
        structure.append(y)
        return [*tree.flatten(carry), *([] if y is None else tree.flatten(y))]

    body, _ = _trace_body(step, specs)
    _check_loop("scan", carries, body.outputs[: len(carries)])
    outputs = _add_scan(_with_history(body, len(carries)), carries, xs_flat, length, reverse)
    n, y = len(carries), structure[0]
    ys = None if y is None else tree.pack_sequence_as(y, outputs[n : len(outputs) - n])
    return tree.pack_sequence_as(init, outputs[:n]), ys


def _scan_eagerly(f, carry, xs_flat, pack_x, length, reverse):
    ys = []
    for t in reversed(range(length)) if reverse else range(length):
        carry, y = f(carry, pack_x([x[t] for x in xs_flat]))
        ys.append(y)
    if reverse:
        ys.reverse()
    if not ys or ys[0] is None:
        return carry, None
    flat = [
        OPS["stack"](list(column)) for column in zip(*[tree.flatten(y) for y in ys], strict=True)
    ]
    return carry, tree.pack_sequence_as(ys[0], flat)


# ---------------------------------------------------------------------- while_loop


def _while_spec(*inputs, condition, body, num_loop, maximum_iterations):
    return [Spec(v.shape, v.dtype) for v in inputs[:num_loop]]


def _while_gradient(o, *dys):
    if o.maximum_iterations < 0:
        raise ValueError(
            "while_loop: the gradient needs a bound on the number of steps; give "
            "maximum_iterations, or use scan or fori_loop"
        )
    # The same loop as a scan of fixed length whose steps do nothing once the condition fails.
    n = o.num_loop
    captures = o.inputs[n:]

    def step(*loop):
        caps = [graphs.tracing_graph().capture(c) for c in captures]
        (go_on,) = _inline(o.condition, [*loop, *caps])
        new = _inline(o.body, [*loop, *caps])
        return [OPS["where"](go_on, a, b) for a, b in zip(new, loop, strict=True)]

    graph = graphs.tracing_graph()
    start = len(graph.nodes)
    body, _ = _trace_body(step, [(v.shape, v.dtype) for v in o.inputs[:n]])
    outputs = _add_scan(_with_history(body, n), o.inputs[:n], [], o.maximum_iterations, False)[:n]
    pairs = [(y, dy) for y, dy in zip(outputs, dys, strict=True) if _is_float(y)]
    found = autodiff.backward(
        graph.nodes[start:], [y for y, _ in pairs], o.inputs, [dy for _, dy in pairs]
    )
    return autodiff.once_each(o.inputs, found)


_while = primitive(
    "while_loop", _while_spec, _while_gradient, doc="A loop while a condition holds."
)


@op(inputs=())
def while_loop(cond, body, loop_vars, maximum_iterations=None):
    """Repeats `loop_vars = body(*loop_vars)` while `cond(*loop_vars)`.

    Args:
        cond: function of the loop values → boolean scalar.
        body: function of the loop values → new loop values of the same shapes and dtypes.
        loop_vars: list or tuple of tensors (or one tensor).
        maximum_iterations: bound on the steps; needed for gradients in compiled functions.

    Returns:
        The loop values after the last step.

    Example:

    >>> from hornbeam import ops
    >>> i, p = ops.while_loop(lambda i, p: p < 100, lambda i, p: (i + 1, p * 2), (0, 1))
    >>> int(i), int(p)
    (7, 128)
    """
    single = not isinstance(loop_vars, (list, tuple))
    values = [loop_vars] if single else list(loop_vars)
    values = tree.map_structure(convert_to_tensor, values)

    def call_body(vs):
        out = body(*vs)
        if single or len(vs) == 1 and not isinstance(out, (list, tuple)):
            out = [out]
        return tree.map_structure(convert_to_tensor, list(out))

    if not is_tracing():
        steps = 0
        while bool(convert_to_tensor(cond(*values))):
            if maximum_iterations is not None and steps >= int(maximum_iterations):
                break
            new = call_body(values)
            _check_loop("while_loop", tree.flatten(values), tree.flatten(new))
            values, steps = new, steps + 1
    else:
        flat = tree.flatten(values)
        specs = [(v.shape, v.dtype) for v in flat]
        condition, _ = _trace_body(lambda *f: cond(*tree.pack_sequence_as(values, f)), specs)
        step, _ = _trace_body(lambda *f: call_body(tree.pack_sequence_as(values, f)), specs)
        if len(condition.outputs) != 1 or condition.outputs[0].shape != ():
            raise ValueError("while_loop: expected cond to return one boolean scalar")
        if condition.outputs[0].dtype != "bool":
            with condition:
                condition.outputs = [OPS["cast"](condition.outputs[0], "bool")]
        _check_loop("while_loop", flat, step.outputs)
        outer = _captures(condition, step)
        _close(condition, outer)
        _close(step, outer)
        attrs = {
            "condition": condition,
            "body": step,
            "num_loop": len(flat),
            "maximum_iterations": -1 if maximum_iterations is None else int(maximum_iterations),
        }
        node = graphs.tracing_graph().add(_while, (*flat, *outer), attrs)
        values = tree.pack_sequence_as(values, node.outputs)
    return values[0] if single else type(loop_vars)(values)


@op(inputs=())
def fori_loop(lower, upper, body_fun, init_val):
    """`for i in range(lower, upper): val = body_fun(i, val)`; differentiable for fixed bounds.

    Args:
        lower, upper: integers, or integer scalar tensors.
        body_fun: function of the index and the value → new value.
        init_val: structure of tensors.
    """
    if isinstance(lower, int) and isinstance(upper, int):
        index = convert_to_tensor(np.arange(lower, max(lower, upper), dtype=np.int32))
        return scan(lambda v, i: (body_fun(i, v), None), init_val, index)[0]
    init_val = tree.map_structure(convert_to_tensor, init_val)
    flat = tree.flatten(init_val)

    def body(i, *values):
        new = body_fun(i, tree.pack_sequence_as(init_val, values))
        return (i + 1, *tree.flatten(new))

    start = OPS["cast"](convert_to_tensor(lower), "int32")
    out = while_loop(lambda i, *_: i < upper, body, (start, *flat))
    return tree.pack_sequence_as(init_val, out[1:])


@op(inputs=())
def map(f, xs):
    """`f` on each slice of `xs` along the first axis, one after the other; results are stacked.

    Args:
        f: function of a slice (of the structure of slices).
        xs: structure of tensors [n, …].
    """
    return scan(lambda _, x: ((), f(x)), (), xs)[1]


@op(inputs=())
def vectorized_map(function, elements):
    """`function` on each slice of `elements` along the first axis; results are stacked."""
    return scan(lambda _, x: ((), function(x)), (), elements)[1]


@op(inputs=())
def associative_scan(f, elems, reverse=False, axis=0):
    """All partial results of an associative operation, in a logarithmic number of steps.

    Source: Blelloch, Prefix Sums and Their Applications, 1990.

    Args:
        f: associative function of two structures of slices, applied along `axis` in bulk.
        elems: structure of tensors of one length along `axis`.
        reverse: combine from the end.

    Returns:
        Structure like `elems`: element i holds f over the elements up to i.

    Example:

    >>> from hornbeam import ops
    >>> ops.associative_scan(lambda a, b: a + b, ops.arange(5)).numpy().tolist()
    [0, 1, 3, 6, 10]
    """
    flat = [convert_to_tensor(e) for e in tree.flatten(elems)]
    lengths = {e.shape[axis] for e in flat}
    if len(lengths) != 1:
        raise ValueError(
            f"associative_scan: expected one length along axis {axis}, got {sorted(lengths)}"
        )
    axis = axis % len(flat[0].shape)

    def part(t, start=None, stop=None, step=None):
        return t[(slice(None),) * axis + (slice(start, stop, step),)]

    def combine(a, b):
        out = f(tree.pack_sequence_as(elems, a), tree.pack_sequence_as(elems, b))
        return tree.flatten(out)

    def interleave(even, odd):
        n = even.shape[axis] + odd.shape[axis]
        if even.shape[axis] > odd.shape[axis]:
            odd = OPS["concatenate"]([odd, part(even, -1, None)], axis=axis)
        both = OPS["stack"]([even, odd], axis=axis + 1)
        shape = (*even.shape[:axis], 2 * even.shape[axis], *even.shape[axis + 1 :])
        return part(OPS["reshape"](both, shape), 0, n)

    def run(ts):
        n = ts[0].shape[axis]
        if n < 2:
            return ts
        pairs = combine([part(t, 0, n - 1, 2) for t in ts], [part(t, 1, None, 2) for t in ts])
        odd = run(pairs)
        if n == 2:
            even = [part(t, 0, 1) for t in ts]
        else:
            left = odd if n % 2 else [part(t, 0, -1) for t in odd]
            later = combine(left, [part(t, 2, None, 2) for t in ts])
            even = [
                OPS["concatenate"]([part(t, 0, 1), x], axis=axis)
                for t, x in zip(ts, later, strict=True)
            ]
        return [interleave(e, o) for e, o in zip(even, odd, strict=True)]

    if reverse:
        flat = [OPS["flip"](t, axis=axis) for t in flat]
    out = run(flat)
    if reverse:
        out = [OPS["flip"](t, axis=axis) for t in out]
    return tree.pack_sequence_as(elems, out)
