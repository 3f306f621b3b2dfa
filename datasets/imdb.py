"""IMDB: 50,000 film reviews, good or bad, as lists of word numbers, by download."""

import numpy as np

from hornbeam.datasets import _npz, _sequences
from hornbeam.datasets._remote import GOOGLE, Source

SOURCE = Source(
    GOOGLE + "imdb.npz", "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
)
# MD5 is all that is published for this file
WORDS = Source(GOOGLE + "imdb_word_index.json", "bfafd718b763782e994055a2d397834f")


def load_data(
    path="imdb.npz",
    num_words=None,
    skip_top=0,
    maxlen=None,
    seed=113,
    start_char=1,
    oov_char=2,
    index_from=3,
    **kwargs,
):
    """Loads the IMDB reviews, downloading their 17 MB once.

    Words are numbered by how often they occur (1: most often); 0 is free for padding.

    Source: A. Maas and others (2011), https://ai.stanford.edu/~amaas/data/sentiment/.

    Args:
        path: name of the file in the cache folder.
        num_words: keep words numbered below this (after the shift by `index_from`). Default: all
            but the rarest, as Keras does.
        skip_top: leave out words numbered below this, the most frequent ones.
        maxlen: keep reviews with fewer words than this, with the start mark.
        seed: order of the reviews, the same as Keras's.
        start_char: number put in front of each review, or None.
        oov_char: number in place of words that are left out; None drops them.
        index_from: added to all word numbers, to make room for the marks.
        **kwargs: `nb_words`, the old name of `num_words`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: arrays of 25,000 lists of numbers, and labels
        (1 good, 0 bad) of shape `(25000,)`.

    Raises:
        ValueError: if no review is shorter than `maxlen`.
        DownloadError: if the file cannot be fetched; the message says where to put it by hand.
        FormatError: if it is not what it should be.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data(num_words=10000)  # doctest: +SKIP
    """
    if "nb_words" in kwargs:
        num_words = kwargs.pop("nb_words")
    if kwargs:
        raise TypeError(f"imdb: unknown arguments {', '.join(kwargs)}")
    arrays = _npz.load(SOURCE.fetch(path), ("x_train", "y_train", "x_test", "y_test"))
    rng = np.random.RandomState(seed)
    parts = []
    for x, y in (arrays[:2], arrays[2:]):
        _sequences.check(x, y, "imdb")
        order = np.arange(len(x))
        rng.shuffle(order)  # one stream for both parts, as in Keras
        x, y = _sequences.shift(x[order], start_char, index_from), y[order]
        if maxlen:
            x, y = _sequences.keep_short(x, y, maxlen, "imdb")
        parts.append((x, y))
    (x_train, y_train), (x_test, y_test) = parts
    xs = _sequences.limit(x_train + x_test, num_words, skip_top, oov_char)
    xs, cut = _sequences.as_objects(xs), len(x_train)
    return (xs[:cut], y_train), (xs[cut:], y_test)


def get_word_index(path="imdb_word_index.json"):
    """The number of each word, as a dict. The loader adds `index_from` to these numbers.

    Args:
        path: name of the file in the cache folder.

    Returns:
        Dict from words to numbers, from 1 for the most frequent word.

    Example:

    >>> words = {n + 3: word for word, n in get_word_index().items()}  # doctest: +SKIP
    """
    return _sequences.word_index(WORDS.fetch(path))
