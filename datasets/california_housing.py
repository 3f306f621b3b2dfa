"""California housing: prices of 20,640 districts in 1990 (a regression), by download."""

from hornbeam.datasets import _npz
from hornbeam.datasets._remote import GOOGLE, Source, check_test_split, split_housing

FEATURE_NAMES = (
    "MedInc",
    "HouseAge",
    "AveRooms",
    "AveBedrms",
    "Population",
    "AveOccup",
    "Latitude",
    "Longitude",
)
SOURCE = Source(
    GOOGLE + "california_housing.npz",
    "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f",
)


def load_data(version="large", path="california_housing.npz", test_split=0.2, seed=113):
    """Loads the California housing data, downloading its 0.7 MB once.

    One row per census block group of 1990 with eight features (`FEATURE_NAMES`); the target is
    the median value of a house in dollars.

    Source: R. K. Pace, R. Barry (1997), StatLib.

    Args:
        version: `"large"` (20,640 samples) or `"small"` (the first 600).
        path: name of the file in the cache folder.
        test_split: share of the test set, `0 <= test_split < 1`.
        seed: order of the samples, the same as Keras's.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: features of shape `(n, 8)`, targets `(n,)`.

    Raises:
        ValueError: for another version or split.
        DownloadError: if the file cannot be fetched; the message says where to put it by hand.
        FormatError: if it is not what it should be.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data("small")  # doctest: +SKIP
    """
    check_test_split("california_housing", test_split)
    if version not in ("small", "large"):
        raise ValueError(f"california_housing: version must be 'small' or 'large', got {version!r}")
    x, y = _npz.load(SOURCE.fetch(path), ("x", "y"))
    if version == "small":
        x, y = x[:600], y[:600]
    return split_housing(x, y, test_split, seed)
