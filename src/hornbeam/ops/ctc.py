"""Connectionist temporal classification: the loss, and decoding of its outputs.

Graves, Fernandez, Gomez and Schmidhuber, ICML 2006.
"""

from __future__ import annotations

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import Spec, op, primitive
from hornbeam.ops import control, creation, index, joining, nn, shapes
from hornbeam.ops._common import as_float

OPS = backend.OPS
_LOWEST = -1e30  # stands for log 0: keeps differences finite


def _logsumexp(*xs):
    high = xs[0]
    for x in xs[1:]:
        high = OPS["maximum"](high, x)
    high = backend.stop_gradient(high)
    total = OPS["exp"](xs[0] - high)
    for x in xs[1:]:
        total = total + OPS["exp"](x - high)
    return high + OPS["log"](total)


def _shifted(alpha, by):
    """alpha[:, s - by], log 0 before the start."""
    batch = alpha.shape[0]
    start = creation.full((batch, by), _LOWEST, alpha.dtype)
    return joining.concatenate([start, alpha[:, :-by]], axis=1)


@op
def ctc_loss(target, output, target_length, output_length, mask_index=0):
    """-log of the probability that the frames of `output` spell `target`.

    The sum over alignments is the forward recursion (equations 6 to 8), in logarithms.

    Args:
        target: integer labels (batch, labels), of which the first `target_length` count.
        output: logits (batch, frames, classes), of which the first `output_length` frames count.
        mask_index: class of the blank.

    Returns:
        (batch,). A target that cannot be spelt in so few frames costs 1e30.
    """
    target, output = index._indices(target), as_float(output)
    target_length, output_length = index._indices(target_length), index._indices(output_length)
    if target.ndim != 2 or output.ndim != 3 or target.shape[0] != output.shape[0]:
        raise ValueError(
            "ctc_loss: expected targets (batch, labels) and outputs (batch, frames, classes), got "
            f"{tuple(target.shape)} and {tuple(output.shape)}"
        )
    batch, labels = target.shape
    frames = output.shape[1]
    blank = creation.full((batch, labels, 1), mask_index, target.dtype)
    spelt = joining.concatenate([blank, shapes.expand_dims(target, 2)], axis=2)
    spelt = shapes.reshape(spelt, (batch, 2 * labels))
    spelt = joining.concatenate(
        [spelt, creation.full((batch, 1), mask_index, target.dtype)], axis=1
    )
    states = 2 * labels + 1  # blank, label, blank, …, blank

    log_p = nn.log_softmax(output)
    places = shapes.broadcast_to(shapes.expand_dims(spelt, 1), (batch, frames, states))
    log_p = index._take_along_axis(log_p, places, axis=2)
    two_back = joining.concatenate(
        [creation.full((batch, min(2, states)), mask_index, spelt.dtype), spelt[:, :-2]], axis=1
    )[:, :states]
    may_skip = OPS["logical_and"](
        OPS["not_equal"](spelt, mask_index), OPS["not_equal"](spelt, two_back)
    )
    lowest = backend.convert_to_tensor(_LOWEST, log_p.dtype)
    first = OPS["less"](creation.iota(states), 2)
    alpha = OPS["where"](first, log_p[:, 0], lowest)

    def step(alpha, xs):
        log_p, t = xs
        stay, one, two = alpha, _shifted(alpha, 1), _shifted(alpha, 2)[:, :states]
        moved = _logsumexp(stay, one, OPS["where"](may_skip, two, lowest)) + log_p
        moved = OPS["maximum"](moved, lowest)
        counts = shapes.expand_dims(OPS["less"](t, output_length), 1)
        return OPS["where"](counts, moved, alpha), ()

    if frames > 1:
        steps = creation.iota(frames - 1, output_length.dtype, 1)
        later = shapes.moveaxis(log_p[:, 1:], 1, 0)
        alpha, _ = control.scan(step, alpha, (later, steps))
    last = shapes.expand_dims(2 * target_length, 1)
    before = OPS["maximum"](last - 1, 0)
    end = shapes.squeeze(index._take_along_axis(alpha, last, axis=1), 1)
    label = shapes.squeeze(index._take_along_axis(alpha, before, axis=1), 1)
    label = OPS["where"](OPS["greater"](target_length, 0), label, lowest)
    return -_logsumexp(end, label)


# ------------------------------------------------------------------ decoding


@op(inputs=("inputs", "sequence_lengths"))
def ctc_decode(
    inputs, sequence_lengths, strategy="greedy", beam_width=100, top_paths=1, merge_repeated=True,
    mask_index=0,
):  # fmt: skip
    """Labels spelt by the outputs of a network trained with `ctc_loss`.

    Args:
        inputs: logits (batch, frames, classes).
        sequence_lengths: (batch,): how many frames count.
        strategy: "greedy" (the best class of each frame) or "beam_search".
        merge_repeated: equal neighbours are one label.
        mask_index: class of the blank.

    Returns:
        (labels (paths, batch, frames) padded with -1, scores (batch, paths)). The score is minus
        the sum of the logits taken ("greedy") or the log probability of the path.
    """
    x, lengths = as_float(inputs), index._indices(sequence_lengths)
    if strategy == "greedy":
        return _greedy(x, lengths, merge_repeated, mask_index)
    if strategy != "beam_search":
        raise ValueError(
            f"ctc_decode: expected strategy 'greedy' or 'beam_search', got {strategy!r}"
        )
    return tuple(
        _beam(
            nn.log_softmax(x), lengths, beam_width=int(beam_width), top_paths=int(top_paths),
            blank=int(mask_index),
        )
    )  # fmt: skip


def _greedy(x, lengths, merge_repeated, mask_index):
    batch, frames, _ = x.shape
    best = backend.cast(OPS["argmax"](x, axis=-1), "int32")
    score = OPS["max"](x, axis=-1)
    outside = OPS["greater_equal"](creation.iota(frames), shapes.expand_dims(lengths, 1))
    blank = backend.convert_to_tensor(mask_index, "int32")
    best = OPS["where"](outside, blank, best)
    score = OPS["where"](outside, creation.zeros((), score.dtype), score)
    taken = best
    if merge_repeated:
        start = creation.full((batch, 1), -1, "int32")
        previous = joining.concatenate([start, best[:, :-1]], axis=1)
        taken = OPS["where"](OPS["equal"](best, previous), blank, best)
    dropped = OPS["equal"](taken, blank)
    order = OPS["argsort"](backend.cast(dropped, "int32"), axis=-1)  # stable: labels to the front
    labels = OPS["where"](dropped, backend.convert_to_tensor(-1, "int32"), taken)
    labels = index._take_along_axis(labels, order, axis=1)
    return shapes.expand_dims(labels, 0), shapes.expand_dims(-OPS["sum"](score, axis=1), 1)


def _beam_host(log_p, lengths, beam_width, top_paths, blank):
    """Prefix beam search: probabilities of prefixes that end in a blank, and in a label."""
    batch, frames, classes = log_p.shape
    labels = np.full((top_paths, batch, frames), -1, "int32")
    scores = np.full((batch, top_paths), -np.inf, log_p.dtype)
    for b in range(batch):
        beams = {(): (0.0, -np.inf)}
        for t in range(int(lengths[b])):
            found: dict = {}

            def add(prefix, in_blank, value, found=found):
                old = found.get(prefix, (-np.inf, -np.inf))
                if in_blank:
                    found[prefix] = (np.logaddexp(old[0], value), old[1])
                else:
                    found[prefix] = (old[0], np.logaddexp(old[1], value))

            for prefix, (in_blank, in_label) in beams.items():
                both = np.logaddexp(in_blank, in_label)
                for c in range(classes):
                    p = float(log_p[b, t, c])
                    if c == blank:
                        add(prefix, True, both + p)
                    elif prefix and c == prefix[-1]:
                        add(prefix, False, in_label + p)
                        add((*prefix, c), False, in_blank + p)
                    else:
                        add((*prefix, c), False, both + p)
            ranked = sorted(found.items(), key=lambda kv: (-np.logaddexp(*kv[1]), kv[0]))
            beams = dict(ranked[:beam_width])
        ranked = sorted(beams.items(), key=lambda kv: (-np.logaddexp(*kv[1]), kv[0]))
        for k, (prefix, value) in enumerate(ranked[:top_paths]):
            labels[k, b, : len(prefix)] = prefix
            scores[b, k] = np.logaddexp(*value)
    return labels, scores


_beam = primitive(
    "ctc_beam_search",
    lambda log_p, lengths, *, beam_width, top_paths, blank: [
        Spec((top_paths, *log_p.shape[:2]), "int32"),
        Spec((log_p.shape[0], top_paths), log_p.dtype),
    ],
    host=_beam_host,
    doc="The best label sequences and their log probabilities.",
)
