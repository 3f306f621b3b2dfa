"""Boston housing: prices in 506 districts in the 1970s (a regression), by download."""

from hornbeam.datasets import _npz
from hornbeam.datasets._remote import GOOGLE, Source, check_test_split, split_housing

SOURCE = Source(
    GOOGLE + "boston_housing.npz",
    "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
)


def load_data(path="boston_housing.npz", test_split=0.2, seed=113):
    """Loads the Boston housing data, downloading its 57 kB once.

    One of the thirteen features ("B") was built on the assumption that segregation raises the
    value of houses. Prefer `california_housing`, unless that is what you want to show.

    Source: D. Harrison, D. Rubinfeld (1978), StatLib.

    Args:
        path: name of the file in the cache folder.
        test_split: share of the test set, `0 <= test_split < 1`.
        seed: order of the samples, the same as Keras's.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: features of shape `(n, 13)`, targets `(n,)` in
        thousands of dollars.

    Raises:
        ValueError: for another split.
        DownloadError: if the file cannot be fetched; the message says where to put it by hand.
        FormatError: if it is not what it should be.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data()  # doctest: +SKIP
    """
    check_test_split("boston_housing", test_split)
    x, y = _npz.load(SOURCE.fetch(path), ("x", "y"))
    return split_housing(x, y, test_split, seed)
