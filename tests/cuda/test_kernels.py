"""What the OpCases do not reach: random numbers, large shapes, errors, memory, training."""

import numpy as np
import pytest
from support.op_case import parametrize

import hornbeam
from hornbeam import backend, layers, ops
from hornbeam.backend import _core, passes
from hornbeam.backend.registry import REGISTRY


def on(device, f, *arrays):
    """f compiled on a device, as NumPy arrays."""
    with hornbeam.device(device):
        out = backend.function(f)(*arrays)
    return [np.array(x) for x in out] if isinstance(out, (list, tuple)) else np.array(out)


def differentiable(case):
    """(function of the inputs that are varied, their arrays), as in tests/ops/test_gradient.py."""
    arrays, makers = case.arrays("float32"), backend.tree.flatten(case.inputs)
    flat = backend.tree.flatten(arrays)
    varied = [i for i, m in enumerate(makers) if (m.dtype or "float32").startswith("float")]
    if case.differentiable is not True:
        varied = list(case.differentiable)

    def gradients(attrs, *xs):
        inputs = list(flat)
        for i, x in zip(varied, xs, strict=True):
            inputs[i] = x
        with backend.GradientTape() as tape:
            for x in xs:
                tape.watch(x)
            y = backend.tree.flatten(
                case.op(*backend.tree.pack_sequence_as(arrays, inputs), **attrs)
            )
            loss = sum(ops.sum(ops.sin(ops.cast(v, "float32"))) for v in y)
        return tape.gradient(loss, list(xs), unconnected_gradients="zero")

    return gradients, [flat[i].astype("float32") for i in varied]


@parametrize(lambda c: c.differentiable and "float32" in c.dtypes)
def test_gradients_are_those_of_the_cpu(case, cuda):
    gradients, arrays = differentiable(case)
    attrs = next(case.grid())
    expected = on("cpu:0", lambda *xs: gradients(attrs, *xs), *arrays)
    got = on(cuda, lambda *xs: gradients(attrs, *xs), *arrays)
    for g, e in zip(got, expected, strict=True):
        scale = max(1.0, float(np.abs(e[np.isfinite(e)]).max(initial=0)))
        np.testing.assert_allclose(g, e, rtol=2e-5 * case.tolerance, atol=2e-6 * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_uniform_numbers_have_the_bits_of_the_cpu(dtype, cuda):
    def draw(key):
        return hornbeam.random.uniform((7, 37), seed=3, dtype=dtype)

    np.testing.assert_array_equal(on(cuda, draw, 0), on("cpu:0", draw, 0))


def test_random_integers_and_dropout_have_the_bits_of_the_cpu(cuda):
    x = np.random.default_rng(0).normal(size=(33, 9)).astype("float32")

    def draw(x):
        return [
            hornbeam.random.randint((5, 21), -7, 1000, seed=5),
            hornbeam.random.dropout(x, 0.3, seed=11),
            hornbeam.random.shuffle(x, seed=2),
            hornbeam.random.normal((13,), seed=2),
        ]

    for a, b in zip(on(cuda, draw, x), on("cpu:0", draw, x), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((300_001,), 0), ((3, 70_001), 1), ((5003, 7), 0), ((6, 401, 5), (0, 2)), ((2, 3, 4), None)],
)
def test_large_reductions(shape, axis, cuda):
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    total, largest = on(cuda, lambda x: [ops.sum(x, axis=axis), ops.max(x, axis=axis)], x)
    expected = x.astype("float64").sum(axis)
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(largest, x.max(axis))


@pytest.mark.parametrize(
    ("a", "b"), [((130, 33), (33, 70)), ((3, 1, 65, 17), (4, 17, 20)), ((1, 200), (200, 1))]
)
@pytest.mark.parametrize("transposed", [False, True])
def test_matmul(a, b, transposed, cuda):
    rng = np.random.default_rng(2)
    x, y, bias = (rng.normal(size=s).astype("float32") for s in (a, b, b[-1:]))
    expected = np.maximum(x.astype("float64") @ y + bias, 0)
    if transposed:
        x, y = (np.ascontiguousarray(np.swapaxes(v, -1, -2)) for v in (x, y))

    def f(x, y, bias):
        if transposed:
            x, y = (ops.swapaxes(v, -1, -2) for v in (x, y))
        return ops.relu(ops.matmul(x, y) + bias)

    np.testing.assert_allclose(on(cuda, f, x, y, bias), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_batch_normalisation(dtype, cuda):
    rng = np.random.default_rng(6)
    arrays = [rng.normal(3, 2, s).astype(dtype) for s in ((9, 40, 5), (5,), (5,), (9, 40, 5))]

    def f(x, gamma, beta, dy):
        with backend.GradientTape() as tape:
            for v in (x, gamma, beta):
                tape.watch(v)
            y, mean, variance = REGISTRY["batch_norm_train"](x, gamma, beta, epsilon=1e-3)
            loss = ops.sum(y * dy)
        return [y, mean, variance, *tape.gradient(loss, [x, gamma, beta])]

    tolerance = {"float32": 3e-5, "float64": 1e-12, "float16": 2e-2}[dtype]
    for a, b in zip(on(cuda, f, *arrays), on("cpu:0", f, *arrays), strict=True):
        scale = max(1, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_segments(reduction, dtype, cuda):
    rng = np.random.default_rng(7)
    ids = rng.integers(-9, 3000, 700)
    ids[100:400] = 5
    x = backend.convert_to_tensor(rng.normal(1, 0.1, (700, 3)).astype("float32"), dtype)

    def f(x, ids):
        op = REGISTRY["segment_reduce"]
        return op(x, ids, num_segments=2900, reduction=reduction, wrap=True)

    tolerance = {"float32": 1e-6, "bfloat16": 2e-2, "int32": 0}[dtype]
    got, expected = on(cuda, f, x, ids), on("cpu:0", f, x, ids)
    np.testing.assert_allclose(
        got.astype("float64"), expected.astype("float64"), rtol=tolerance, atol=1e-30
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("sparse", [False, True])
def test_cross_entropy_and_gradient_in_one(sparse, dtype, cuda):
    rng = np.random.default_rng(9)
    x, w = rng.normal(size=(37, 300)) * 3, rng.random(37)
    x, w = (backend.convert_to_tensor(v, dtype) for v in (x, w))
    labels = rng.integers(0, 300, 37).astype("int32")
    targets = labels if sparse else backend.convert_to_tensor(rng.random((37, 300)), dtype)
    name = ("sparse_" if sparse else "") + "categorical_crossentropy"

    def f(x, t, w):
        with backend.GradientTape() as tape:
            tape.watch(x)
            logits = x * 1.5
            loss = getattr(ops, name)(t, logits, from_logits=True)
            total = ops.sum(loss * w)
        return [ops.cast(y, "float64") for y in (loss, tape.gradient(total, x))]

    with hornbeam.device(cuda):
        plan = backend.function(f).concrete(x, targets, w).program.describe()
    assert "crossentropy_both/cuda" in plan
    tolerance = {"float32": 1e-5, "bfloat16": 2e-2, "float64": 1e-12}[dtype]
    for a, b in zip(on(cuda, f, x, targets, w), on("cpu:0", f, x, targets, w), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def test_a_cross_entropy_in_float32_reads_narrow_logits(cuda):
    rng = np.random.default_rng(10)
    x = backend.convert_to_tensor(rng.normal(size=(37, 200)), "bfloat16")
    w = backend.convert_to_tensor(rng.normal(size=(200, 300)), "bfloat16")
    labels = rng.integers(0, 300, 37).astype("int32")

    def f(x, w, labels):
        with backend.GradientTape() as tape:
            tape.watch(w)
            logits = ops.cast(ops.matmul(x, w), "float32")
            loss = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            total = ops.mean(loss)
        return [loss, ops.cast(tape.gradient(total, w), "float32")]

    with hornbeam.device(cuda):
        graph = backend.function(f).concrete(x, w, labels).graph
    (node,) = (n for n in passes.optimize(graph).nodes if n.op.name.endswith("_both"))
    assert [v.dtype for v in node.outputs] == ["bfloat16", "float32"]
    for a, b in zip(on(cuda, f, x, w, labels), on("cpu:0", f, x, w, labels), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-2 * np.abs(b).max())


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_pooling_twice_differentiated(padding, cuda):
    x = np.random.default_rng(8).permutation(2 * 7 * 9 * 3).reshape(2, 7, 9, 3).astype("float32")

    def f(x):
        with backend.GradientTape() as outer:
            outer.watch(x)
            with backend.GradientTape() as tape:
                tape.watch(x)
                y = ops.sum(ops.max_pool(ops.relu(x * x - 1000.0), 3, 2, padding) * 1e-3)
            dx = tape.gradient(y, x)
            total = ops.sum(dx * ops.sin(x))
        return [dx, outer.gradient(total, x)]

    for a, b in zip(on(cuda, f, x), on("cpu:0", f, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_an_attribute_that_a_kernel_does_not_know_is_an_error(cuda):
    spec = ("float32", (4,))
    step = ("softmax", [0], [1], {"temperature": 2.0}, [], None, "")
    with pytest.raises(RuntimeError, match="the CUDA kernel does not know attribute temperature"):
        _core.Program([spec] * 2, [0], [], [], [step], [1], [], [cuda] * 2)


def test_transposition_in_tiles(cuda):
    x = np.random.default_rng(3).normal(size=(3, 45, 70)).astype("float16")
    got = on(cuda, lambda x: ops.transpose(x, (0, 2, 1)), x)
    np.testing.assert_array_equal(got, x.transpose(0, 2, 1))


def test_nan_is_not_lost(cuda):
    x = np.array([[1, np.nan, 3], [0, 1, 2]], "float32")
    largest, either = on(cuda, lambda x: [ops.max(x, axis=1), ops.maximum(x, 2.0)], x)
    np.testing.assert_array_equal(largest, [np.nan, 2])
    np.testing.assert_array_equal(either, np.maximum(x, 2))


def test_an_index_out_of_range_is_an_error(cuda):
    x = ops.ones((4, 3)).to(cuda)
    taken = ops.take(x, ops.convert_to_tensor(np.array([1, 9])).to(cuda), axis=0)
    with pytest.raises(RuntimeError, match=r"index 9 is out of range for axis 0 of size 4"):
        taken.numpy()
    assert ops.take(x, np.array([1, -1]), axis=0).numpy().tolist() == [[1.0] * 3] * 2


def test_out_of_memory_leaves_the_device_usable(cuda):
    if "emulated" not in _core.device_description(cuda):
        pytest.skip("the size is that of the emulated device")
    x = ops.ones((1 << 20,)).to(cuda)
    with pytest.raises(MemoryError, match=r"16384.0 MiB are needed; .*largest block"):
        ops.broadcast_to(x, (1 << 12, 1 << 20)).numpy()
    assert float(ops.sum(x)) == 1 << 20


def test_memory_is_flat_over_many_steps(cuda):
    v = None
    with hornbeam.device(cuda):
        v = hornbeam.Variable(np.zeros((64, 64), "float32"))

        @backend.function
        def step(x):
            v.assign_add(ops.softmax(ops.matmul(x, v) + x))
            return ops.sum(v)

    x = np.ones((64, 64), "float32")
    for _ in range(5):
        step(x)
    before = hornbeam.memory_stats(cuda)
    for _ in range(200):
        step(x)
    after = hornbeam.memory_stats(cuda)
    assert after["reserved"] == before["reserved"]
    assert after["current"] <= before["current"] + 512  # the last result


def test_ops_without_a_kernel_run_on_the_cpu_and_come_back(cuda):
    x = np.random.default_rng(4).normal(size=(6, 5)).astype("float32")

    def f(x):
        y = ops.exp(x)
        return ops.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y + 1), (0, y))[1] * 2

    with hornbeam.device(cuda):
        g = backend.function(f)
        y = g(x)
        text = g.concrete(x).program.describe()
    assert y.device == cuda
    np.testing.assert_allclose(y, (np.exp(x) + 3) * 2, rtol=1e-6)
    assert f"copy[cpu:0 to {cuda}]" in text


def test_training_is_as_on_the_cpu(cuda):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 50, (64, 6)), rng.integers(0, 4, 64)

    def train(name):
        hornbeam.utils.set_random_seed(7)
        with hornbeam.device(name):
            model = hornbeam.Sequential(
                [
                    layers.Input((6,), dtype="int32"),
                    layers.Embedding(50, 8),
                    layers.LayerNormalization(),
                    layers.Flatten(),
                    layers.Dense(16, activation="gelu"),
                    layers.Dropout(0.2),
                    layers.Dense(4),
                ]
            )
            loss = hornbeam.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(hornbeam.optimizers.AdamW(1e-2), loss, metrics=["accuracy"])
            history = model.fit(x, y, batch_size=16, epochs=3, verbose=0).history
            held = {v.device for v in [*model.variables, *model.optimizer.variables]}
        assert held == {name}
        return history["loss"], model.predict(x, verbose=0)

    cpu, gpu = train("cpu:0"), train(cuda)
    np.testing.assert_allclose(gpu[0], cpu[0], rtol=1e-4)
    np.testing.assert_allclose(gpu[1], cpu[1], rtol=1e-3, atol=1e-4)


def test_results_have_the_same_bits_twice(cuda):
    x = np.random.default_rng(5).normal(size=(100, 333)).astype("float32")

    def f(x):
        return [ops.sum(x), ops.mean(x, axis=0), ops.softmax(x), ops.matmul(x, ops.transpose(x))]

    for a, b in zip(on(cuda, f, x), on(cuda, f, x), strict=True):
        np.testing.assert_array_equal(a, b)
