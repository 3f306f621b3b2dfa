"""How exact products of float32 are. Part of the key of every compiled program."""

from __future__ import annotations

from hornbeam.backend import _core

LEVELS = ("highest", "high", "medium")

#: The setting, as the core knows it too: kernels ask for it while a program is prepared.
current = "highest"


def set_matmul_precision(precision: str) -> None:
    """Set how exact float32 matrix products and convolutions must be.

    Less exact is never slower, and may be no different: processors with AVX512_BF16 take bfloat16
    products at "medium", AMX (HORNBEAM_ISA=amx) at each setting; all others, and "high" without
    AMX, compute in float32. float64, bfloat16 and float16 are not concerned: the last two are
    multiplied exactly and summed in float32 always.
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
    if precision not in LEVELS:
        raise ValueError(
            f"set_matmul_precision: unknown precision; expected one of {LEVELS}, got {precision!r}"
        )
    _core.set_matmul_precision(LEVELS.index(precision))
    current = precision


def matmul_precision() -> str:
    """How exact float32 matrix products are: `"highest"`, `"high"` or `"medium"`."""
    return current
