"""The bundled data: right numbers, fixed split, small files, licences named."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from hornbeam.datasets import _bundled

# rows, shape of a sample, dtype of x, of y, sum of all features, sum of all targets; the sums were
# computed from scikit-learn's own loaders
FACTS = {
    "digits": (1797, (8, 8), "uint8", "uint8", 561718.0, 8070),
    "iris": (150, (4,), "float32", "int64", 2078.7, 150),
    "wine": (178, (13,), "float32", "int64", 159975.295999, 167),
    "breast_cancer": (569, (30,), "float32", "int64", 1056474.4596356, 357),
    "diabetes": (442, (10,), "float32", "float32", 276404.2336, 67243),
}
# first targets of both parts: the split must not change between versions
FIRST = {
    "digits": ([4, 1, 8, 4, 6, 0, 5, 1], [3, 9, 0, 5, 2, 7, 0, 3]),
    "iris": ([1, 0, 1, 0, 2, 2, 0, 0], [0, 2, 1, 0, 1, 2, 2, 1]),
    "wine": ([0, 0, 1, 0, 2, 2, 0, 0], [0, 2, 1, 0, 2, 1, 0, 1]),
    "breast_cancer": ([0, 0, 0, 0, 1, 1, 0, 0], [1, 0, 0, 1, 0, 1, 1, 0]),
    "diabetes": ([209, 233, 222, 191, 104, 87, 90, 215], [310, 235, 47, 151, 92, 162, 220, 232]),
}
FOLDER = Path(_bundled.__file__).parent


@pytest.fixture(params=sorted(FACTS))
def name(request):
    return request.param


def load(name):
    return importlib.import_module(f"hornbeam.datasets.{name}").load_data()


def test_shapes_dtypes_and_sums(name):
    rows, sample, x_dtype, y_dtype, x_sum, y_sum = FACTS[name]
    (x_train, y_train), (x_test, y_test) = load(name)
    assert len(x_train) + len(x_test) == rows
    assert len(x_test) == len(range(2, rows, 5))
    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert x.shape[1:] == sample and x.dtype == x_dtype
        assert y.shape == (len(x),) and y.dtype == y_dtype
        assert x.flags.c_contiguous and x.flags.writeable
    total = x_train.sum(dtype="float64") + x_test.sum(dtype="float64")
    np.testing.assert_allclose(total, x_sum, rtol=1e-7)
    assert y_train.sum(dtype="float64") + y_test.sum(dtype="float64") == y_sum


def test_split_is_fixed_and_stratified(name):
    (x_train, y_train), (x_test, y_test) = load(name)
    assert (y_train[:8].tolist(), y_test[:8].tolist()) == FIRST[name]
    if name == "diabetes":
        edges = np.quantile(np.concatenate([y_train, y_test]), np.linspace(0, 1, 11)[1:-1])
        y_train, y_test = np.digitize(y_train, edges), np.digitize(y_test, edges)
    for label, count in zip(
        *np.unique(np.concatenate([y_train, y_test]), return_counts=True), strict=True
    ):
        assert abs(np.sum(y_test == label) - count / 5) < 1.5, label
    # neither part may be sorted by class: validation_split takes the last samples of an array
    tail = y_train[-len(y_train) // 4 :]
    assert set(tail.tolist()) == set(y_train.tolist())


def test_split_indices_are_a_partition():
    target = np.repeat([3.0, 1.0, 2.0], [10, 20, 7])
    train, test = _bundled.split_indices(target)
    assert sorted([*train, *test]) == list(range(37))
    assert len(test) == len(range(2, 37, 5))


def test_mix_matches_the_published_splitmix64():
    # first outputs of SplitMix64 seeded with 0
    assert [hex(v) for v in _bundled.mix(3).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_digits_are_digits():
    """A nearest-neighbour classifier reads them: the pictures and the labels belong together."""
    (x_train, y_train), (x_test, y_test) = load("digits")
    assert x_train.max() == 16 and x_train.min() == 0
    a = x_train.reshape(-1, 64).astype("float32")
    b = x_test.reshape(-1, 64).astype("float32")
    distance = (a * a).sum(1) - 2 * b @ a.T
    assert np.mean(y_train[distance.argmin(1)] == y_test) > 0.97


def test_names_fit_the_columns():
    for name in ("iris", "wine", "breast_cancer", "diabetes"):
        module = importlib.import_module(f"hornbeam.datasets.{name}")
        assert len(module.FEATURE_NAMES) == FACTS[name][1][0]
        assert len(set(module.FEATURE_NAMES)) == len(module.FEATURE_NAMES)


def test_files_are_small_and_their_licences_named():
    files = sorted(FOLDER.glob("*.csv.gz"))
    assert [f.name.split(".")[0] for f in files] == sorted(FACTS)
    assert sum(f.stat().st_size for f in files) < 400_000
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for f in files:
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{f.name}`"))
        assert "CC BY 4.0" in row or "BSD 3-Clause" in row
