"""What the families of ops share: promotion, broadcasting, axes, and gradients of broadcasts."""

from __future__ import annotations

from hornbeam import backend
from hornbeam.backend import dtypes, registry
from hornbeam.backend.registry import Spec, op, primitive

OPS = backend.OPS
_SCALARS = (bool, int, float)


def tensor(x):
    """`x` as a tensor; numbers and lists take their default dtype."""
    return backend.convert_to_tensor(x)


def _dtype_or_type(x):
    # NumPy's functions make np.float64, a subclass of float, of Python floats: x * np.sqrt(2) must
    # not turn float32 into float64
    return float if isinstance(x, float) else getattr(x, "dtype", None) or type(x)


def promote(*xs, at_least=(), number=False):
    """Tensors of one dtype, the common one of all operands (Python numbers adapt to the others).

    Args:
        at_least: dtypes, or Python types, that the result is promoted with: `(float,)` makes
            floats of integers.
        number: truth values become int32.
    """
    # A variable counts with the dtype it is read in, which mixed precision makes another.
    xs = [x.value if isinstance(x, backend.Variable) else x for x in xs]
    xs = [x if hasattr(x, "dtype") or type(x) in _SCALARS else tensor(x) for x in xs]
    names = [_dtype_or_type(x) for x in xs]
    dtype = backend.result_type(*names, *at_least)
    if number and dtype == "bool":
        dtype = "int32"
    return tuple([backend.convert_to_tensor(x, dtype) for x in xs])


def as_float(x):
    """`x` as a tensor of floats: integers and booleans become `floatx()`."""
    x = tensor(x)
    return x if dtypes.is_float(x.dtype) else cast_to(x, backend.result_type(x.dtype, float))


def as_bool(x):
    """Truth values: whether the elements of `x` differ from 0."""
    return cast_to(tensor(x), "bool")


def cast_to(x, dtype):
    """The tensor `x` converted to the dtype of this name."""
    return x if x.dtype == dtype else _cast(x, dtype=dtype)


def broadcast_shapes(name: str, *shapes) -> tuple[int, ...]:
    """Common shape of operands, aligned at the last axis; axes of size 1 stretch."""
    out: list[int] = []
    for shape in shapes:
        longer, shorter = (out, shape) if len(out) >= len(shape) else (list(shape), out)
        out = list(longer)
        for i in range(-len(shorter), 0):
            if out[i] == 1:
                out[i] = shorter[i]
            elif shorter[i] not in (1, out[i]):
                raise ValueError(
                    f"{name}: shapes do not broadcast; expected equal sizes (or 1) on every axis "
                    f"counted from the last, got {' and '.join(str(tuple(s)) for s in shapes)}; "
                    "reshape or expand_dims one of them"
                )
    return tuple(out)


def canonical_axis(name: str, axis, ndim: int) -> int:
    """`axis` counted from the front."""
    axis = int(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"{name}: axis out of range; expected {-ndim} <= axis < {ndim}, got {axis}"
        )
    return axis % ndim


def canonical_axes(name: str, axis, ndim: int) -> tuple[int, ...]:
    """Axes (an int, a sequence, or None for all) counted from the front, sorted."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    out = sorted(canonical_axis(name, a, ndim) for a in axes)
    if len(set(out)) != len(out):
        raise ValueError(f"{name}: an axis is given twice, got {tuple(axes)} for rank {ndim}")
    return tuple(out)


def unbroadcast(dx, shape):
    """`dx` summed over the axes along which an operand of this shape was broadcast."""
    shape = tuple(shape)
    if tuple(dx.shape) == shape:
        return dx
    extra = len(dx.shape) - len(shape)
    axes = tuple(
        i for i, n in enumerate(dx.shape) if i < extra or (shape[i - extra] == 1 and n != 1)
    )
    if axes:
        dx = registry.REGISTRY["reduce_sum"](dx, axes=axes, keepdims=False)
    return registry.reshape(dx, shape=shape)


def gradients(*rules):
    """Gradient of an element-wise primitive: `rule(op, dy)` for each operand, None where none.

    Each result is summed back to the shape of its operand; only what is needed is computed.
    """

    def gradient(op, dy):
        return tuple(
            unbroadcast(rule(op, dy), x.shape) if rule is not None and needed else None
            for rule, x, needed in zip(rules, op.inputs, op.needs, strict=True)
        )

    return gradient


def _broadcast_spec(name, dtype):
    def spec(*xs):
        return Spec(broadcast_shapes(name, *[x.shape for x in xs]), dtype or xs[-1].dtype)

    return spec


def elementwise(name, *rules, dtype=None, doc=None):
    """Declares a primitive of the tile engine; its operands broadcast.

    Args:
        rules: gradients, one for each operand (see `gradients`), None where it is 0; none at all:
            the function cannot be differentiated.
        dtype: of the result; that of the last operand if None.
    """
    rule = gradients(*rules) if rules else None
    return primitive(name, _broadcast_spec(name, dtype), rule, elementwise=True, doc=doc)


def public(name, function, doc, example=None):
    """Declares a public op whose body is a short `function`; `example` is one doctest line."""
    function.__name__ = function.__qualname__ = name
    function.__module__ = "hornbeam.ops"
    shapes = "Operands broadcast" if function.__code__.co_argcount > 1 else "Same shape as `x`"
    function.__doc__ = f"{doc}\n\n{shapes}.\n"
    if example:
        call, result = example.split(" -> ")
        call = f"ops.{name}({call}).tolist()"
        function.__doc__ += f"\nExample:\n\n>>> from hornbeam import ops\n>>> {call}\n{result}\n"
    return op(function)


_cast = primitive(
    "cast",
    lambda x, *, dtype: Spec(tuple(x.shape), dtype),
    gradient=lambda op, dy: cast_to(dy, op.inputs[0].dtype) if dtypes.is_float(op.dtype) else None,
    elementwise=True,
    doc="The elements converted to `dtype`; floats are cut to integers, numbers tested for != 0.",
)
