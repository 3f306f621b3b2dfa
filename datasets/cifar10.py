"""CIFAR-10: 60,000 colour photographs of 32×32 pixels in ten classes, by download."""

from hornbeam.datasets import _cifar
from hornbeam.datasets._remote import Source

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
SOURCE = Source(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)


def load_data():
    """Loads CIFAR-10, downloading its 170 MB once. Classes: `CLASS_NAMES`.

    Source: A. Krizhevsky (2009), https://www.cs.toronto.edu/~kriz/cifar.html.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images `uint8` (0 … 255) of shapes
        `(50000, 32, 32, 3)` and `(10000, 32, 32, 3)`, labels `uint8` (0 … 9) of shapes
        `(50000, 1)` and `(10000, 1)`. With `set_image_data_format("channels_first")`
        the images have the shape `(n, 3, 32, 32)`.

    Raises:
        DownloadError: if the file cannot be fetched; the message says where to put it by hand.
        FormatError: if it is not what it should be.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data()  # doctest: +SKIP
    """
    folder = "cifar-10-batches-py"
    train = [f"{folder}/data_batch_{number}" for number in range(1, 6)]
    test = [f"{folder}/test_batch"]
    return tuple(_cifar.load_batches(SOURCE.fetch(), [train, test], "labels"))
