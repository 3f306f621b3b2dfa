"""Gradients of GradientTape against central differences in float64."""

from __future__ import annotations

import numpy as np

from hornbeam import backend
from hornbeam.backend import GradientTape

_STEP = 1e-5
_DIRECTIONS = 4
_COORDINATES = 24  # arrays up to this size are checked element by element


def gradients(function, tensors, weights):
    """Gradients of sum(weights * function(*tensors)) with respect to each tensor."""
    with GradientTape() as tape:
        for t in tensors:
            tape.watch(t)
        y = function(*tensors)
    return tape.gradient(y, list(tensors), output_gradients=weights)


def gradcheck(function, arrays, rtol=1e-6, atol=1e-7, seed=0):
    """Checks the derivative of `function` at `arrays` (float64), outputs weighted at random.

    Small inputs are moved element by element, large ones in random directions.

    Args:
        function: `function(*tensors)` → tensor or list of tensors of float64.
    """
    rng = np.random.default_rng(seed)
    tensors = [backend.convert_to_tensor(a, "float64") for a in arrays]
    outputs = backend.tree.flatten(function(*tensors))
    weights = [rng.standard_normal(tuple(y.shape)) for y in outputs]

    def flat(*xs):
        return backend.tree.flatten(function(*xs))

    found = gradients(flat, tensors, [backend.convert_to_tensor(w) for w in weights])

    def total(moved):
        ys = flat(*[backend.convert_to_tensor(a) for a in moved])
        return sum(float(np.sum(np.asarray(y) * w)) for y, w in zip(ys, weights, strict=True))

    for i, x in enumerate(arrays):
        got = np.zeros_like(x) if found[i] is None else np.asarray(found[i])
        for v in _directions(rng, x.shape):
            ends = []
            for sign in (1, -1):
                moved = list(arrays)
                moved[i] = x + sign * _STEP * v
                ends.append(total(moved))
            expected = (ends[0] - ends[1]) / (2 * _STEP)
            np.testing.assert_allclose(
                np.sum(got * v), expected, rtol=rtol, atol=atol * (1 + np.abs(got * v).sum()),
                err_msg=f"derivative with respect to input {i}",
            )  # fmt: skip


def _directions(rng, shape):
    size = int(np.prod(shape))
    if size <= _COORDINATES:
        for k in range(size):
            v = np.zeros(size)
            v[k] = 1.0
            yield v.reshape(shape)
    else:
        for _ in range(_DIRECTIONS):
            v = rng.standard_normal(shape)
            yield v / np.sqrt(size)
