"""Progression of diabetes within a year (a regression), bundled with the package."""

from hornbeam.datasets import _bundled

FEATURE_NAMES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


def load_data():
    """Loads the diabetes data: 442 patients, ten baseline values, progression after one year.

    Columns are `FEATURE_NAMES`: age in years, sex (1 or 2), body mass index, mean blood pressure
    and six blood serum values, in their original units, so scale them with the statistics of the
    training part. The target is a whole number from 25 to 346. The split is fixed and stratified
    (every fifth sample along the sorted targets is in the test set), and both parts are shuffled.

    Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani (2004), *Least Angle Regression*, in
    scikit-learn's copy; see `_bundled/README.md`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: features `float32` of shapes `(354, 10)` and
        `(88, 10)`, targets `float32` of shapes `(354,)` and `(88,)`.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, y_test.shape, float(y_train.min())
    ((354, 10), (88,), 25.0)
    """
    return _bundled.load("diabetes", "float32", "float32")
