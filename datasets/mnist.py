"""MNIST: 70,000 handwritten digits of 28×28 pixels, by download."""

from hornbeam.datasets import _npz
from hornbeam.datasets._remote import GOOGLE, Source

SOURCE = Source(
    GOOGLE + "mnist.npz", "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
)


def load_data(path="mnist.npz"):
    """Loads MNIST, downloading its 11 MB once.

    Source: Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist/; CC BY-SA 3.0.

    Args:
        path: name of the file in the cache folder.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images `uint8` (0 … 255) of shapes
        `(60000, 28, 28)` and `(10000, 28, 28)`, labels `uint8` (0 … 9).

    Raises:
        DownloadError: if the file cannot be fetched; the message says where to put it by hand.
        FormatError: if it is not what it should be.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data()  # doctest: +SKIP
    """
    arrays = _npz.load(SOURCE.fetch(path), ("x_train", "y_train", "x_test", "y_test"))
    x_train, y_train, x_test, y_test = arrays
    return (x_train, y_train), (x_test, y_test)
