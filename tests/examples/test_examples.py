"""Each example runs as a user runs it: a process of its own, warnings as errors, last line read.

The real data of two of them is not part of the repository: HORNBEAM_TEST_DATA names its folder.
"""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEDIAN = "always guessing the median: mean absolute error "
DATA = pathlib.Path(os.environ.get("HORNBEAM_TEST_DATA") or ROOT.parent / "shared" / "data")


def run(example, *arguments, folder):
    """Runs `examples/<example>.py` in `folder` and returns its standard output."""
    command = [sys.executable, "-W", "error", ROOT / "examples" / f"{example}.py", *arguments]
    done = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def last_number(output, name):
    """The number of the last line, which must read `<name>: <number>`."""
    last = output.splitlines()[-1]
    found = re.fullmatch(rf"{name}: (\d+\.\d+)", last)
    assert found, f"last line is {last!r}; expected {name!r} and a number"
    return float(found[1])


def needed(*parts):
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {path.name} in {path.parent} (HORNBEAM_TEST_DATA names the data folder)")
    return path


def test_every_example_is_tested():
    here = pathlib.Path(__file__).read_text(encoding="utf-8")
    for example in ROOT.glob("examples/*.py"):
        assert f'run("{example.stem}"' in here, f"no test runs {example.name}"


def test_digits(tmp_path):
    assert last_number(run("digits", folder=tmp_path), "test accuracy") >= 0.98
    assert list(tmp_path.iterdir()) == []


def test_digits_of_a_file(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(200) % 10
    x = rng.random((200, 12, 12)) + (np.arange(144).reshape(12, 12) // 12 == y[:, None, None])
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:50], y_test=y[:50])
    output = run("digits", "--data", "d.npz", "--epochs", 1, folder=tmp_path)
    assert 0 <= last_number(output, "test accuracy") <= 1


@pytest.mark.parametrize("data, least", [("breast_cancer", 0.95), ("wine", 0.94)])
def test_tabular(data, least, tmp_path):
    output = run("tabular", "--data", data, folder=tmp_path)
    assert last_number(output, "test accuracy") >= least


def test_tabular_regression(tmp_path):
    output = run("tabular", "--data", "diabetes", folder=tmp_path)
    guessing = float(output.splitlines()[-2].removeprefix(MEDIAN))
    assert last_number(output, "test mean absolute error") < 0.75 * guessing


def test_sentiment_short(tmp_path):
    arguments = needed("sst2"), "--epochs", 1, "--limit", 300, "--sentence", "a fine film"
    output = run("sentiment", *arguments, folder=tmp_path)
    assert "'a fine film' is praise with probability 0." in output
    assert 0.4 <= last_number(output, "test accuracy") <= 1


@pytest.mark.slow
def test_sentiment(tmp_path):
    assert last_number(run("sentiment", needed("sst2"), folder=tmp_path), "test accuracy") >= 0.78


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_char_lm_short(model, tmp_path):
    text = needed("tiny_shakespeare", "input.txt")
    short = text, "--model", model, "--limit", 20_000, "--characters", 30
    trained = run("char_lm", *short, "--epochs", 1, folder=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["char_lm.weights.h5"]
    loss = last_number(trained, "validation loss")
    assert loss < np.log(65)  # the file's alphabet has 65 characters

    # the saved weights write the same again
    written = run("char_lm", *short, "--epochs", 0, folder=tmp_path)
    assert last_number(written, "validation loss") == loss
    assert trained.endswith(written)


def loss_of_pairs(text):
    """Nats a character on the last tenth, if only the character before is known."""
    letters = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = np.array([letters[c] for c in text])
    first, last = np.split(ids, [len(ids) * 9 // 10])
    count = np.ones((len(letters), len(letters)))  # one of each: no pair is impossible
    np.add.at(count, (first[:-1], first[1:]), 1)
    p = count / count.sum(axis=1, keepdims=True)
    return -np.log(p[last[:-1], last[1:]]).mean()


@pytest.mark.slow
def test_char_lm_learns_more_than_pairs(tmp_path):
    text, limit = needed("tiny_shakespeare", "input.txt"), 300_000
    arguments = text, "--limit", limit, "--epochs", 4, "--characters", 10
    loss = last_number(run("char_lm", *arguments, folder=tmp_path), "validation loss")
    assert loss < loss_of_pairs(text.read_text(encoding="utf-8")[:limit]) - 0.1
