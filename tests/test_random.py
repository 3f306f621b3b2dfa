"""Random numbers: the generator's known answers, distributions, seeds, and no dependence on threads."""

import os
import subprocess
import sys

import numpy as np
import pytest

from hornbeam import backend, ops, random

N = 20000


def test_philox_known_answers():
    # Random123, kat_vectors: philox4x32-10 with counter and key 0
    key = np.zeros(2, "uint32")
    bits = random._random_bits(backend.convert_to_tensor(key), shape=(4,))
    assert [int(v) for v in np.asarray(bits)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def moments_of(x):
    x = np.asarray(x).astype("float64")
    return x.mean(), x.std()


def close(x, mean, std):
    """Within five standard errors (of the mean; of the deviation, roughly)."""
    m, s = moments_of(x)
    n = np.asarray(x).size
    assert abs(m - mean) < 5 * std / n**0.5, (m, mean)
    assert abs(s - std) < 8 * std / n**0.5, (s, std)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1, 12345678901])
def test_moments(dtype, seed):
    close(random.normal((N,), 1.0, 2.0, dtype, seed), 1.0, 2.0)
    close(random.uniform((N,), -1, 3, dtype, seed), 1.0, 4 / 12**0.5)
    close(random.truncated_normal((N,), dtype=dtype, seed=seed), 0.0, 0.8796)
    close(random.gamma((N,), 2.5, dtype, seed), 2.5, 2.5**0.5)
    close(random.gamma((N,), 0.3, dtype, seed), 0.3, 0.3**0.5)
    close(random.beta((N,), 2.0, 3.0, dtype, seed), 0.4, 0.2)
    close(random.binomial((N,), 10, 0.3, dtype, seed), 3.0, 2.1**0.5)
    close(random.binomial((N,), 1000, 0.5, dtype, seed), 500.0, 250**0.5)


def test_ranges():
    u = np.asarray(random.uniform((N,), seed=1))
    assert u.min() >= 0 and u.max() < 1
    for dtype in ("float16", "bfloat16"):
        u = np.array(ops.cast(random.uniform((N,), dtype=dtype, seed=1), "float32"))
        assert u.min() >= 0 and u.max() < 1
    z = np.asarray(random.truncated_normal((N,), 5.0, 0.5, seed=1))
    assert z.min() > 4 and z.max() < 6
    k = np.asarray(random.randint((N,), -3, 4, seed=1))
    assert k.dtype == np.int32 and set(k) == set(range(-3, 4))
    assert np.bincount(k + 3).min() > N / 7 * 0.9


def test_uniform_numbers_fill_the_interval_evenly():
    u = np.sort(np.asarray(random.uniform((N,), dtype="float64", seed=3)))
    distance = np.abs(u - np.arange(N) / N).max()  # Kolmogorov and Smirnov
    assert distance < 2 / N**0.5


def test_categorical():
    p = np.array([[0.1, 0.6, 0.3], [0.5, 0.0, 0.5]])
    with np.errstate(divide="ignore"):
        drawn = np.asarray(random.categorical(np.log(p).astype("float32"), N, seed=2))
    for row, probabilities in zip(drawn, p, strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=3) / N, probabilities, atol=0.02)


def test_an_int_seed_gives_the_same_numbers_a_generator_others():
    np.testing.assert_array_equal(random.normal((5,), seed=3), random.normal((5,), seed=3))
    generator = random.SeedGenerator(3)
    a, b = random.normal((5,), seed=generator), random.normal((5,), seed=generator)
    assert (np.asarray(a) != np.asarray(b)).all()
    again = random.SeedGenerator.from_config(random.SeedGenerator(3).get_config())
    np.testing.assert_array_equal(a, random.normal((5,), seed=again))


def test_the_first_numbers_do_not_depend_on_how_many_are_drawn():
    for f in (random.normal, random.uniform, random.truncated_normal):
        np.testing.assert_array_equal(
            np.asarray(f((100000,), seed=5))[:100], np.asarray(f((100,), seed=5))
        )


def test_the_global_seed_restarts_everything():
    draws = []
    for _ in range(2):
        random.seed_all(11)
        draws.append([np.asarray(random.normal((4,))) for _ in range(2)])
        draws[-1].append(random.SeedGenerator().get_config()["seed"])
    np.testing.assert_array_equal(draws[0][0], draws[1][0])
    np.testing.assert_array_equal(draws[0][1], draws[1][1])
    assert draws[0][2] == draws[1][2]
    assert (draws[0][0] != draws[0][1]).all()


def test_compiled_functions_draw_on():
    generator = random.SeedGenerator(7)
    draw = backend.function(lambda: random.normal((3,), seed=generator))
    compiled = [np.asarray(draw()) for _ in range(3)]
    generator = random.SeedGenerator(7)
    eager = [np.asarray(random.normal((3,), seed=generator)) for _ in range(3)]
    np.testing.assert_array_equal(compiled, eager)


def test_dropout():
    x = np.ones((50, 400), "float32")
    y = np.asarray(random.dropout(x, 0.3, seed=1))
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-6)
    assert abs((y == 0).mean() - 0.3) < 0.02
    rows = np.asarray(random.dropout(x, 0.3, noise_shape=(None, 1), seed=1))
    assert (rows == rows[:, :1]).all() and 0 < (rows == 0).mean() < 1
    np.testing.assert_array_equal(random.dropout(x, 0), x)
    with pytest.raises(ValueError, match="dropout: expected 0 <= rate < 1, got 1"):
        random.dropout(x, 1)


def test_the_gradient_of_dropout_has_the_same_choice():
    x = backend.convert_to_tensor(np.arange(1.0, 101))
    with backend.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = random.dropout(x, 0.5, seed=4)
        total = ops.sum(y)
    np.testing.assert_allclose(tape.gradient(total, x), (np.asarray(y) != 0) * 2.0)


def test_shuffle_keeps_the_rows():
    x = np.arange(20).reshape(10, 2)
    y = np.asarray(random.shuffle(x, seed=1))
    assert (y != x).any()
    np.testing.assert_array_equal(y[np.argsort(y[:, 0])], x)


def test_errors():
    with pytest.raises(ValueError, match="random: expected a seed"):
        random.normal((2,), seed="x")
    with pytest.raises(ValueError, match="normal: expected a float dtype"):
        random.normal((2,), dtype="int32")
    with pytest.raises(ValueError, match="randint: expected minval < maxval"):
        random.randint((2,), 3, 3)
    with pytest.raises(ValueError, match="SeedGenerator: expected a seed >= 0"):
        random.SeedGenerator(-1)


def test_bits_do_not_depend_on_the_number_of_threads():
    script = (
        "import hashlib, numpy as np\n"
        "from hornbeam import ops, random\n"
        "h = hashlib.sha256()\n"
        "x = random.normal((300, 1000), seed=3)\n"
        "for t in (x, random.uniform((70000,), seed=1), random.truncated_normal((70000,), seed=2),\n"
        "          random.gamma((5000,), 0.7, seed=2), random.dropout(x, 0.4, seed=9),\n"
        "          ops.softmax(x), ops.segment_sum(x, np.arange(300) % 7, 7),\n"
        "          ops.sort(x), ops.layer_normalization(x)):\n"
        "    h.update(np.ascontiguousarray(t).tobytes())\n"
        "print(h.hexdigest())\n"
    )
    hashes = set()
    for threads in ("1", "2", "5"):
        env = os.environ | {"HORNBEAM_NUM_THREADS": threads}
        run = subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        hashes.add(run.stdout)
    assert len(hashes) == 1
