"""to_categorical and normalize on NumPy arrays."""

import numpy as np
import pytest

from hornbeam.utils import normalize, to_categorical


def test_to_categorical_of_any_shape():
    for shape in ((5,), (2, 3), (4, 1), (2, 3, 1), (1,), (0,), ()):
        x = np.random.default_rng(0).integers(0, 4, shape)
        result = to_categorical(x, 4)
        labels = x[..., 0] if x.ndim > 1 and x.shape[-1] == 1 else x
        assert result.shape == (*labels.shape, 4) and result.dtype == "float64"
        np.testing.assert_array_equal(result, np.eye(4)[labels])


def test_to_categorical_counts_the_classes():
    assert to_categorical([0, 2]).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert to_categorical(np.array([1.0, 0.0])).tolist() == [[0, 1], [1, 0]]
    assert to_categorical(np.array([True, False])).tolist() == [[0, 1], [1, 0]]
    assert to_categorical(np.array([255], dtype="uint8")).shape == (1, 256)


@pytest.mark.parametrize("x", [[3], [-1], [0.5], ["a"], [np.nan]])
def test_to_categorical_refuses_what_is_no_class(x):
    with pytest.raises(ValueError, match="to_categorical"):
        to_categorical(np.array(x), 3)
    with pytest.raises(ValueError, match="give num_classes"):
        to_categorical([])


@pytest.mark.parametrize("order", [1, 2, 3, np.inf])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_normalize(order, axis):
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    x[1] = 0
    x[:, 2] = 0
    result = normalize(x, axis=axis, order=order)
    norm = np.linalg.norm(result, ord=order, axis=axis)
    zero = ~np.any(x, axis=axis)
    np.testing.assert_allclose(norm[~zero], 1.0, rtol=1e-12)
    assert np.all(norm[zero] == 0)
    scale = np.linalg.norm(x, ord=order, axis=axis, keepdims=True)
    np.testing.assert_allclose(result * scale, x, rtol=1e-12)


def test_normalize_keeps_the_float_type_and_the_input():
    x = np.array([[3, 4]], dtype="float32")
    assert normalize(x).dtype == "float32"
    assert normalize(np.array([3, 4])).tolist() == [0.6, 0.8]
    assert x.tolist() == [[3, 4]]
