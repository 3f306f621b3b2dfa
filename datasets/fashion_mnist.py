"""Fashion-MNIST: 70,000 articles of clothing in 28×28 pixels, by download."""

import os

import numpy as np

from hornbeam.datasets._remote import GOOGLE, Source
from hornbeam.datasets._stream import FormatError

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
TRAIN_LABELS = Source(
    GOOGLE + "train-labels-idx1-ubyte.gz",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
)
TRAIN_IMAGES = Source(
    GOOGLE + "train-images-idx3-ubyte.gz",
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
)
TEST_LABELS = Source(
    GOOGLE + "t10k-labels-idx1-ubyte.gz",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
TEST_IMAGES = Source(
    GOOGLE + "t10k-images-idx3-ubyte.gz",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
)


def load_data():
    """Loads Fashion-MNIST, downloading its four files (31 MB) once. Classes: `CLASS_NAMES`.

    Source: Zalando SE, https://github.com/zalandoresearch/fashion-mnist; MIT licence.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images `uint8` (0 … 255) of shapes
        `(60000, 28, 28)` and `(10000, 28, 28)`, labels `uint8` (0 … 9).

    Raises:
        DownloadError: if a file cannot be fetched; the message says where to put it by hand.
        FormatError: if it is not what it should be.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data()  # doctest: +SKIP
    """
    folder = os.path.join("datasets", "fashion-mnist")
    y_train, x_train, y_test, x_test = (
        _read_idx(source.fetch(cache_subdir=folder), dimensions)
        for source, dimensions in (
            (TRAIN_LABELS, 1),
            (TRAIN_IMAGES, 3),
            (TEST_LABELS, 1),
            (TEST_IMAGES, 3),
        )
    )
    for x, y in ((x_train, y_train), (x_test, y_test)):
        if len(x) != len(y):
            raise FormatError(f"fashion_mnist: {len(x)} images and {len(y)} labels")
    return (x_train, y_train), (x_test, y_test)


def _read_idx(path, dimensions):
    """An array of bytes in the IDX format: magic number, sizes, contents; gzip around it."""
    import gzip
    import zlib

    try:
        with gzip.open(path, "rb") as f:
            header = f.read(4 + 4 * dimensions)
            if len(header) != 4 + 4 * dimensions or header[:4] != bytes([0, 0, 8, dimensions]):
                raise FormatError(f"{path} is not an IDX file of bytes in {dimensions} dimensions")
            shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
            count = 1
            for n in shape:
                count *= n
            data = f.read(min(count, 1 << 30) + 1)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FormatError(f"{path} is damaged: {error}") from error
    if len(data) != count:
        raise FormatError(f"{path} has not the {count} bytes that its shape {shape} asks for")
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)
