"""pad_sequences against a plain restatement, and its error messages."""

import itertools

import numpy as np
import pytest

from hornbeam.utils import pad_sequences


def restated(sequence, maxlen, padding, truncating, value):
    kept = list(sequence)
    while len(kept) > maxlen:
        kept.pop(0 if truncating == "pre" else -1)
    while len(kept) < maxlen:
        kept.insert(0 if padding == "pre" else len(kept), value)
    return kept


@pytest.mark.parametrize(
    "padding, truncating, maxlen",
    list(itertools.product(("pre", "post"), ("pre", "post"), (None, 0, 1, 3, 9))),
)
def test_all_sides(padding, truncating, maxlen):
    sequences = [[1], [], [2, 3], (4, 5, 6), np.arange(7, 14)]
    result = pad_sequences(sequences, maxlen, padding=padding, truncating=truncating, value=-1)
    length = 7 if maxlen is None else maxlen
    assert result.dtype == "int32" and result.shape == (5, length)
    expected = [restated(s, length, padding, truncating, -1) for s in sequences]
    assert result.tolist() == expected


def test_vectors_and_types():
    result = pad_sequences([[[1.5, 2.5]], [[3, 4], [5, 6]]], dtype="float32", value=-1.0)
    assert result.dtype == "float32"
    assert result.tolist() == [[[-1, -1], [1.5, 2.5]], [[3, 4], [5, 6]]]
    assert pad_sequences([], maxlen=3).shape == (0, 3)
    assert pad_sequences([["a"], ["b", "c"]], dtype=object, value="pad").tolist() == [
        ["pad", "a"],
        ["b", "c"],
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(sequences=3), "expected a list of sequences, got int"),
        (dict(sequences=[[1], 2]), "2 at position 1"),
        (dict(sequences=iter([[1]])), "expected a list"),
        (dict(sequences=[[1]], padding="left"), "padding must be"),
        (dict(sequences=[[1]], truncating="left"), "truncating must be"),
        (dict(sequences=[[[1, 2]], [[1, 2, 3]]]), "position 1"),
        (dict(sequences=[[1]], value="pad"), "dtype=object"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        pad_sequences(**arguments)
