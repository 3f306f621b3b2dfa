"""Wrong calls say what is wrong."""

import pytest
from support.op_case import parametrize


@parametrize(lambda c: c.errors)
def test_message(case):
    for args, kwargs, exception, pattern in case.errors:
        with pytest.raises(exception, match=pattern):
            case.op(*args, **kwargs)
