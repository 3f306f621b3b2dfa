import pytest

from hornbeam.backend import dtypes


@pytest.mark.parametrize(
    "operands, expected",
    [
        (("int8", "uint8"), "int16"),
        (("int32", "float16"), "float16"),
        (("float16", "bfloat16"), "float32"),
        (("int64", "float32"), "float32"),
        (("bool", "bool"), "bool"),
        (("uint32", "int8"), "int64"),
        (("int8", int), "int8"),
        (("int32", float), "float32"),
        (("bfloat16", float), "bfloat16"),
        (("bool", int), "int32"),
        ((int, float), "float32"),
    ],
)
def test_result_type(operands, expected):
    assert dtypes.result_type(*operands) == expected
    assert dtypes.result_type(*reversed(operands)) == expected


def test_names_are_standardized():
    import numpy as np

    assert dtypes.standardize_dtype(np.float64) == "float64"
    assert dtypes.standardize_dtype(np.dtype("uint8")) == "uint8"
    assert dtypes.standardize_dtype(bool) == "bool"
    with pytest.raises(ValueError, match="expected one of"):
        dtypes.standardize_dtype("complex64")
