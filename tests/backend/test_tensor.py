"""Tensors and NumPy: memory is shared where it is safe, lifetimes hold, conversions are right."""

import copy
import gc
import pickle

import numpy as np
import pytest

from hornbeam import backend, ops
from hornbeam.backend import Variable, convert_to_tensor, from_dlpack

DTYPES = [d for d in backend.dtypes.ALL if d != "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_numpy_and_back(dtype, shape):
    a = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2, dtype)
    t = convert_to_tensor(a)
    assert (t.shape, t.dtype, t.size, t.ndim) == (shape, dtype, a.size, a.ndim)
    np.testing.assert_array_equal(t.numpy(), a)


def test_non_contiguous_and_foreign_byte_order():
    a = np.arange(24.0).reshape(4, 6)[::2, ::-2].T
    np.testing.assert_array_equal(convert_to_tensor(a), a)
    np.testing.assert_array_equal(convert_to_tensor(np.asfortranarray(a), "float32"), a)
    b = np.arange(3, dtype=">f4")
    np.testing.assert_array_equal(convert_to_tensor(b), b)


def test_a_view_is_read_only_and_keeps_the_memory_alive():
    view = np.asarray(convert_to_tensor(np.arange(1000.0)))
    gc.collect()
    np.testing.assert_array_equal(view, np.arange(1000.0))
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    own = convert_to_tensor([1.0, 2.0]).numpy()
    own[0] = 5  # a copy may be changed


def test_a_tensor_does_not_follow_its_source():
    a = np.ones(3)
    t = convert_to_tensor(a)
    a[0] = 7
    np.testing.assert_array_equal(t, [1, 1, 1])
    v = Variable(np.zeros(3, np.float32))
    old, view = v.value, np.asarray(v)
    v.assign([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(old, [0, 0, 0])
    np.testing.assert_array_equal(view, [0, 0, 0])


def test_bfloat16_rounds_to_nearest_even():
    values = np.array([1.0, 1.00390625, 1.01171875, 3.4e38, -0.0, np.inf, np.nan], np.float32)
    got = np.asarray(backend.convert_to_numpy(convert_to_tensor(values, "bfloat16")), np.float32)
    np.testing.assert_array_equal(got, [1.0, 1.0, 1.015625, np.inf, -0.0, np.inf, np.nan])


def test_dlpack_both_ways():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = from_dlpack(a)
    assert np.shares_memory(np.asarray(t), a)
    del a
    gc.collect()
    back = np.from_dlpack(t)
    np.testing.assert_array_equal(back, np.arange(6).reshape(2, 3))
    assert t.__dlpack_device__() == (1, 0)


def test_python_numbers_and_lists():
    assert convert_to_tensor(1).dtype == "int32"
    assert convert_to_tensor(2**40).dtype == "int64"
    assert convert_to_tensor(1.5).dtype == "float32"
    assert convert_to_tensor(True).dtype == "bool"
    assert convert_to_tensor([[1, 2], [3, 4]]).dtype == "int32"
    assert convert_to_tensor([1.0, convert_to_tensor(2.0)]).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="ragged"):
        convert_to_tensor([[1, 2], [3]])
    with pytest.raises(ValueError, match="numbers or booleans"):
        convert_to_tensor(np.array(["a"]))


def test_scalars_behave_like_numbers():
    t = convert_to_tensor(3)
    assert int(t) == 3 and float(t) == 3.0 and [10, 11, 12, 13][t] == 13 and f"{t:d}" == "3"
    assert bool(t == 3)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(convert_to_tensor([1, 2]))
    with pytest.raises(TypeError, match="one element"):
        float(convert_to_tensor([1, 2]))


def test_copies_and_pickles():
    t = convert_to_tensor(np.arange(3.0))
    assert copy.deepcopy(t) is t
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(t)), t)
    v = Variable([1.0], name="v")
    w = copy.deepcopy(v)
    w.assign([2.0])
    assert float(v[0]) == 1.0


def test_variable_errors_name_the_variable():
    with backend.name_scope("dense"):
        v = Variable(np.zeros((2, 3), np.float32), name="kernel")
    assert v.path == "dense/kernel"
    with pytest.raises(ValueError, match=r"dense/kernel.*\(2, 3\).*\(3, 2\)"):
        v.assign(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="expected an initial value of shape"):
        Variable(np.zeros(3), shape=(4,))


def test_a_variable_starts_from_the_name_of_an_initializer():
    import hornbeam as keras

    np.testing.assert_array_equal(keras.Variable("ones", shape=(2,)), [1, 1])
    with pytest.raises(ValueError, match="initializer: expected .* got 'onse'"):
        keras.Variable("onse", shape=(2,))
    with pytest.raises(ValueError, match="a shape is needed"):
        keras.Variable("ones")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool", "float64"])
@pytest.mark.parametrize("shape", [(), (3, 0), (5, 7), (1200, 1000)])
def test_filled_tensors(dtype, shape):
    # large ones are made twice: the memory of the first may be used again
    for number in (1, 0, 1, 0, -0.0):
        t = ops.full(shape, number, dtype=dtype)
        a = np.asarray(t, "float64")
        assert t.dtype == dtype and t.shape == shape
        np.testing.assert_array_equal(a, np.full(shape, number, "float64"))
        is_float = dtype in ("float32", "float64", "bfloat16")
        assert (np.signbit(a) == (is_float and bool(np.signbit(number)))).all()
