"""One OpCase says how an op is called and what it should give; all tests of ops are drawn from it.

A table of cases is a file in `tests/ops/cases` with a list `CASES`. The tests: values against NumPy
in every dtype, eager, compiled and at every instruction-set level (test_forward, test_isa);
gradients against finite differences (test_gradient); symbolic shapes (test_shape); broadcasting,
empty, rank-0 and strided inputs (test_layouts); error messages (test_errors).
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import pathlib
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hornbeam import backend, ops

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTS = ("int32", "int64", "int8", "uint8", "uint32", "uint64", "int16", "uint16")
TOLERANCE = {"float64": 1e-12, "float32": 3e-6, "float16": 2e-3, "bfloat16": 1.6e-2}


# ---------------------------------------------------------------------- inputs


@dataclass(frozen=True)
class Maker:
    """Makes an array of a shape: in the dtype of the test, or in `dtype` if that is given."""

    shape: tuple[int, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    dtype: str | None = None

    def make(self, rng, dtype) -> np.ndarray:
        """Array of values; for bfloat16, float32 values (see `to_tensor`)."""
        x = np.asarray(self.draw(rng, self.shape))
        dtype = self.dtype or dtype
        if dtype == "bool":
            return np.asarray(x > np.median(x) if x.dtype.kind == "f" and x.size else x != 0)
        if np.dtype(_carrier(dtype)).kind in "iu" and x.dtype.kind == "f":
            x = np.rint(x * 3)
            x = np.abs(x) if dtype.startswith("u") else x
        return np.asarray(x.astype(_carrier(dtype)))

    def of_shape(self, shape) -> Maker:
        return replace(self, shape=tuple(shape))


def normal(*shape, scale=1.0, loc=0.0) -> Maker:
    """Normal numbers; in an integer dtype, small integers."""
    return Maker(shape, lambda rng, s: rng.normal(loc, scale, s))


def uniform(*shape, low=0.0, high=1.0) -> Maker:
    return Maker(shape, lambda rng, s: rng.uniform(low, high, s))


def integers(*shape, low=0, high=10, dtype="int32") -> Maker:
    return Maker(shape, lambda rng, s: rng.integers(low, high, s), dtype)


def booleans(*shape) -> Maker:
    return Maker(shape, lambda rng, s: rng.integers(0, 2, s), "bool")


def values(array, dtype=None) -> Maker:
    """These very values."""
    array = np.asarray(array)
    return Maker(array.shape, lambda rng, s: np.resize(array, s), dtype)


def distinct(*shape) -> Maker:
    """Numbers that are far from each other and from 0: no ties, no kinks nearby."""

    def draw(rng, s):
        n = int(np.prod(s))
        return (rng.permutation(n) - n / 2 + 0.3137).reshape(s) / max(n, 1) * 4

    return Maker(shape, draw)


# ---------------------------------------------------------------------- the case


@dataclass(frozen=True)
class OpCase:
    """How an op is called, and what NumPy says about the result.

    Attributes:
        name: name in `hornbeam.ops` (dots allowed: "image.resize").
        inputs: makers of the tensor arguments, in order. A list of makers is passed as a list.
        attrs: values to try for each keyword argument: `dict(axis=[0, 1])`.
        reference: `reference(*arrays, **attrs)` on float64 (floats) or the very integers; the
            function of the same name in NumPy if None.
        dtypes: dtypes of the makers that have none of their own; none for a case of errors alone.
        result: dtype of the result: "same" as the inputs, "float" (integers become float32), a
            dtype name, or a function of the dtype.
        tolerance: factor on `TOLERANCE`.
        differentiable: check gradients of all float inputs, or of the positions that are listed.
        second: check second derivatives too.
        elementwise: operands broadcast; also tried with other shapes.
        symbolic: the op takes KerasTensors.
        errors: `(args, kwargs, exception, regular expression)`.
        label: tells cases of one op apart.
    """

    name: str
    inputs: list
    attrs: dict[str, list] = field(default_factory=dict)
    reference: Callable | None = None
    dtypes: tuple[str, ...] = ("float32", "float64")
    result: Any = "same"
    tolerance: float = 1.0
    differentiable: Any = True
    second: bool = True
    elementwise: bool = False
    symbolic: bool = True
    errors: tuple = ()
    label: str = ""

    @property
    def id(self) -> str:
        return self.name + (f"[{self.label}]" if self.label else "")

    @property
    def op(self):
        return functools.reduce(getattr, self.name.split("."), ops)

    def grid(self):
        """Every combination of attributes."""
        names = list(self.attrs)
        for combination in itertools.product(*self.attrs.values()):
            yield dict(zip(names, combination, strict=True))

    def arrays(self, dtype, makers=None):
        """Inputs, the same at every call; nested as the makers are."""
        rng = np.random.default_rng(zlib.crc32(self.id.encode()))
        return _map(lambda m: m.make(rng, dtype), self.inputs if makers is None else makers)

    def tensors(self, arrays, dtype, makers=None):
        makers = self.inputs if makers is None else makers
        return _map(lambda m, a: to_tensor(a, m.dtype or dtype), makers, arrays)

    def result_dtype(self, dtype) -> str:
        if self.result == "same":
            return dtype
        if self.result == "float":
            return backend.result_type(dtype, float)
        return self.result if isinstance(self.result, str) else self.result(dtype)

    def expected(self, tensors, attrs):
        """What the reference says about these very values (rounded to their dtype already)."""
        reference = self.reference or getattr(np, self.name)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, about slices of NaN only
            return reference(*_map(to_reference, tensors), **attrs)

    def check(self, got, expected, dtype):
        """Values, shape and dtype of one result or of a tuple of results."""
        if isinstance(expected, (tuple, list)):
            assert len(got) == len(expected)
            for g, e in zip(got, expected, strict=True):
                check_values(g, e, self.tolerance, self.id)
            return
        assert got.dtype == self.result_dtype(dtype), (self.id, got.dtype)
        check_values(got, expected, self.tolerance, self.id)


def check_values(got, expected, tolerance=1.0, what=""):
    expected = np.asarray(expected)
    assert tuple(got.shape) == expected.shape, (what, got.shape, expected.shape)
    if got.dtype not in TOLERANCE:
        np.testing.assert_array_equal(np.asarray(got), expected.astype(got.dtype), what)
        return
    if got.dtype == "float16":
        with np.errstate(over="ignore"):
            expected = expected.astype("float16")
    tol = TOLERANCE[got.dtype] * tolerance
    np.testing.assert_allclose(
        to_reference(got), expected.astype("float64"), rtol=tol, atol=tol, err_msg=what
    )


def _carrier(dtype) -> str:
    return "float32" if dtype == "bfloat16" else dtype


def to_tensor(array, dtype):
    return backend.convert_to_tensor(array, dtype)


def to_reference(tensor) -> np.ndarray:
    """Values for the reference: floats in float64, others as they are."""
    if isinstance(tensor, (list, tuple)):
        return [to_reference(t) for t in tensor]
    if backend.dtypes.is_float(tensor.dtype):
        return np.array(ops.cast(tensor, "float64"))
    return np.array(tensor)


def _map(f, first, *rest):
    if isinstance(first, (list, tuple)):
        return [_map(f, *items) for items in zip(first, *rest, strict=True)]
    return f(first, *rest)


@functools.lru_cache(maxsize=1)
def all_cases() -> tuple[OpCase, ...]:
    """The cases of every file in tests/ops/cases."""
    folder = pathlib.Path(__file__).parents[1] / "ops" / "cases"
    found: list[OpCase] = []
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"op_cases_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found += module.CASES
    ids = [c.id for c in found]
    twice = {i for i in ids if ids.count(i) > 1}
    assert not twice, f"cases need labels: {sorted(twice)}"
    return tuple(found)


def parametrize(select=lambda case: True):
    """Decorator: one test for each selected case."""
    import pytest

    cases = [c for c in all_cases() if select(c)]
    return pytest.mark.parametrize("case", cases, ids=[c.id for c in cases])
