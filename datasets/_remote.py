"""Where Keras's data sets come from, and what all their loaders share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hornbeam.utils.file_utils import get_file

GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


class Source(NamedTuple):
    """One file on the web: its address and its hash (SHA-256, or MD5 where Keras has only that)."""

    url: str
    file_hash: str

    def fetch(self, name=None, cache_subdir="datasets"):
        """The path of the checked file in the cache, downloaded if need be."""
        name = self.url.rpartition("/")[2] if name is None else name
        return get_file(name, self.url, file_hash=self.file_hash, cache_subdir=cache_subdir)


def check_test_split(name, test_split):
    if not 0 <= test_split < 1:
        raise ValueError(f"{name}: test_split must be in [0, 1), got {test_split!r}")


def shuffled(count, seed):
    """Keras's order for a seed. The stream of `RandomState` is frozen, so it stays the same."""
    indices = np.arange(count)
    np.random.RandomState(seed).shuffle(indices)
    return indices


def split_housing(x, y, test_split, seed):
    """Shuffles two arrays alike and cuts off the last `test_split` of them."""
    indices = shuffled(len(x), seed)
    x, y = x[indices], y[indices]
    cut = int(len(x) * (1 - test_split))
    return (x[:cut].copy(), y[:cut].copy()), (x[cut:].copy(), y[cut:].copy())
