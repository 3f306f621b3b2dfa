"""Progress display and seeding."""

import random

import numpy as np
import pytest

import hornbeam as keras
from hornbeam.utils.progbar import Progbar, format_time, resolve_verbose


def test_values_are_averaged_over_steps_unless_stateful(capsys):
    bar = Progbar(4, verbose=2, stateful_metrics=["rate"])
    bar.update(1, [("loss", 4.0), ("rate", 1.0)])
    bar.update(3, [("loss", 1.0), ("rate", 2.0)])
    bar.add(1, [("rate", 3.0)])
    line = capsys.readouterr().out
    assert line.startswith("4/4 - 0s - ") and line.endswith(" - loss: 2.0000 - rate: 3.0000\n")


def test_small_values_keep_their_digits(capsys):
    Progbar(1, verbose=2).update(1, [("loss", 1.25e-5), ("gap", -0.5)])
    assert "loss: 1.2500e-05 - gap: -0.5000" in capsys.readouterr().out


def test_silent_and_unknown_length(capsys):
    Progbar(3, verbose=0).update(3, [("loss", 1.0)])
    assert capsys.readouterr().out == ""
    Progbar(None, verbose=2).update(7, finalize=True)
    assert capsys.readouterr().out.startswith("7/Unknown - ")


def test_times_read_as_in_keras():
    assert [format_time(t) for t in (12.3, 0.0123, 4.5e-5)] == ["12s", "12ms", "45us"]


def test_auto_is_a_line_where_no_bar_can_be_drawn():
    assert resolve_verbose("auto") == 2 and resolve_verbose(1) == 1


def test_stateful_and_stateless_exclude_each_other():
    with pytest.raises(ValueError, match="either stateful_metrics or stateless_metrics"):
        Progbar(1, stateful_metrics=["a"], stateless_metrics=["b"])


def test_one_seed_fixes_everything():
    def draw():
        keras.utils.set_random_seed(11)
        layer = keras.layers.Dense(3)
        layer.build((None, 2))
        noise = keras.random.normal((4,)).numpy()
        return random.random(), np.random.rand(3), layer.kernel.numpy(), noise

    for a, b in zip(draw(), draw(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "a", None, True])
def test_bad_seeds(seed):
    with pytest.raises(ValueError, match="expected an integer in"):
        keras.utils.set_random_seed(seed)
