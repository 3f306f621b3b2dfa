"""The real data that is installed with the package, and the one split that all of it uses."""

from __future__ import annotations

import os

import numpy as np

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(n):
    """A fixed, well scattered `uint64` for each of 0 … n-1 (the SplitMix64 output function).

    Integer arithmetic alone, so the values are the same on every machine and with every NumPy,
    which no stream of `numpy.random` promises.
    """
    z = (np.arange(n, dtype=np.uint64) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def split_indices(target):
    """Indices of the training and of the test samples: every fifth sample along sorted targets.

    The samples are put in order of their target, equal targets in order of `mix`, and positions
    2, 7, 12, … become the test set. So each class (and, for a regression, each part of the
    target's range) gives one fifth of its samples, plus or minus one. Both parts are returned in
    order of `mix`, not in the file's order, which is often sorted by class.

    Args:
        target: array of shape `(n,)`.

    Returns:
        Two arrays of indices, which together hold each of 0 … n-1 once.
    """
    key = mix(len(target))
    test = np.lexsort((key, target))[2::5]
    shuffled = np.argsort(key, kind="stable")
    in_test = np.isin(shuffled, test)
    return shuffled[~in_test], shuffled[in_test]


def load(name, x_dtype, y_dtype):
    """Reads `<name>.csv.gz` and splits it: `(x_train, y_train), (x_test, y_test)`."""
    import gzip  # here, as in all loaders, so that importing them imports nothing else

    with open(os.path.join(_FOLDER, f"{name}.csv.gz"), "rb") as f:
        text = gzip.decompress(f.read())
    table = np.loadtxt(text.decode("ascii").splitlines(), dtype=np.float64, delimiter=",")
    target = table[:, -1]
    train, test = split_indices(target)
    x = table[:, :-1].astype(x_dtype)
    y = target.astype(y_dtype)
    return (x[train], y[train]), (x[test], y[test])
