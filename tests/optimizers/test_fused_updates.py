"""Updates run as fused instructions of the tile engine: equal to the formula, for all sizes."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import backend, ops, optimizers

OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(0.01),
    "adam_ema": lambda: optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
    "adam_amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "adam_clip": lambda: optimizers.Adam(0.01, clipnorm=0.5),
    "adam_global_clip": lambda: optimizers.Adam(0.01, global_clipnorm=0.5),
    "adam_clipvalue": lambda: optimizers.Adam(0.01, clipvalue=0.2),
    "adam_accumulation": lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "adam_loss_scale": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01)),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "sgd": lambda: optimizers.SGD(0.01),
    "sgd_momentum": lambda: optimizers.SGD(0.01, momentum=0.9, weight_decay=0.1),
    "sgd_nesterov": lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "rmsprop_momentum": lambda: optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "adagrad": lambda: optimizers.Adagrad(0.01),
    "lion": lambda: optimizers.Lion(0.01, weight_decay=0.1),
    "nadam": lambda: optimizers.Nadam(0.01),
    "adamax": lambda: optimizers.Adamax(0.01),
}


def states(name, size, dtype, steps=4):
    """All variables after some traced steps."""
    rng = np.random.default_rng(size)
    keras.utils.set_random_seed(0)
    optimizer = OPTIMIZERS[name]()
    v = keras.Variable(rng.normal(size=size), dtype=dtype, name="w")
    optimizer.build([v])
    step = backend.function(lambda g: optimizer.apply([g], [v]))
    for _ in range(steps):
        step(ops.convert_to_tensor(rng.normal(size=size), dtype=dtype))
    return [x.numpy() for x in (v, *optimizer.variables)]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("size", [1, 7, 16, 100, 5003])
def test_float32_follows_float64(name, size):
    # float64 takes the instructions one by one: only float32 has fused ones
    for got, want in zip(states(name, size, "float32"), states(name, size, "float64"), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-6)


X, Y, Z = (np.random.default_rng(i).standard_normal(37).astype(np.float32) for i in range(3))


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y, z: x * y + x * y * 2.0,  # an operand of a formula made inside of it
        lambda x, y, z: (x + (y - x) * z) * (y - x),  # an inner value with another reader
        lambda x, y, z: ((y - x) * z + x, (y - x) * z),
        lambda x, y, z: x - x * z,
        lambda x, y, z: x - (x - x * z) * y,
        lambda x, y, z: (x * y) + (z * x),
        lambda x, y, z: (lambda m: (m, z + m, m * 3.0))(0.9 * x - y * 0.1),  # M read twice
        lambda x, y, z: x * 0.5 + (y * 0.5 + z * 0.5),
    ],
)
def test_formulas_are_found_only_where_they_stand(f):
    expected = backend.tree.flatten(
        f(X.astype("float64"), Y.astype("float64"), Z.astype("float64"))
    )
    got = backend.tree.flatten(backend.function(f)(*(ops.convert_to_tensor(a) for a in (X, Y, Z))))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-5, atol=1e-6)
