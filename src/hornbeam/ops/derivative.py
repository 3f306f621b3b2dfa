"""Derivatives as ops: forward mode, and functions with a gradient of their own."""

from __future__ import annotations

from hornbeam import backend
from hornbeam.backend import custom_gradient as custom_gradient
from hornbeam.backend import tree

OPS = backend.OPS


def jvp(fun, primals, tangents, has_aux=False):
    """`fun(*primals)` and its derivative in the direction of `tangents`.

    Reverse mode twice: the gradient of u . fun(x) is linear in u, and its derivative with respect
    to u in the direction of the tangents is the one sought.

    Args:
        primals, tangents: sequences of structures of tensors, alike.
        has_aux: `fun` returns (output, anything); the second part is returned as it is.

    Returns:
        (output, derivative), or (output, derivative, aux).

    Example:

    >>> y, dy = jvp(lambda x: x * x, (3.0,), (1.0,))
    >>> float(y), float(dy)
    (9.0, 6.0)
    """
    if len(primals) != len(tangents):
        raise ValueError(
            f"jvp: expected as many tangents as primals, got {len(tangents)} and {len(primals)}"
        )
    primals = tree.map_structure(backend.convert_to_tensor, tuple(primals))
    flat = tree.flatten(primals)
    directions = [
        backend.cast(backend.convert_to_tensor(v), x.dtype)
        for v, x in zip(tree.flatten(tuple(tangents)), flat, strict=True)
    ]
    with backend.GradientTape(watch_accessed_variables=False) as outer:
        with backend.GradientTape(watch_accessed_variables=False) as inner:
            for x in flat:
                inner.watch(x)
            out = fun(*primals)
            out, aux = out if has_aux else (out, None)
            ys = tree.flatten(out)
        weights = [OPS["ones_like"](y) for y in ys]
        for u in weights:
            outer.watch(u)
        gradients = inner.gradient(ys, flat, output_gradients=weights, unconnected_gradients="zero")
    found = outer.gradient(
        gradients, weights, output_gradients=directions, unconnected_gradients="zero"
    )
    dy = tree.pack_sequence_as(out, found)
    return (out, dy, aux) if has_aux else (out, dy)
