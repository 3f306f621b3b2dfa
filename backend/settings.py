"""The settings that compiled programs depend on, and the part of a program's key that they are.

Every cache of programs takes `key(…)` into its keys, so that a changed setting finds another program.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from hornbeam.backend import _core, devices

PRECISIONS = ("highest", "high", "medium")


class Settings(NamedTuple):
    """Immutable; `current` is replaced as a whole when one of them is set."""

    #: How exact products of float32 are. The core knows it too: kernels ask for it while a program
    #: is prepared.
    matmul_precision: str
    #: Bound on the temporaries of a program in bytes, or None.
    memory_budget: int | None


def _from_environment() -> int | None:
    text = os.environ.get("HORNBEAM_MEMORY_BUDGET", "")
    if not text:
        return None
    if not text.isdecimal() or not int(text):
        raise ValueError(
            f"HORNBEAM_MEMORY_BUDGET: expected a positive number of bytes, got {text!r}"
        )
    return int(text)


current = Settings("highest", _from_environment())


def key(*arrays) -> tuple:
    """What a program over such arrays depends on besides its own arguments."""
    if not devices.in_use:
        return current
    scope = devices.scope_device()
    return (current, devices.moves, scope, *[getattr(a, "device", None) for a in arrays])


def set_matmul_precision(precision: str) -> None:
    """Set how exact float32 matrix products and convolutions must be.

    Less exact is never slower, and may be no different: processors with AVX512_BF16 take bfloat16
    products at "medium", AMX at each setting; all others, and "high" without
    AMX, compute in float32. float64, bfloat16 and float16 are not concerned: the last two are
    multiplied exactly (float16 on AMX: to 2^-18 of a product) and summed in float32 always.
    3x3 convolutions of float32 use Winograd's algorithm where it is faster (Lavin and Gray, 2016).
    Its errors are relative to the largest pixels of a tile of outputs, not of each output's window.
    At "highest" the tiles are so chosen that errors are, on the whole, about those of running
    float32 sums (at most 1.3 times); below, the fastest are taken.

    Args:
        precision: `"highest"` (the default): products within the bound of float32 multiply-adds;
            `"high"`: about 16 bits of mantissa in the products; `"medium"`: bfloat16 products, 8
            bits. Sums are float32 in each. The names are PyTorch's.

    Raises:
        ValueError: another name.

    Example:

    >>> import hornbeam as keras
    >>> keras.config.set_matmul_precision("high")
    >>> keras.config.matmul_precision()
    'high'
    >>> keras.config.set_matmul_precision("highest")
    """
    global current
    if precision not in PRECISIONS:
        raise ValueError(
            f"set_matmul_precision: unknown precision; expected one of {PRECISIONS}, got {precision!r}"
        )
    _core.set_matmul_precision(PRECISIONS.index(precision))
    current = current._replace(matmul_precision=precision)


def matmul_precision() -> str:
    """How exact float32 matrix products are: `"highest"`, `"high"` or `"medium"`."""
    return current.matmul_precision


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
    global current
    if bytes is not None and (isinstance(bytes, bool) or not hasattr(bytes, "__index__")):
        raise ValueError(f"set_memory_budget: expected an integer or None, got {bytes!r}")
    value = None if bytes is None else bytes.__index__()
    if value is not None and value <= 0:
        raise ValueError(f"set_memory_budget: expected a positive number of bytes, got {value}")
    current = current._replace(memory_budget=value)


def memory_budget() -> int | None:
    """The bound on the temporaries of each program in bytes, or None."""
    return current.memory_budget
