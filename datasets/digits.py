"""Handwritten digits of 8×8 pixels (UCI), bundled with the package."""

from hornbeam.datasets import _bundled


def load_data():
    """Loads the handwritten digits: 1,797 grey images of 8×8 pixels, by 13 writers.

    Each pixel counts the dots in a 4×4 block of a 32×32 scan, so it is a whole number from 0 to
    16: divide by 16 for the range 0 … 1. The split is fixed and stratified (every class gives
    one fifth of its samples, plus or minus one, to the test set), and both parts are shuffled.

    Source: E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, doi 10.24432/C50P49,
    CC BY 4.0, in scikit-learn's copy; see `_bundled/README.md`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images `uint8` of shapes `(1438, 8, 8)` and
        `(359, 8, 8)`, labels `uint8` (0 … 9) of shapes `(1438,)` and `(359,)`.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, int(x_train.max()), y_test.shape
    ((1438, 8, 8), 16, (359,))
    """
    (x_train, y_train), (x_test, y_test) = _bundled.load("digits", "uint8", "uint8")
    return (x_train.reshape(-1, 8, 8), y_train), (x_test.reshape(-1, 8, 8), y_test)
