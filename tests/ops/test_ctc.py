"""CTC against the sum over all alignments."""

import itertools

import numpy as np
import pytest
from support.gradcheck import gradcheck

from hornbeam import backend, ops

RNG = np.random.default_rng(0)
TARGET = np.array([[1, 2, 2], [2, 1, 0], [1, 1, 1], [1, 2, 1]])
LABELS = np.array([2, 1, 2, 0])
FRAMES = np.array([5, 4, 5, 3])
LOGITS = RNG.standard_normal((4, 5, 3))


def spelt(path, blank=0):
    return [k for k, _ in itertools.groupby(path) if k != blank]


def cost(target, logits, frames):
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total = -np.inf
    for path in itertools.product(range(logits.shape[-1]), repeat=frames):
        if spelt(path) == list(target):
            total = np.logaddexp(total, sum(log_p[t, c] for t, c in enumerate(path)))
    return -total


def test_loss():
    expected = [
        cost(t[:n], x, f) for t, n, x, f in zip(TARGET, LABELS, LOGITS, FRAMES, strict=True)
    ]
    np.testing.assert_allclose(ops.ctc_loss(TARGET, LOGITS, LABELS, FRAMES), expected, rtol=1e-9)
    compiled = backend.function(ops.ctc_loss)
    np.testing.assert_allclose(compiled(TARGET, LOGITS, LABELS, FRAMES), expected, rtol=1e-9)


def test_gradient():
    gradcheck(lambda x: ops.ctc_loss(TARGET, x, LABELS, FRAMES), [LOGITS])


def test_too_few_frames_cost_a_fortune():
    assert float(ops.ctc_loss([[1, 1]], LOGITS[:1], [2], [2])[0]) > 1e20


def test_greedy():
    x = np.full((1, 6, 3), -5.0)
    for t, c in enumerate([1, 1, 0, 1, 2, 2]):
        x[0, t, c] = 2.0
    labels, scores = ops.ctc_decode(x, [5])
    np.testing.assert_array_equal(labels, [[[1, 1, 2, -1, -1, -1]]])
    np.testing.assert_allclose(scores, [[-10.0]])
    labels, _ = ops.ctc_decode(x, [6], merge_repeated=False)
    np.testing.assert_array_equal(labels, [[[1, 1, 1, 2, 2, -1]]])


def test_beam_search_finds_the_best_spelling():
    labels, scores = ops.ctc_decode(LOGITS, FRAMES, "beam_search", beam_width=500, top_paths=2)
    assert labels.shape == (2, 4, 5) and scores.shape == (4, 2)
    for b, (x, f) in enumerate(zip(LOGITS, FRAMES, strict=True)):
        found = {tuple(spelt(p)) for p in itertools.product(range(3), repeat=int(f))}
        ranked = sorted(found, key=lambda t, x=x, f=f: cost(t, x, f))
        for k in range(2):
            path = [int(v) for v in np.asarray(labels)[k, b] if v >= 0]
            assert path == list(ranked[k])
            np.testing.assert_allclose(np.asarray(scores)[b, k], -cost(path, x, f), rtol=1e-9)


def test_errors():
    with pytest.raises(ValueError, match="ctc_loss: expected targets"):
        ops.ctc_loss(TARGET[0], LOGITS, LABELS, FRAMES)
    with pytest.raises(ValueError, match="ctc_decode: expected strategy"):
        ops.ctc_decode(LOGITS, FRAMES, "best")
