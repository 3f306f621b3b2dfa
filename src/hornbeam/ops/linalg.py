"""Decompositions of matrices, which run on the host through NumPy, and norms."""

from __future__ import annotations

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops import creation, shapes
from hornbeam.ops._common import promote, unbroadcast
from hornbeam.ops.products import _product, matmul
from hornbeam.ops.shapes import ordered_axes

OPS = backend.OPS


def _wide(function):
    """NumPy decomposes float32 and float64 only; shorter floats go through float32."""

    def host(*arrays, **attrs):
        arrays = [a.astype("float32") if a.dtype.itemsize < 4 else a for a in arrays]
        return function(*arrays, **attrs)

    return host


def _matrix(x, name, square=True):
    x = backend.convert_to_tensor(x)
    x = x if backend.dtypes.is_float(x.dtype) else backend.cast(x, backend.floatx())
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        kind = "square matrices (…, n, n)" if square else "matrices (…, m, n)"
        raise ValueError(f"{name}: expected {kind}, got shape {tuple(x.shape)}")
    return x


def _t(x):
    return shapes.swapaxes(x, -1, -2)


def _same(x, **_):
    return Spec(tuple(x.shape), x.dtype)


def _inv_gradient(op, dy):
    y = _t(op.output)
    return -_product(_product(y, dy), y)


_inv = primitive("inv", _same, _inv_gradient, host=_wide(np.linalg.inv), doc="Inverse.")


def _phi(x):
    """Lower triangle with half of the diagonal."""
    n = x.shape[-1]
    return creation.tril(x) * (1 - 0.5 * creation.eye(n, dtype=x.dtype))


def _cholesky_gradient(op, dy):
    # Murray, "Differentiation of the Cholesky decomposition", 2016, equation 10
    lower = op.output
    inverse = _inv(lower)
    middle = _phi(_product(lower, dy, True))
    s = _product(_product(inverse, middle, True), inverse)
    return 0.5 * (s + _t(s))


_cholesky = primitive(
    "cholesky", _same, _cholesky_gradient, host=_wide(np.linalg.cholesky), doc="Lower factor."
)


def _solve_host(a, b):
    return np.linalg.solve(a, b)


def _solve_gradient(op, dy):
    a, _ = op.inputs
    db = _solve(_t(a), dy)
    return -unbroadcast(_product(db, op.output, False, True), tuple(a.shape)), db


_solve = primitive(
    "solve",
    lambda a, b: Spec(tuple(b.shape), b.dtype),
    _solve_gradient,
    host=_wide(_solve_host),
    doc="x with a x = b, for matrices b.",
)


def _per_matrix(gradient):
    def rule(op, *dys):
        dy = shapes.expand_dims(shapes.expand_dims(dys[-1], -1), -1)
        return gradient(op, dy)

    return rule


_det = primitive(
    "det",
    lambda x: Spec(tuple(x.shape[:-2]), x.dtype),
    _per_matrix(lambda op, dy: dy * shapes.reshape(op.output, dy.shape) * _t(_inv(op.inputs[0]))),
    host=_wide(np.linalg.det),
    doc="Determinant.",
)
_slogdet = primitive(
    "slogdet",
    lambda x: [Spec(tuple(x.shape[:-2]), x.dtype)] * 2,
    _per_matrix(lambda op, dy: dy * _t(_inv(op.inputs[0]))),
    host=_wide(lambda x: tuple(np.linalg.slogdet(x))),
    doc="Sign and logarithm of the absolute value of the determinant.",
)


def _qr_spec(x, *, mode):
    *batch, m, n = x.shape
    k = m if mode == "complete" else min(m, n)
    return [Spec((*batch, m, k), x.dtype), Spec((*batch, k, n), x.dtype)]


_qr = primitive(
    "qr", _qr_spec, host=_wide(lambda x, mode: tuple(np.linalg.qr(x, mode=mode))), doc="Q and R."
)


def _svd_spec(x, *, full_matrices):
    *batch, m, n = x.shape
    k = min(m, n)
    u, v = (m, n) if full_matrices else (k, k)
    return [
        Spec((*batch, m, u), x.dtype),
        Spec((*batch, k), x.dtype),
        Spec((*batch, v, n), x.dtype),
    ]


def _svd_host(x, full_matrices):
    return tuple(np.linalg.svd(x, full_matrices=full_matrices))


_svd = primitive("svd", _svd_spec, host=_wide(_svd_host), doc="U, singular values, V transposed.")


def _singular_values_gradient(op, dy):
    u, _, vt = _svd(op.inputs[0], full_matrices=False)
    return _product(u * shapes.expand_dims(dy, -2), vt)


_singular_values = primitive(
    "singular_values",
    lambda x: Spec((*x.shape[:-2], min(x.shape[-2:])), x.dtype),
    _singular_values_gradient,
    host=_wide(lambda x: np.linalg.svd(x, compute_uv=False)),
    doc="Singular values in descending order.",
)


def _eigh_gradient(op, dw, dv):
    w, v = op.outputs
    n = w.shape[-1]
    gaps = shapes.expand_dims(w, -2) - shapes.expand_dims(w, -1)
    same = creation.eye(n, dtype="bool")
    inverse = OPS["where"](same, creation.zeros((), w.dtype), 1 / OPS["where"](same, 1.0, gaps))
    inner_ = inverse * _product(v, dv, True)
    diagonal = creation.eye(n, dtype=w.dtype) * shapes.expand_dims(dw, -2)
    s = _product(_product(v, inner_ + diagonal), v, False, True)
    return 0.5 * (s + _t(s))


_eigh = primitive(
    "eigh",
    lambda x: [Spec(tuple(x.shape[:-1]), x.dtype), Spec(tuple(x.shape), x.dtype)],
    _eigh_gradient,
    host=_wide(lambda x: tuple(np.linalg.eigh(x))),
    doc="Eigenvalues (ascending) and eigenvectors of symmetric matrices.",
)


@op
def inv(x):
    """Inverse of square matrices (…, n, n)."""
    return _inv(_matrix(x, "inv"))


@op
def cholesky(x, upper=False):
    """Lower triangular L with L L^T = x (or its transpose, if `upper`), x positive definite."""
    y = _cholesky(_matrix(x, "cholesky"))
    return _t(y) if upper else y


@op
def cholesky_inverse(x, upper=False):
    """Inverse of L L^T, given the triangular factor `x` (U^T U if `upper`)."""
    y = _inv(_matrix(x, "cholesky_inverse"))
    return _product(y, y, False, True) if upper else _product(y, y, True, False)


@op
def solve(a, b):
    """x with a x = b, where b is (…, n) or (…, n, k)."""
    a, b = promote(_matrix(a, "solve"), b)
    if b.ndim == a.ndim - 1:
        return shapes.squeeze(_solve(a, shapes.expand_dims(b, -1)), -1)
    batch = np.broadcast_shapes(tuple(a.shape[:-2]), tuple(b.shape[:-2]))
    a = shapes.broadcast_to(a, (*batch, *a.shape[-2:]))
    return _solve(a, shapes.broadcast_to(b, (*batch, *b.shape[-2:])))


@op
def solve_triangular(a, b, lower=False):
    """x with a x = b, where only the lower (or upper) triangle of `a` counts."""
    a = _matrix(a, "solve_triangular")
    return solve(creation.tril(a) if lower else creation.triu(a), b)


@op
def det(x):
    """Determinant of square matrices."""
    return _det(_matrix(x, "det"))


@op
def slogdet(x):
    """Sign and logarithm of the absolute value of the determinant."""
    return tuple(_slogdet(_matrix(x, "slogdet")))


@op
def logdet(x):
    """Logarithm of the determinant of positive definite matrices."""
    return _slogdet(_matrix(x, "logdet"))[1]


@op
def qr(x, mode="reduced"):
    """Q (orthonormal columns) and R (upper triangle) with Q R = x; mode "reduced" or "complete"."""
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: expected mode 'reduced' or 'complete', got {mode!r}")
    return tuple(_qr(_matrix(x, "qr", square=False), mode=mode))


@op
def svd(x, full_matrices=True, compute_uv=True):
    """U, s, V^T with x = U diag(s) V^T; only s if not `compute_uv`."""
    x = _matrix(x, "svd", square=False)
    if not compute_uv:
        return _singular_values(x)
    return tuple(_svd(x, full_matrices=bool(full_matrices)))


@op
def eigh(x):
    """Eigenvalues (ascending) and eigenvectors (columns) of symmetric matrices."""
    return tuple(_eigh(_matrix(x, "eigh")))


@op
def pinv(x, rcond=None):
    """Moore-Penrose inverse; singular values below rcond times the largest count as 0."""
    x = _matrix(x, "pinv", square=False)
    u, s, vt = _svd(x, full_matrices=False)
    if rcond is None:
        rcond = max(x.shape[-2:]) * float(
            np.finfo("float64" if x.dtype == "float64" else "float32").eps
        )
    large = OPS["greater"](s, rcond * OPS["max"](s, axis=-1, keepdims=True))
    inverse = OPS["where"](large, 1 / OPS["where"](large, s, 1.0), creation.zeros((), s.dtype))
    return _product(_t(vt) * shapes.expand_dims(inverse, -2), u, False, True)


@op
def matrix_rank(x, tol=None):
    """Number of singular values above `tol` (default: largest * max(m, n) * eps)."""
    x = _matrix(x, "matrix_rank", square=False)
    s = _singular_values(x)
    if tol is None:
        eps = float(np.finfo("float64" if x.dtype == "float64" else "float32").eps)
        tol = OPS["max"](s, axis=-1, keepdims=True) * (max(x.shape[-2:]) * eps)
    return OPS["sum"](backend.cast(OPS["greater"](s, tol), "int32"), axis=-1)


@op(inputs=("a", "b"))
def lstsq(a, b, rcond=None):
    """x that minimises |a x - b|, of smallest norm."""
    a, b = promote(_matrix(a, "lstsq", square=False), b)
    inverse = pinv(a, rcond=rcond)
    if b.ndim == 1:
        return matmul(inverse, b)
    return _product(inverse, b)


def _lu_host(x):
    """Packed factors and pivots, by elimination with row exchanges (LAPACK's getrf layout)."""
    lu = np.array(x)
    n = min(lu.shape[-2:])
    flat = lu.reshape(-1, *lu.shape[-2:])
    pivots = np.zeros((flat.shape[0], n), "int32")
    for m, p in zip(flat, pivots, strict=True):
        for j in range(n):
            best = j + int(np.argmax(np.abs(m[j:, j])))
            p[j] = best
            if best != j:
                m[[j, best]] = m[[best, j]]
            if m[j, j] != 0:
                m[j + 1 :, j] /= m[j, j]
                m[j + 1 :, j + 1 :] -= np.outer(m[j + 1 :, j], m[j, j + 1 :])
    return flat.reshape(lu.shape), pivots.reshape(*lu.shape[:-2], n)


_lu_factor = primitive(
    "lu_factor",
    lambda x: [
        Spec(tuple(x.shape), x.dtype),
        Spec((*x.shape[:-2], min(x.shape[-2:])), "int32"),
    ],
    host=_wide(_lu_host),
    doc="L and U in one matrix, and the rows exchanged at each step.",
)


@op
def lu_factor(x):
    """(LU packed in one matrix, int32 pivots) of the decomposition with row exchanges."""
    return tuple(_lu_factor(_matrix(x, "lu_factor", square=False)))


@op
def norm(x, ord=None, axis=None, keepdims=False):
    """Norm of vectors (one axis) or matrices (two axes), as `numpy.linalg.norm` defines them.

    Args:
        ord: None (2-norm of all elements, or Frobenius), a number, inf, -inf, "fro" or "nuc".
        axis: axes to reduce; all if None.

    Example:

    >>> float(norm([3.0, 4.0]))
    5.0
    """
    x = backend.convert_to_tensor(x)
    x = x if backend.dtypes.is_float(x.dtype) else backend.cast(x, backend.floatx())
    if axis is None and ord is None:
        axis = tuple(range(x.ndim))
        return OPS["sqrt"](OPS["sum"](OPS["square"](x), axis=axis, keepdims=keepdims))
    axes = ordered_axes("norm", axis, x.ndim)
    size = OPS["absolute"](x)
    if len(axes) == 1:
        return _vector_norm(x, size, ord, axes[0], keepdims)
    if len(axes) != 2:
        raise ValueError(f"norm: expected one or two axes for ord={ord!r}, got {axes}")
    return _matrix_norm(x, size, ord, axes, keepdims)


def _vector_norm(x, size, ord, axis, keepdims):
    kw = {"axis": axis, "keepdims": keepdims}
    if ord is None or ord == 2:
        return OPS["sqrt"](OPS["sum"](OPS["square"](x), **kw))
    if ord == np.inf:
        return OPS["max"](size, **kw)
    if ord == -np.inf:
        return OPS["min"](size, **kw)
    if ord == 0:
        return OPS["sum"](backend.cast(OPS["not_equal"](x, 0), x.dtype), **kw)
    if ord == 1:
        return OPS["sum"](size, **kw)
    if isinstance(ord, str):
        raise ValueError(f"norm: expected a number as order of a vector norm, got {ord!r}")
    return OPS["power"](OPS["sum"](OPS["power"](size, ord), **kw), 1.0 / ord)


def _matrix_norm(x, size, ord, axes, keepdims):
    rows, columns = axes
    if ord is None or ord == "fro":
        return OPS["sqrt"](OPS["sum"](OPS["square"](x), axis=axes, keepdims=keepdims))
    if ord in (1, -1, np.inf, -np.inf):
        first, second = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = OPS["sum"](size, axis=first, keepdims=True)
        y = OPS["max" if ord > 0 else "min"](sums, axis=second, keepdims=True)
        return y if keepdims else shapes.squeeze(y, axes)
    if ord not in (2, -2, "nuc"):
        raise ValueError(f"norm: expected an order of matrix norms, got {ord!r}")
    s = _singular_values(shapes.moveaxis(x, axes, (-2, -1)))
    y = {"nuc": OPS["sum"], 2: OPS["max"], -2: OPS["min"]}[ord](s, axis=-1)
    if keepdims:
        for a in sorted(axes):
            y = shapes.expand_dims(y, a)
    return y


@op
def cdist(x, y):
    """Euclidean distances between the rows of two batches: (…, m, k), (…, n, k) → (…, m, n)."""
    a, b = promote(x, y)
    d = shapes.expand_dims(a, -2) - shapes.expand_dims(b, -3)
    return OPS["sqrt"](OPS["sum"](OPS["square"](d), axis=-1))
