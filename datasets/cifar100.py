"""CIFAR-100: 60,000 colour photographs of 32×32 pixels in a hundred classes, by download."""

from hornbeam.datasets import _cifar
from hornbeam.datasets._remote import Source

SOURCE = Source(
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
)


def load_data(label_mode="fine"):
    """Loads CIFAR-100, downloading its 169 MB once.

    Source: A. Krizhevsky (2009), https://www.cs.toronto.edu/~kriz/cifar.html.

    Args:
        label_mode: `"fine"` for the hundred classes, `"coarse"` for the twenty groups of them.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images `uint8` (0 … 255) of shapes
        `(50000, 32, 32, 3)` and `(10000, 32, 32, 3)`, labels `uint8` (0 … 99 or 0 … 19) of
        shapes `(50000, 1)` and `(10000, 1)`. With `set_image_data_format("channels_first")`
        the images have the shape `(n, 3, 32, 32)`.

    Raises:
        ValueError: for another `label_mode`.
        DownloadError: if the file cannot be fetched; the message says where to put it by hand.
        FormatError: if it is not what it should be.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data()  # doctest: +SKIP
    """
    if label_mode not in ("fine", "coarse"):
        raise ValueError(f"cifar100: label_mode must be 'fine' or 'coarse', got {label_mode!r}")
    parts = [["cifar-100-python/train"], ["cifar-100-python/test"]]
    return tuple(_cifar.load_batches(SOURCE.fetch(), parts, f"{label_mode}_labels"))
