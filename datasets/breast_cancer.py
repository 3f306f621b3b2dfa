"""Breast cancer, Wisconsin diagnostic data (UCI), bundled with the package."""

from hornbeam.datasets import _bundled

_MEASURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
FEATURE_NAMES = (
    tuple(f"mean {name}" for name in _MEASURES)
    + tuple(f"{name} error" for name in _MEASURES)
    + tuple(f"worst {name}" for name in _MEASURES)
)
CLASS_NAMES = ("malignant", "benign")


def load_data():
    """Loads the breast cancer data: 569 samples of cell nuclei, thirty measurements each.

    Columns are `FEATURE_NAMES` (mean, standard error and worst value of ten measures), in their
    original units, so scale them with the statistics of the training part. Classes are
    `CLASS_NAMES`: 0 malignant (212 samples), 1 benign (357). The split is fixed and stratified
    (every class gives one fifth of its samples, plus or minus one, to the test set), and both
    parts are shuffled.

    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street (1993), UCI Machine Learning
    Repository, doi 10.24432/C5DW2B, CC BY 4.0, in scikit-learn's copy; see `_bundled/README.md`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: features `float32` of shapes `(455, 30)` and
        `(114, 30)`, classes `int64` (0 or 1) of shapes `(455,)` and `(114,)`.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, y_test.shape, len(FEATURE_NAMES)
    ((455, 30), (114,), 30)
    """
    return _bundled.load("breast_cancer", "float32", "int64")
