"""Shapes and dtypes of ops on KerasTensors are those of the same call on values."""

from support.op_case import parametrize

from hornbeam import backend
from hornbeam.backend import tree


def _placeholders(tensors, unknown):
    return tree.map_structure(
        lambda t: backend.KerasTensor(
            tuple(
                None if unknown and i == 0 and len(t.shape) > 1 else n
                for i, n in enumerate(t.shape)
            ),
            t.dtype,
        ),
        tensors,
    )


def _outputs(x):
    return [t for t in tree.flatten(x) if hasattr(t, "shape")]


@parametrize(lambda c: c.symbolic)
def test_symbolic_shape(case):
    dtype = case.dtypes[0]
    tensors = case.tensors(case.arrays(dtype), dtype)
    for attrs in case.grid():
        concrete = _outputs(case.op(*tensors, **attrs))
        known = _outputs(case.op(*_placeholders(tensors, False), **attrs))
        assert [(tuple(t.shape), t.dtype) for t in known] == [
            (tuple(t.shape), t.dtype) for t in concrete
        ]


@parametrize(lambda c: c.symbolic and c.elementwise)
def test_unknown_batch_size(case):
    dtype = case.dtypes[0]
    tensors = case.tensors(case.arrays(dtype), dtype)
    for attrs in case.grid():
        concrete = case.op(*tensors, **attrs)
        symbolic = case.op(*_placeholders(tensors, True), **attrs)
        assert isinstance(symbolic, backend.KerasTensor)
        expected = (None, *concrete.shape[1:]) if len(concrete.shape) > 1 else concrete.shape
        assert tuple(symbolic.shape) == tuple(expected) and symbolic.dtype == concrete.dtype
