"""Optimizers: update rules in NumPy, options, state, errors."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import optimizers

rng = np.random.default_rng(0)
START = rng.normal(size=(3, 2))
GRADIENTS = [rng.normal(size=(3, 2)) for _ in range(5)]


def run(optimizer, start=START, gradients=GRADIENTS):
    v = keras.Variable(start, dtype="float64", name="w")
    for g in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(g, dtype="float64")], [v])
    return v.numpy()


def moments(b1, b2):
    m = v = 0.0
    for t, g in enumerate(GRADIENTS, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        yield t, g, m, v


def adamax(w, lr=0.1):
    u = 0.0
    for t, g, m, _ in moments(0.9, 0.999):
        u = np.maximum(0.999 * u, np.abs(g))
        w = w - lr / (1 - 0.9**t) * m / (u + 1e-7)
    return w


def nadam(w, lr=0.1):
    product = 1.0
    for t, g, m, v in moments(0.9, 0.999):
        u, u_next = 0.9 * (1 - 0.5 * 0.96**t), 0.9 * (1 - 0.5 * 0.96 ** (t + 1))
        product *= u
        m_hat = u_next * m / (1 - product * u_next) + (1 - u) * g / (1 - product)
        w = w - lr * m_hat / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
    return w


def adagrad(w, lr=0.1):
    a = 0.1
    for g in GRADIENTS:
        a = a + g * g
        w = w - lr * g / np.sqrt(a + 1e-7)
    return w


def adadelta(w, lr=0.1):
    a = s = np.zeros_like(w)
    for g in GRADIENTS:
        a = 0.95 * a + 0.05 * g * g
        d = g * np.sqrt(s + 1e-7) / np.sqrt(a + 1e-7)
        s = 0.95 * s + 0.05 * d * d
        w = w - lr * d
    return w


def lion(w, lr=0.1):
    m = 0.0
    for g in GRADIENTS:
        w = w - lr * np.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
    return w


def lamb(w, lr=0.1):
    for t, _, m, v in moments(0.9, 0.999):
        u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
        w = w - lr * np.linalg.norm(w) / np.linalg.norm(u) * u
    return w


def ftrl(w, lr=0.1, l1=0.05, l2=0.1):
    n, z = 0.1, 0.0
    for g in GRADIENTS:
        new = n + g * g
        z = z + g - (np.sqrt(new) - np.sqrt(n)) / lr * w
        n = new
        w = (np.clip(z, -l1, l1) - z) / (np.sqrt(n) / lr + 2 * l2)
    return w


def adafactor(w, lr=0.1):
    r, c = np.zeros(3), np.zeros(2)
    for t, g in enumerate(GRADIENTS, 1):
        rho = min(lr, 1 / np.sqrt(t))
        alpha = max(1e-3, np.sqrt((w * w).mean())) * rho
        b = 1 - t**-0.8
        s = g * g + 1e-30
        r, c = b * r + (1 - b) * s.mean(1), b * c + (1 - b) * s.mean(0)
        u = g / np.sqrt((r / r.mean())[:, None] * c)
        w = w - alpha * u / max(1.0, np.sqrt((u * u).mean()))
    return w


RULES = {
    "Adamax": adamax,
    "Nadam": nadam,
    "Adagrad": adagrad,
    "Adadelta": adadelta,
    "Lion": lion,
    "Lamb": lamb,
    "Adafactor": adafactor,
}


@pytest.mark.parametrize("name", RULES)
def test_update_rules(name):
    found = run(getattr(optimizers, name)(learning_rate=0.1))
    # the learning rate and the step count are float32
    np.testing.assert_allclose(found, RULES[name](START), rtol=2e-6)


def test_ftrl():
    optimizer = optimizers.Ftrl(
        0.1, l1_regularization_strength=0.05, l2_regularization_strength=0.1
    )
    np.testing.assert_allclose(run(optimizer), ftrl(START), rtol=2e-6)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW", *RULES, "Ftrl"])
def test_config_state_and_compiled_equals_eager(name):
    cls = getattr(optimizers, name)
    optimizer = cls(learning_rate=0.25, clipnorm=1.0)
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert type(again) is cls and again.get_config() == optimizer.get_config()
    assert optimizers.serialize(optimizer)["module"] == "keras.optimizers"
    eager = run(cls(learning_rate=0.25))

    compiled = cls(learning_rate=0.25)
    v = keras.Variable(START, dtype="float64", name="w")
    compiled.build([v])
    step = keras.function(lambda g: compiled.apply([g]))
    for g in GRADIENTS:
        step(g)
    np.testing.assert_allclose(v.numpy(), eager, rtol=1e-6)
    assert int(compiled.iterations.numpy()) == len(GRADIENTS)


def test_gradient_accumulation_equals_a_larger_batch():
    mean = [(GRADIENTS[0] + GRADIENTS[1]) / 2, (GRADIENTS[2] + GRADIENTS[3]) / 2]
    for cls in (optimizers.SGD, optimizers.Adam):
        whole = run(cls(0.1), gradients=mean)
        parts = run(cls(0.1, gradient_accumulation_steps=2), gradients=GRADIENTS[:4])
        np.testing.assert_allclose(parts, whole, rtol=1e-6)


def test_weight_decay_leaves_excluded_variables_alone():
    a, b = keras.Variable([1.0], name="kernel"), keras.Variable([1.0], name="bias")
    optimizer = optimizers.SGD(0.5, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    zero = keras.ops.zeros((1,))
    optimizer.apply([zero, zero], [a, b])
    np.testing.assert_allclose([a.numpy()[0], b.numpy()[0]], [0.95, 1.0])
    with pytest.raises(ValueError, match="must be called before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_list=[a])


def test_constraints_hold_after_a_step():
    v = keras.Variable([1.0, -1.0])
    v.constraint = keras.constraints.NonNeg()
    optimizers.SGD(0.1).apply([keras.ops.ones((2,))], [v])
    np.testing.assert_allclose(v.numpy(), [0.9, 0.0])


def test_learning_rate_can_be_set_and_schedules_follow_the_step():
    optimizer = optimizers.SGD(0.1)
    optimizer.learning_rate = 0.5
    assert float(optimizer.learning_rate) == 0.5
    scheduled = optimizers.SGD(optimizers.schedules.ExponentialDecay(1.0, 1, 0.5))
    found = run(scheduled, start=np.zeros((1,)), gradients=[np.ones((1,))] * 3)
    np.testing.assert_allclose(found, [-1.75])
    with pytest.raises(TypeError, match="cannot be set"):
        scheduled.learning_rate = 0.1


def test_loss_scaling_skips_overflow_and_adapts():
    inner = optimizers.SGD(1.0)
    optimizer = optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=2)
    v = keras.Variable([1.0])
    optimizer.build([v])
    step = keras.function(lambda g: optimizer.apply([g]))

    def state():
        return float(v.numpy()[0]), float(optimizer.dynamic_scale.numpy())

    step(np.array([4.0], "float32"))
    assert state() == (0.5, 8.0)
    step(np.array([np.inf], "float32"))
    assert state() == (0.5, 4.0)
    assert int(inner.iterations.numpy()) == 1
    step(np.array([1.0], "float32"))
    step(np.array([1.0], "float32"))
    assert state() == (0.0, 8.0)
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()


def test_stateless_apply_changes_nothing():
    v = keras.Variable([1.0])
    optimizer = optimizers.SGD(0.5, momentum=0.5)
    optimizer.build([v])
    before = [x.numpy() for x in optimizer.variables]
    new, state = optimizer.stateless_apply(
        [x.value for x in optimizer.variables], [keras.ops.ones((1,))], [keras.ops.ones((1,))]
    )
    np.testing.assert_allclose(new[0].numpy(), [0.5])
    assert v.numpy()[0] == 1.0 and len(state) == len(before)
    for x, old in zip(optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(x.numpy(), old)


def test_missing_gradients_and_unknown_variables():
    a, b = keras.Variable([1.0], name="a"), keras.Variable([1.0], name="b")
    optimizer = optimizers.SGD(0.1)
    with pytest.warns(UserWarning, match=r"no gradients for the variables \['b'\]"):
        optimizer.apply([keras.ops.ones((1,)), None], [a, b])
    with pytest.raises(ValueError, match="no gradients for any variable"):
        optimizer.apply([None, None], [a, b])
    with pytest.raises(ValueError, match="SGD: unknown variable c"):
        optimizer.apply([keras.ops.ones((1,))], [keras.Variable([1.0], name="c")])
    with pytest.raises(
        ValueError, match="expected one gradient per variable, got 1 gradients and 2"
    ):
        optimizer.apply([keras.ops.ones((1,))], [a, b])


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"learning_rate": "fast"}, "learning_rate must be a float"),
        ({"clipnorm": 1.0, "clipvalue": 1.0}, "at most one of clipnorm"),
        ({"gradient_accumulation_steps": 1}, "must be an integer ≥ 2"),
        ({"use_ema": True, "ema_momentum": 2.0}, r"ema_momentum must lie in \[0, 1\]"),
        ({"momentum": 2.0}, r"momentum must lie in \[0, 1\]"),
        ({"speed": 1}, r"unknown arguments; got \['speed'\]"),
    ],
)
def test_bad_arguments(kwargs, text):
    with pytest.raises(ValueError, match=f"SGD: .*{text}"):
        optimizers.SGD(**{"learning_rate": 0.1, **kwargs})


def test_get():
    assert isinstance(optimizers.get("adamw"), optimizers.AdamW)
    assert isinstance(optimizers.get("RMSprop"), optimizers.RMSprop)
    adam = optimizers.Adam()
    assert optimizers.get(adam) is adam
    with pytest.raises(ValueError, match="unknown optimizer.*got 'nothing'"):
        optimizers.get("nothing")


def test_apply_gradients_wants_pairs():
    v = keras.Variable(np.ones(3), name="w")
    gradient = keras.ops.ones(3)
    with pytest.raises(ValueError, match=r"SGD: apply_gradients expected pairs.*zip\("):
        optimizers.SGD(1.0).apply_gradients([gradient])
    optimizers.SGD(1.0).apply_gradients(zip([gradient], [v], strict=True))
    np.testing.assert_array_equal(v, np.zeros(3))
