"""The examples in the docstrings run, in every module."""

import doctest
import importlib
import pkgutil

import pytest

import hornbeam

MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(hornbeam.__path__, "hornbeam.")
    if not m.name.endswith("__main__") and not m.name.startswith("hornbeam.ops.")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    hornbeam.utils.set_random_seed(0)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
