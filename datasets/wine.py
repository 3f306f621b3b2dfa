"""Chemical analysis of wines (UCI), bundled with the package."""

from hornbeam.datasets import _bundled

FEATURE_NAMES = (
    "alcohol",
    "malic acid",
    "ash",
    "alcalinity of ash",
    "magnesium",
    "total phenols",
    "flavanoids",
    "nonflavanoid phenols",
    "proanthocyanins",
    "color intensity",
    "hue",
    "OD280/OD315 of diluted wines",
    "proline",
)


def load_data():
    """Loads the wines: 178 wines from three growers in one region, thirteen measurements each.

    Columns are `FEATURE_NAMES`, in their original units (proline goes into the thousands, hue is
    about one), so scale them with the statistics of the training part. The split is fixed and
    stratified (every grower gives one fifth of the samples, plus or minus one, to the test set),
    and both parts are shuffled.

    Source: S. Aeberhard, M. Forina (1991), UCI Machine Learning Repository, doi 10.24432/C5PC7J,
    CC BY 4.0, in scikit-learn's copy; see `_bundled/README.md`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: features `float32` of shapes `(142, 13)` and
        `(36, 13)`, classes `int64` (0 … 2) of shapes `(142,)` and `(36,)`.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, y_test.shape
    ((142, 13), (36,))
    """
    return _bundled.load("wine", "float32", "int64")
