"""The examples in the docstrings of public ops run."""

import doctest

import pytest

from hornbeam import ops
from hornbeam.backend.registry import PublicOp

PUBLIC = {name: op for name, op in vars(ops).items() if isinstance(op, PublicOp)}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_example(name):
    doc = PUBLIC[name].__doc__
    assert doc, f"ops.{name} has no docstring"
    test = doctest.DocTestParser().get_doctest(doc, dict(vars(ops)), name, None, 0)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert result.failed == 0
