"""Reuters: 11,228 news agency reports on 46 topics, as lists of word numbers, by download."""

from hornbeam.datasets import _npz, _sequences
from hornbeam.datasets._remote import GOOGLE, Source, check_test_split, shuffled

SOURCE = Source(
    GOOGLE + "reuters.npz", "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
)
# MD5 is all that is published for this file
WORDS = Source(GOOGLE + "reuters_word_index.json", "4d44cc38712099c9e383dc6e5f11a921")

_LABEL_NAMES = """
    cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves ship
    cotton carcass crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin
    strategic-metal livestock retail ipi iron-steel rubber heat jobs lei bop zinc orange pet-chem
    dlr gas silver wpi hog lead
"""


def load_data(
    path="reuters.npz",
    num_words=None,
    skip_top=0,
    maxlen=None,
    test_split=0.2,
    seed=113,
    start_char=1,
    oov_char=2,
    index_from=3,
):
    """Loads the Reuters reports, downloading their 2 MB once.

    Words are numbered by how often they occur (1: most often); 0 is free for padding.

    Source: the Reuters-21578 collection, D. Lewis (1987), in Keras's preparation.

    Args:
        path: name of the file in the cache folder.
        num_words: keep words numbered below this (after the shift by `index_from`). Default: all
            but the rarest, as Keras does.
        skip_top: leave out words numbered below this, the most frequent ones.
        maxlen: keep reports with fewer words than this, with the start mark.
        test_split: share of the test set, `0 <= test_split < 1`.
        seed: order of the reports, the same as Keras's.
        start_char: number put in front of each report, or None.
        oov_char: number in place of words that are left out; None drops them.
        index_from: added to all word numbers, to make room for the marks.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: arrays of lists of numbers, and of topics
        (0 … 45, see `get_label_names`).

    Raises:
        ValueError: for another split, or if no report is shorter than `maxlen`.
        DownloadError: if the file cannot be fetched; the message says where to put it by hand.
        FormatError: if it is not what it should be.

    Example:

    >>> (x_train, y_train), (x_test, y_test) = load_data(num_words=10000)  # doctest: +SKIP
    """
    check_test_split("reuters", test_split)
    x, y = _npz.load(SOURCE.fetch(path), ("x", "y"))
    _sequences.check(x, y, "reuters")
    order = shuffled(len(x), seed)
    x, y = _sequences.shift(x[order], start_char, index_from), y[order]
    if maxlen:
        x, y = _sequences.keep_short(x, y, maxlen, "reuters")
    x = _sequences.as_objects(_sequences.limit(x, num_words, skip_top, oov_char))
    cut = int(len(x) * (1 - test_split))
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def get_word_index(path="reuters_word_index.json"):
    """The number of each word, as a dict. The loader adds `index_from` to these numbers.

    Args:
        path: name of the file in the cache folder.

    Returns:
        Dict from words to numbers, from 1 for the most frequent word.

    Example:

    >>> words = {n + 3: word for word, n in get_word_index().items()}  # doctest: +SKIP
    """
    return _sequences.word_index(WORDS.fetch(path))


def get_label_names():
    """The 46 topics, in the order of their labels.

    Example:

    >>> get_label_names()[3]
    'earn'
    """
    return tuple(_LABEL_NAMES.split())
