"""Fisher's iris flowers, bundled with the package."""

from hornbeam.datasets import _bundled

FEATURE_NAMES = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
CLASS_NAMES = ("setosa", "versicolor", "virginica")


def load_data():
    """Loads the iris flowers: 150 flowers of three species, four lengths in centimetres each.

    Columns are `FEATURE_NAMES`, classes `CLASS_NAMES`. The split is fixed and stratified (ten of
    the fifty flowers of each species are in the test set), and both parts are shuffled.

    Source: R. A. Fisher (1936), UCI Machine Learning Repository, doi 10.24432/C56C76, CC BY 4.0,
    in scikit-learn's copy, which follows Fisher's paper; see `_bundled/README.md`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: features `float32` of shapes `(120, 4)` and
        `(30, 4)`, classes `int64` (0 … 2) of shapes `(120,)` and `(30,)`.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, y_test.shape, CLASS_NAMES[y_test[0]] in CLASS_NAMES
    ((120, 4), (30,), True)
    """
    return _bundled.load("iris", "float32", "int64")
