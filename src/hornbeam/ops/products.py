"""Sums of products: matmul, dot, tensordot, einsum and relatives, on one primitive, `matmul`."""

from __future__ import annotations

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops import creation, joining, shapes
from hornbeam.ops._common import promote, unbroadcast
from hornbeam.ops.shapes import ordered_axes

OPS = backend.OPS

# ------------------------------------------------------------------ the primitive


def _matmul_spec(a, b, *bias, transpose_a=False, transpose_b=False, activation=None):
    m, k = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    k2, n = b.shape[-2:][::-1] if transpose_b else b.shape[-2:]
    if k != k2:
        raise ValueError(
            f"matmul: the inner sizes differ; expected (…, m, k) and (…, k, n), "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    batch = np.broadcast_shapes(tuple(a.shape[:-2]), tuple(b.shape[:-2]))
    return Spec((*batch, m, n), "int32" if a.dtype == "int8" else a.dtype)


def _matmul_gradient(op, dy):
    a, b = op.inputs[:2]
    ta = op.attrs.get("transpose_a", False)
    tb = op.attrs.get("transpose_b", False)
    if op.attrs.get("activation") == "relu":
        dy = OPS["where"](OPS["greater"](op.output, 0), dy, creation.zeros((), dy.dtype))
    da = db = None
    if op.needs[0]:
        da = _product(b, dy, tb, True) if ta else _product(dy, b, False, not tb)
        da = unbroadcast(da, tuple(a.shape))
    if op.needs[1]:
        if len(b.shape) == 2 and len(a.shape) > 2 and not ta:
            # one weight for all batches: they are rows of one product
            a = shapes.reshape(a, (-1, a.shape[-1]))
            dy = shapes.reshape(dy, (-1, dy.shape[-1]))
        db = _product(dy, a, True, ta) if tb else _product(a, dy, not ta, False)
        db = unbroadcast(db, tuple(b.shape))
    if len(op.inputs) == 2:
        return da, db
    dbias = OPS["sum"](dy, axis=tuple(range(dy.ndim - 1)))
    return da, db, shapes.reshape(dbias, tuple(op.inputs[2].shape))


_matmul = primitive(
    "matmul",
    _matmul_spec,
    _matmul_gradient,
    doc="activation(a b + bias) over the last two axes, either transposed on request; int8 → int32.",
)


# Integers that have no product of their own take a wider one, of which the low bits are the same.
_WIDER = {"bool": "int32", "uint8": "int32", "int16": "int32", "uint16": "int32",
          "uint32": "int64", "uint64": "int64"}  # fmt: skip


def _product(a, b, transpose_a=False, transpose_b=False):
    """The matrix product, in the dtype of both operands; int32 for int8."""
    dtype = a.dtype
    if dtype in _WIDER:
        a, b = backend.cast(a, _WIDER[dtype]), backend.cast(b, _WIDER[dtype])
    y = _matmul(a, b, transpose_a=bool(transpose_a), transpose_b=bool(transpose_b))
    return backend.cast(y, dtype) if dtype in _WIDER else y


# ------------------------------------------------------------------ products


@op
def matmul(x1, x2):
    """Matrix product over the last two axes; leading axes broadcast, vectors are promoted.

    Shapes: (…, m, k), (…, k, n) → (…, m, n). A product of two int8 tensors is int32.

    Example:

    >>> matmul([[1, 2], [3, 4]], [1, 1]).tolist()
    [3, 7]
    """
    a, b = backend.convert_to_tensor(x1), backend.convert_to_tensor(x2)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(
            f"matmul: expected at least one axis, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    dtype = backend.result_type(a.dtype, b.dtype)
    a, b = backend.cast(a, dtype), backend.cast(b, dtype)
    row, column = a.ndim == 1, b.ndim == 1
    a = shapes.expand_dims(a, 0) if row else a
    b = shapes.expand_dims(b, 1) if column else b
    y = _product(a, b)
    if row or column:
        shape = list(y.shape)
        del shape[-2 if row else -1]
        if row and column:
            shape = list(y.shape[:-2])
        y = shapes.reshape(y, tuple(shape))
    return y


@op
def dot(x1, x2):
    """Sum over the last axis of `x1` and the last but one of `x2` (its only one, for vectors)."""
    a, b = promote(x1, x2)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if b.ndim <= 2:
        return _contract(a, b, (a.ndim - 1,), (0,))
    return _contract(a, b, (a.ndim - 1,), (b.ndim - 2,))


def _contract(a, b, axes_a, axes_b):
    """Sum over pairs of axes; the free axes of a, then those of b."""
    free_a = [i for i in range(a.ndim) if i not in axes_a]
    free_b = [i for i in range(b.ndim) if i not in axes_b]
    shape = tuple(a.shape[i] for i in free_a) + tuple(b.shape[i] for i in free_b)
    k = 1
    for i, j in zip(axes_a, axes_b, strict=True):
        if a.shape[i] != b.shape[j]:
            raise ValueError(
                f"tensordot: the sizes to sum over differ; got axis {i} of {tuple(a.shape)} and "
                f"axis {j} of {tuple(b.shape)}"
            )
        k *= a.shape[i]
    m = 1
    for i in free_a:
        m *= a.shape[i]
    n = 1
    for i in free_b:
        n *= b.shape[i]
    a = shapes.reshape(shapes.transpose(a, (*free_a, *axes_a)), (m, k))
    b = shapes.reshape(shapes.transpose(b, (*axes_b, *free_b)), (k, n))
    return shapes.reshape(backend.cast(_product(a, b), a.dtype), shape)


@op
def tensordot(x1, x2, axes=2):
    """Sum over pairs of axes: the last `axes` of x1 with the first of x2, or two lists of axes."""
    a, b = promote(x1, x2)
    if isinstance(axes, int):
        axes = (list(range(a.ndim - axes, a.ndim)), list(range(axes)))
    axes_a, axes_b = axes
    axes_a = ordered_axes("tensordot", axes_a, a.ndim)
    axes_b = ordered_axes("tensordot", axes_b, b.ndim)
    return _contract(a, b, axes_a, axes_b)


@op
def outer(x1, x2):
    """All products of an element of `x1` with one of `x2`, as a matrix."""
    a, b = promote(x1, x2)
    return shapes.reshape(a, (-1, 1)) * shapes.reshape(b, (1, -1))


@op
def inner(x1, x2):
    """Sum over the last axes of both."""
    a, b = promote(x1, x2)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return _contract(a, b, (a.ndim - 1,), (b.ndim - 1,))


@op
def vdot(x1, x2):
    """Sum of the products of all elements."""
    a, b = promote(x1, x2)
    if a.ndim == 0 or b.ndim == 0:
        return backend.cast(OPS["sum"](a * b), a.dtype)
    return _contract(shapes.ravel(a), shapes.ravel(b), (0,), (0,))


@op
def vecdot(x1, x2, axis=-1):
    """Sum of products along `axis`, the other axes broadcast."""
    a, b = promote(x1, x2)
    return OPS["sum"](a * b, axis=axis)


@op
def kron(x1, x2):
    """Kronecker product."""
    a, b = promote(backend.convert_to_tensor(x1), backend.convert_to_tensor(x2))
    ndim = max(a.ndim, b.ndim)
    a = shapes.reshape(a, (1,) * (ndim - a.ndim) + tuple(a.shape))
    b = shapes.reshape(b, (1,) * (ndim - b.ndim) + tuple(b.shape))
    wide_a = tuple(n for size in a.shape for n in (size, 1))
    wide_b = tuple(n for size in b.shape for n in (1, size))
    product = shapes.reshape(a, wide_a) * shapes.reshape(b, wide_b)
    return shapes.reshape(product, tuple(m * n for m, n in zip(a.shape, b.shape, strict=True)))


@op
def cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """Vector product along axes of size 2 or 3 (of two 2-vectors: the third component)."""
    a, b = promote(x1, x2)
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = shapes.moveaxis(a, axisa, -1), shapes.moveaxis(b, axisb, -1)
    if a.shape[-1] not in (2, 3) or b.shape[-1] not in (2, 3):
        raise ValueError(
            f"cross: expected axes of size 2 or 3, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    flat = a.shape[-1] == b.shape[-1] == 2
    a = [a[..., i] for i in range(a.shape[-1])] + [0] * (3 - a.shape[-1])
    b = [b[..., i] for i in range(b.shape[-1])] + [0] * (3 - b.shape[-1])
    last = a[0] * b[1] - a[1] * b[0]
    if flat:
        return last
    first, second = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2]
    return shapes.moveaxis(joining.stack([first, second, last], axis=-1), -1, axisc)


# ------------------------------------------------------------------ einsum


def _parse(subscripts, operands):
    """Labels of every operand and of the output; an ellipsis becomes labels of its own."""
    text = subscripts.replace(" ", "")
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(
            f"einsum: expected {len(terms)} operands for {subscripts!r}, got {len(operands)}"
        )
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in text]
    widest = max(
        (x.ndim - len(t) + 3 for t, x in zip(terms, operands, strict=True) if "..." in t), default=0
    )
    dots = "".join(free[:widest])
    parsed = []
    for t, x in zip(terms, operands, strict=True):
        rank = x.ndim - len(t) + 3 if "..." in t else 0
        labels = t.replace("...", dots[len(dots) - rank :] if rank > 0 else "")
        if len(labels) != x.ndim or not labels.isalpha() and labels:
            raise ValueError(
                f"einsum: {t!r} of {subscripts!r} does not fit an operand of shape {tuple(x.shape)}"
            )
        parsed.append(labels)
    if arrow:
        out = out.replace("...", dots)
    else:
        every = "".join(parsed)
        out = dots + "".join(sorted(c for c in set(every) - set(dots) if every.count(c) == 1))
    if len(set(out)) != len(out) or not set(out) <= set("".join(parsed)):
        raise ValueError(f"einsum: the output of {subscripts!r} has unknown or repeated labels")
    return parsed, out


def _sole(x, labels, keep):
    """Diagonals of repeated labels, and sums over the labels that nobody else needs."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            x = creation.diagonal(x, 0, i, j)
            labels = labels[:i] + labels[i + 1 : j] + labels[j + 1 :] + c
    drop = tuple(i for i, c in enumerate(labels) if c not in keep)
    if drop:
        x = OPS["sum"](x, axis=drop)
        labels = "".join(c for c in labels if c in keep)
    return x, labels


def _arranged(x, labels, order, sizes):
    """x with its axes in the order of the labels, merged by groups."""
    x = shapes.transpose(x, tuple(labels.index(c) for c in "".join(order)))
    shape = []
    for group in order:
        n = 1
        for c in group:
            n *= sizes[c]
        shape.append(n)
    return x, shape


def _pair(a, la, b, lb, keep):
    """Two operands into one by a batched matrix product; returns it and its labels."""
    sizes = dict(zip(la, a.shape, strict=True))
    for c, n in zip(lb, b.shape, strict=True):
        if sizes.get(c, n) not in (n, 1) and n != 1:
            raise ValueError(f"einsum: label {c!r} has the sizes {sizes[c]} and {n}")
        sizes[c] = max(sizes.get(c, n), n)
    shared = [c for c in la if c in lb]
    wide = tuple(sizes[c] for c in la)
    a = shapes.broadcast_to(a, wide)
    b = shapes.broadcast_to(b, tuple(sizes[c] for c in lb))
    batch = "".join(c for c in shared if c in keep)
    summed = "".join(c for c in shared if c not in keep)
    free_a = "".join(c for c in la if c not in lb)
    free_b = "".join(c for c in lb if c not in la)
    # the order of the output, where it decides, saves a transposition
    if keep.startswith("".join(c for c in keep if c in batch)):
        batch = "".join(c for c in keep if c in batch)
    if keep.replace(batch, "", 1) == free_b + free_a and free_a:
        a, la, free_a, b, lb, free_b = b, lb, free_b, a, la, free_a
    summed = "".join(c for c in lb if c in summed) if lb.startswith(batch) else summed
    transpose_a = la == batch + summed + free_a and bool(free_a)
    transpose_b = lb == batch + free_b + summed and bool(free_b)
    order_a = (batch, summed, free_a) if transpose_a else (batch, free_a, summed)
    order_b = (batch, free_b, summed) if transpose_b else (batch, summed, free_b)
    a, shape_a = _arranged(a, la, order_a, sizes)
    b, shape_b = _arranged(b, lb, order_b, sizes)
    start = 0 if batch else 1
    y = _product(
        shapes.reshape(a, tuple(shape_a[start:])),
        shapes.reshape(b, tuple(shape_b[start:])),
        transpose_a,
        transpose_b,
    )
    labels = batch + free_a + free_b
    return shapes.reshape(y, tuple(sizes[c] for c in labels)), labels


def einsum(subscripts, *operands, **kwargs):
    """Sums of products by Einstein's convention; two operands become one batched matrix product.

    Example:

    >>> einsum("ij,jk->ik", [[1.0, 2.0]], [[3.0], [4.0]]).tolist()
    [[11.0]]
    """
    return _einsum(list(operands), subscripts)


@op(inputs=("operands",))
def _einsum(operands, subscripts):
    if not operands:
        raise ValueError("einsum: expected at least one operand")
    operands = promote(*operands)
    if len(operands) == 1 and operands[0].dtype == "int8":  # as a product of several is
        operands = [backend.cast(operands[0], "int32")]
    terms, out = _parse(subscripts, operands)
    x, labels = operands[0], terms[0]
    for i in range(1, len(operands)):
        needed = out + "".join(terms[i + 1 :])
        x, labels = _sole(x, labels, needed + terms[i])
        y, right = _sole(operands[i], terms[i], needed + labels)
        seen = set(labels + right)
        keep = (
            out
            if i == len(operands) - 1
            else "".join(dict.fromkeys(c for c in needed if c in seen))
        )
        x, y = promote(x, y)  # sums and products of int8 are int32
        x, labels = _pair(x, labels, y, right, keep)
    x, labels = _sole(x, labels, out)
    return shapes.transpose(x, tuple(labels.index(c) for c in out))


_einsum.name = "einsum"
OPS["einsum"] = einsum
