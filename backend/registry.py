"""How ops are declared: `primitive` for what a kernel does, `@op` for compositions.

Every op is declared once, in `hornbeam/ops/<family>.py`. A primitive has a shape rule and a kernel
of the same name; a composition is a Python function whose body is its meaning, and may have a
gradient of its own and, for speed, a kernel.
"""

from __future__ import annotations

import functools
import inspect
from typing import NamedTuple

from hornbeam.backend import _core, autodiff, eager, symbolic
from hornbeam.backend import graph as graphs
from hornbeam.backend.tensor import OPS


class Spec(NamedTuple):
    """Shape and dtype of a tensor."""

    shape: tuple[int, ...]
    dtype: str


#: Every op that can be a node, by name.
REGISTRY: dict[str, Op] = {}


@functools.lru_cache(maxsize=1)
def kernel_dtypes() -> dict[str, frozenset[str]]:
    """Names of the CPU kernels and the dtypes they take."""
    table: dict[str, set[str]] = {}
    for name, names, level in _core.kernels():
        if level != "cuda":
            table.setdefault(name, set()).update(names)
    return {name: frozenset(d) for name, d in table.items()}


class Op:
    """What a node of a graph does. See `primitive` and `op`."""

    def __init__(self, name, spec=None, gradient=None, elementwise=False, host=None, doc=None):
        self.name = name
        self.spec = spec
        self.gradient_rule = gradient
        self.elementwise = elementwise
        self.host = host
        self.body = None  # compositions: the function, called as body(node.inputs, attrs)
        self.__doc__ = doc

    def specs(self, inputs, attrs) -> list[Spec]:
        """Specs of the outputs for these inputs (anything with shape and dtype)."""
        out = self.spec(*inputs, **attrs)
        return [out] if isinstance(out, Spec) else list(out)

    def has_kernel(self, inputs, attrs=None) -> bool:
        names = kernel_dtypes().get(self.name)
        return names is not None and (not inputs or inputs[0].dtype in names)

    def __call__(self, *inputs, **attrs):
        inputs = tuple([graphs.convert_to_tensor(x) for x in inputs])
        outputs = apply(self, inputs, attrs)
        return outputs[0] if len(outputs) == 1 else outputs

    def gradient(self, rule):
        """Decorator: the gradient of this op, `rule(op, *dys) -> dx or (dx, …)`."""
        self.gradient_rule = rule
        return rule

    def __repr__(self):
        return f"<op {self.name}>"


def apply(op: Op, inputs, attrs) -> tuple:
    """The op on converted inputs: a new node while tracing, else executed at once."""
    graph = graphs.current_graph()
    if graph is not None:
        return graph.add(op, inputs, attrs).outputs
    return eager.execute(op, inputs, attrs)


def primitive(name, spec, gradient=None, elementwise=False, host=None, doc=None) -> Op:
    """Declares a primitive: an op whose meaning is a kernel of the same name.

    Args:
        name: name of the op and of its kernel.
        spec: shape rule, `spec(*inputs, **attrs)` → Spec or list of Spec. The inputs have `.shape`
            (of ints) and `.dtype`.
        gradient: `gradient(op, *dys)` → one gradient or a tuple, one for each input; None where
            there is none. `op.inputs`, `op.output`, `op.outputs` and `op.<attribute>` are there.
        elementwise: the kernel is a function of the tile engine; such ops are fused.
        host: for rare ops: `host(*arrays, **attrs)` → array or tuple, run through NumPy.
        doc: what it computes.
    """
    new = Op(name, spec, gradient, elementwise, host, doc)
    if name in REGISTRY:
        raise ValueError(f"primitive: {name!r} is declared twice")
    REGISTRY[name] = new
    return new


def _no_spec(*inputs, **attrs):
    raise NotImplementedError


INPUT = primitive("input", _no_spec)
CONSTANT = primitive("constant", _no_spec)
VARIABLE = primitive("variable", _no_spec)
LEAVES = (INPUT, CONSTANT, VARIABLE)


class PublicOp:
    """A public op: a function on tensors. Made by `@op`."""

    def __init__(self, function, inputs=None, kernel=None, attrs=None):
        functools.update_wrapper(self, function)
        self.function = function
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters
        self.name = function.__name__
        if inputs is None:
            inputs = tuple(
                p.name
                for p in parameters.values()
                if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
            )
        self.input_names = tuple(inputs)
        self.make_attrs = attrs
        self.node_op: Op | None = None
        # a public face of a primitive of the same name is a plain function that calls it
        if kernel or (self.name in kernel_dtypes() and self.name not in REGISTRY):
            self._make_node_op(kernel or self.name)

    def _make_node_op(self, name):
        if name in REGISTRY:
            raise ValueError(f"op: {name!r} is a primitive already; give the gradient there")
        self.node_op = Op(name, spec=self._spec)
        self.node_op.body = self._run_body
        REGISTRY[name] = self.node_op

    def gradient(self, rule):
        """Decorator: an own gradient, `rule(op, *dys) -> dx or (dx, …)`."""
        if self.node_op is None:
            self._make_node_op(self.name)
        self.node_op.gradient_rule = rule
        return rule

    def __call__(self, *args, **kwargs):
        if symbolic.any_symbolic(args) or (kwargs and symbolic.any_symbolic(kwargs)):
            return symbolic.record_call(self, args, kwargs)
        if self.node_op is None:
            return self.function(*args, **kwargs)
        return self._call_node(args, kwargs)

    def _call_node(self, args, kwargs):
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        params = bound.arguments
        inputs, names = [], []
        for name in self.input_names:
            x = params.pop(name)
            if x is not None:
                inputs.append(graphs.convert_to_tensor(x))
                names.append(name)
        attrs = {k: _hashable(v) for k, v in params.items()}
        if self.make_attrs is not None:
            attrs = self.make_attrs(*inputs, **attrs)
        if len(names) != len(self.input_names):
            attrs["_inputs"] = tuple(names)
        op = self.node_op
        if op.gradient_rule is None and not op.has_kernel(inputs, attrs):
            outputs = op.body(inputs, attrs)
            return outputs
        outputs = apply(op, tuple(inputs), attrs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _run_body(self, inputs, attrs):
        names = attrs.get("_inputs", self.input_names)
        params = dict.fromkeys(self.input_names)
        params.update(zip(names, inputs, strict=True))
        params.update((k, v) for k, v in attrs.items() if not k.startswith("_"))
        return self.function(**params)

    def _spec(self, *inputs, **attrs):
        specs = tuple(Spec(tuple(x.shape), x.dtype) for x in inputs)
        return list(_body_specs(self, specs, tuple(attrs.items())))

    def __repr__(self):
        return f"<function hornbeam.ops.{self.name}>"

    def __get__(self, instance, owner=None):
        return self


@functools.lru_cache(maxsize=4096)
def _body_specs(public, specs, attrs) -> tuple[Spec, ...]:
    with graphs.Graph() as g:
        out = public._run_body([g.input(*s) for s in specs], dict(attrs))
    out = out if isinstance(out, (tuple, list)) else (out,)
    return tuple(Spec(v.shape, v.dtype) for v in out)


def _hashable(x):
    if isinstance(x, (list, tuple)):
        return tuple(_hashable(i) for i in x)
    if x is None or isinstance(x, (int, float, str, bool)):
        return x
    if hasattr(x, "__index__") and not hasattr(x, "node"):
        return int(x)
    if hasattr(x, "item") and not hasattr(x, "node") and getattr(x, "shape", None) == ():
        return x.item()
    return x


def op(function=None, *, inputs=None, kernel=None, attrs=None, name=None):
    """Declares a public op: a function of tensors whose body is its meaning.

    Args:
        inputs: names of the tensor parameters; default: those without a default value. The others
            are attributes. A tensor parameter may be None if its default is.
        kernel: name of the kernel that computes it in one go, if that is not the function's name.
        attrs: `attrs(*inputs, **params)` → dict: rewrites the attributes that the kernel gets (they
            must still be parameters of the body).
        name: public name, if it differs from the function's (to not shadow a Python builtin).
    """

    def declare(f):
        if name is not None:
            f.__name__ = name
        public = PublicOp(f, inputs, kernel, attrs)
        OPS[public.name] = public
        return public

    return declare(function) if function is not None else declare


# ---------------------------------------------------------------------- primitives of the runtime


def _reshape_spec(x, *, shape):
    n = 1
    for d in shape:
        n *= d
    size = 1
    for d in x.shape:
        size *= d
    if n != size:
        raise ValueError(
            f"reshape: expected a shape of {size} elements (the input is {tuple(x.shape)}), "
            f"got {tuple(shape)}"
        )
    return Spec(tuple(shape), x.dtype)


#: A view of the same elements in another shape (attr `shape`, ints). Costs nothing.
reshape: Op = primitive(
    "reshape",
    _reshape_spec,
    gradient=lambda op, dy: reshape(dy, shape=op.inputs[0].shape),
    doc="The same elements in another shape.",
)

#: The value itself, through which no gradient flows.
stop_gradient = primitive(
    "stop_gradient",
    lambda x: Spec(tuple(x.shape), x.dtype),
    gradient=lambda op, dy: None,
    doc="The value itself; no gradient flows through it.",
)

#: The value in memory of its own (for state that would share a buffer).
copy = primitive(
    "copy",
    lambda x: Spec(tuple(x.shape), x.dtype),
    gradient=lambda op, dy: dy,
    doc="The value in memory of its own.",
)


#: The first input, not to be computed before the second is there: keeps what remat computes again
#: from being merged with the first time.
primitive(
    "barrier",
    lambda x, after: Spec(tuple(x.shape), x.dtype),
    gradient=lambda op, dy: (dy, None),
    doc="The first input, computed no earlier than the second.",
)

#: The first `count` inputs; `rule(*dys)` gives the gradients of the others.
primitive(
    "custom_gradient",
    autodiff._custom_spec,
    gradient=autodiff._custom_rule,
    doc="Values with a gradient rule of their own.",
)
