"""Helpers for lists of sequences of different lengths."""

from __future__ import annotations

import numpy as np


def pad_sequences(
    sequences, maxlen=None, dtype="int32", padding="pre", truncating="pre", value=0.0
):
    """Puts sequences of different lengths into one array, cut or filled up to one length.

    Args:
        sequences: list of sequences; their elements may be arrays of one common shape.
        maxlen: length of all rows. Default: the longest sequence.
        dtype: type of the result, as NumPy names it; `object` or `str` for text.
        padding: `"pre"` or `"post"`: on which side to fill up.
        truncating: `"pre"` or `"post"`: on which side to cut.
        value: what to fill up with.

    Returns:
        Array of shape `(len(sequences), maxlen, ...)`.

    Raises:
        ValueError: for sequences that have no length, or elements of different shapes.

    Example:

    >>> pad_sequences([[1], [2, 3], [4, 5, 6]], maxlen=2)
    array([[0, 1],
           [2, 3],
           [5, 6]], dtype=int32)
    """
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in ("pre", "post"):
            raise ValueError(f"pad_sequences: {name} must be 'pre' or 'post', got {side!r}")
    if not hasattr(sequences, "__len__"):
        raise ValueError(
            f"pad_sequences: expected a list of sequences, got {type(sequences).__name__}"
        )
    for index, sequence in enumerate(sequences):
        if not hasattr(sequence, "__len__"):
            raise ValueError(
                "pad_sequences: expected a list of sequences, got an element without a length: "
                f"{sequence!r} at position {index}"
            )
    if maxlen is None:
        maxlen = max(map(len, sequences), default=0)
    sample_shape = next((np.shape(s)[1:] for s in sequences if len(s)), ())
    text = isinstance(value, str)
    kind = np.dtype(dtype)
    if text and kind.kind not in "OU":
        raise ValueError(
            f"pad_sequences: cannot fill dtype {kind} with the text {value!r}; use dtype=object"
        )
    result = np.full((len(sequences), maxlen, *sample_shape), value, dtype=dtype)
    for index, sequence in enumerate(sequences):
        if not len(sequence) or not maxlen:
            continue
        kept = sequence[-maxlen:] if truncating == "pre" else sequence[:maxlen]
        kept = np.asarray(kept, dtype=dtype)
        if kept.shape[1:] != sample_shape:
            raise ValueError(
                f"pad_sequences: all elements must have one shape; expected {sample_shape}, got "
                f"{kept.shape[1:]} in the sequence at position {index}"
            )
        if padding == "post":
            result[index, : len(kept)] = kept
        else:
            result[index, -len(kept) :] = kept
    return result
