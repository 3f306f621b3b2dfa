"""How much memory the temporaries of a program may take. Part of the key of compiled functions."""

from __future__ import annotations

import os


def _from_environment() -> int | None:
    text = os.environ.get("HORNBEAM_MEMORY_BUDGET", "")
    if not text:
        return None
    if not text.isdecimal() or not int(text):
        raise ValueError(
            f"HORNBEAM_MEMORY_BUDGET: expected a positive number of bytes, got {text!r}"
        )
    return int(text)


#: Bytes, or None.
budget: int | None = _from_environment()


def set_memory_budget(bytes: int | None) -> None:
    """Bound the memory for the temporaries of each compiled program.

    Where a program would need more, values of the forward pass are computed again when the backward
    pass reads them, cheapest first, until it fits. The results have the same bits. What cannot be
    brought within the budget is run all the same, with a warning that names what takes the memory.
    Variables, inputs and results are not counted. The environment variable HORNBEAM_MEMORY_BUDGET
    gives the first value.

    Sources: Abadi et al., TensorFlow: Large-Scale Machine Learning on Heterogeneous Systems, 2015,
    section 5.2; Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.

    Args:
        bytes: the bound, or None for none.

    Raises:
        ValueError: not a positive integer.

    Example:

    >>> import hornbeam as keras
    >>> keras.config.set_memory_budget(512 * 2**20)
    >>> keras.config.memory_budget()
    536870912
    >>> keras.config.set_memory_budget(None)
    """
    global budget
    if bytes is not None and (isinstance(bytes, bool) or not hasattr(bytes, "__index__")):
        raise ValueError(f"set_memory_budget: expected an integer or None, got {bytes!r}")
    value = None if bytes is None else bytes.__index__()
    if value is not None and value <= 0:
        raise ValueError(f"set_memory_budget: expected a positive number of bytes, got {value}")
    budget = value


def memory_budget() -> int | None:
    """The bound on the temporaries of each program in bytes, or None."""
    return budget
