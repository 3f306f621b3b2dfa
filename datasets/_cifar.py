"""The batches of CIFAR-10 and CIFAR-100, read from inside their archive without unpickling."""

from __future__ import annotations

import numpy as np

from hornbeam.datasets._stream import FormatError, decode

_BATCH_BYTES = 256 << 20  # the largest real batch has 155 MB
_ROW = 3 * 32 * 32


def load_batches(path, parts, label_key):
    """Reads members of a `.tar.gz` file, in place: nothing stands between its hash and the data.

    Args:
        path: the archive.
        parts: for each part of the result the list of members that it is joined from.
        label_key: key of the labels in a batch.

    Returns:
        For each part `(images, labels)`: `uint8` of shapes `(n, 32, 32, 3)` and `(n, 1)`; images
        of shape `(n, 3, 32, 32)` if that is the `image_data_format` of the session.
    """
    import tarfile
    import zlib

    wanted = [name for part in parts for name in part]
    found = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for info in archive:
                if info.name in wanted and info.name not in found:
                    found[info.name] = _read_batch(archive, info, label_key)
    except FormatError as error:
        raise FormatError(f"{path} is not the data it should be: {error}") from error.__cause__
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FormatError(f"{path} is damaged: {error}") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise FormatError(f"{path} is not the data it should be: no {', '.join(missing)}")
    return [_joined([found[name] for name in part]) for part in parts]


def _joined(batches):
    from hornbeam.backend import image_data_format  # the engine, which nothing else here needs

    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    images = images.reshape(-1, 3, 32, 32)  # stored plane by plane
    if image_data_format() == "channels_last":
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))  # makes later copies cheap
    return images, labels.reshape(-1, 1)


def _read_batch(archive, info, label_key):
    if not info.isreg() or info.issparse() or info.size > _BATCH_BYTES:
        raise FormatError(f"batch {info.name!r} of {info.size} bytes")
    batch = decode(archive.extractfile(info).read())
    if type(batch) is not dict:
        raise FormatError(f"batch {info.name!r} without names")
    images, labels = batch.get("data"), batch.get(label_key)
    if not (
        isinstance(images, np.ndarray)
        and images.dtype == np.uint8
        and images.ndim == 2
        and images.shape[1] == _ROW
    ):
        raise FormatError(f"batch {info.name!r} without images under 'data'")
    if not (
        type(labels) is list
        and len(labels) == len(images)
        and all(type(n) is int and 0 <= n < 100 for n in labels)
    ):
        raise FormatError(f"batch {info.name!r} without labels under {label_key!r}")
    return images, np.array(labels, dtype=np.uint8)
