"""Lists of word numbers, as IMDB and Reuters have them: checks and Keras's vocabulary rules."""

from __future__ import annotations

import numpy as np

from hornbeam.datasets._stream import FormatError

_MAX_WORDS = 100_000_000  # in one file; IMDB has 12 million


def check(sequences, labels, name):
    """Refuses anything but `n` lists of small whole numbers with `n` integer labels."""
    if sequences.ndim != 1 or labels.shape != sequences.shape or labels.dtype.kind not in "iu":
        raise FormatError(f"{name}: {sequences.shape} sequences with {labels.shape} labels")
    total = 0
    for sequence in sequences:
        if type(sequence) is not list:
            raise FormatError(f"{name}: a sequence that is a {type(sequence).__name__}")
        # before looking into it: one list that occurs a million times is small in the file
        total += len(sequence)
        if total > _MAX_WORDS:
            raise FormatError(f"{name}: more than {_MAX_WORDS} words")
        if set(map(type, sequence)) - {int} or (
            sequence and not (0 <= min(sequence) and max(sequence) < 1 << 31)
        ):
            raise FormatError(f"{name}: a word that is no small whole number")


def shift(sequences, start_char, index_from):
    """Moves all words up by `index_from` and puts `start_char`, if any, in front."""
    index_from = index_from or 0
    if start_char is None:
        return [[word + index_from for word in sequence] for sequence in sequences]
    return [[start_char, *(word + index_from for word in sequence)] for sequence in sequences]


def keep_short(sequences, labels, maxlen, name):
    """The sequences shorter than `maxlen`, with their labels."""
    kept = [i for i, sequence in enumerate(sequences) if len(sequence) < maxlen]
    if not kept:
        raise ValueError(
            f"{name}: no sequence is shorter than maxlen; expected a larger one, got {maxlen}"
        )
    return [sequences[i] for i in kept], labels[kept]


def limit(sequences, num_words, skip_top, oov_char):
    """Replaces words outside `[skip_top, num_words)` by `oov_char`, or drops them if that is None.

    Without `num_words` the largest number that occurs is the limit, and so is itself outside:
    this is how Keras counts.
    """
    if not num_words:
        num_words = max(max(sequence, default=0) for sequence in sequences)
    if oov_char is None:
        return [[w for w in sequence if skip_top <= w < num_words] for sequence in sequences]
    return [
        [w if skip_top <= w < num_words else oov_char for w in sequence] for sequence in sequences
    ]


def as_objects(sequences):
    """A one-dimensional array of lists, also where all lists have one length."""
    return np.fromiter(sequences, dtype=object, count=len(sequences))


def word_index(path):
    """Reads a JSON file that maps words to their numbers."""
    import json

    try:
        with open(path, encoding="utf-8") as f:
            words = json.load(f)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is damaged: {error}") from error
    if type(words) is not dict or set(map(type, words.values())) - {int}:
        raise FormatError(f"{path} does not map words to whole numbers")
    return words
