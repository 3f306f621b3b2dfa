"""Dtypes by name, and Keras's promotion rules.

A dtype is a string ("float32"). The Python types `bool`, `int` and `float` stand for scalars of
weak type, which take over the dtype of what they meet.
"""

from __future__ import annotations

import functools

import numpy as np

_ITEM_BYTES = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}
ALL = tuple(_ITEM_BYTES)
_SPOKEN = {
    "float": "float32",
    "half": "float16",
    "double": "float64",
    "int": "int32",
    "long": "int64",
}
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTS = tuple(d for d in ALL if "int" in d)

# The lattice of JAX's type promotion, which Keras follows: an edge points to the next wider type.
_WIDER = {
    "bool": ("weak int",),
    "weak int": ("uint8", "int8"),
    "uint8": ("int16", "uint16"),
    "uint16": ("int32", "uint32"),
    "uint32": ("int64", "uint64"),
    "uint64": ("weak float",),
    "int8": ("int16",),
    "int16": ("int32",),
    "int32": ("int64",),
    "int64": ("weak float",),
    "weak float": ("bfloat16", "float16"),
    "bfloat16": ("float32",),
    "float16": ("float32",),
    "float32": ("float64",),
    "float64": (),
}
_WEAK = {bool: "bool", int: "weak int", float: "weak float"}


class _Config:
    floatx = "float32"
    epsilon = 1e-7
    image_data_format = "channels_last"


def floatx() -> str:
    """Default float dtype, "float32" unless set."""
    return _Config.floatx


def set_floatx(value: str) -> None:
    if value not in FLOATS:
        raise ValueError(f"set_floatx: expected one of {FLOATS}, got {value!r}")
    _Config.floatx = value


def epsilon() -> float:
    """Small number that keeps divisions and logarithms finite, 1e-7 unless set."""
    return _Config.epsilon


def set_epsilon(value: float) -> None:
    _Config.epsilon = float(value)


def image_data_format() -> str:
    """ "channels_last" or "channels_first"."""
    return _Config.image_data_format


def set_image_data_format(value: str) -> None:
    if value not in ("channels_last", "channels_first"):
        raise ValueError(
            f'set_image_data_format: expected "channels_last" or "channels_first", got {value!r}'
        )
    _Config.image_data_format = value


def is_float(dtype: str) -> bool:
    return dtype in FLOATS


def is_int(dtype: str) -> bool:
    return "int" in dtype


def item_bytes(dtype: str) -> int:
    return _ITEM_BYTES[dtype]


def standardize_dtype(dtype) -> str:
    """Name of a dtype given as a string, NumPy dtype, Python type or foreign dtype object."""
    if isinstance(dtype, str) and dtype in _ITEM_BYTES:
        return dtype
    if dtype is None:
        return floatx()
    if dtype is bool:
        return "bool"
    if dtype is int:
        return "int32"
    if dtype is float:
        return floatx()
    if isinstance(dtype, str) and dtype in _SPOKEN:
        return _SPOKEN[dtype]
    # torch.float32, tf.float32, jnp.float32, np.float32, np.dtype("float32"): by their name
    for name in (
        getattr(dtype, "name", None),
        getattr(dtype, "__name__", None),
        str(dtype).rsplit(".", 1)[-1],
    ):
        if name in _ITEM_BYTES:
            return name
        if name == "bool_":
            return "bool"
    raise ValueError(f"dtype: expected one of {', '.join(ALL)}, got {dtype!r}")


def to_numpy_dtype(dtype: str) -> np.dtype:
    """NumPy dtype that carries the bits of `dtype` (bfloat16: uint16)."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


@functools.cache
def _upper_bounds(name: str) -> frozenset[str]:
    bounds = {name}
    for wider in _WIDER[name]:
        bounds |= _upper_bounds(wider)
    return frozenset(bounds)


@functools.lru_cache(maxsize=4096)
def _join(names: tuple[str, ...]) -> str:
    common = frozenset.intersection(*(_upper_bounds(n) for n in names))
    for name in common:  # the least upper bound is the one that has all others above it
        if _upper_bounds(name) == common:
            return name
    raise ValueError(f"result_type: no common dtype of {names}")


def result_type(*dtypes) -> str:
    """Dtype that operands of these dtypes (or Python scalar types) are promoted to.

    Example:

    >>> result_type("int32", "float16")
    'float16'
    >>> result_type("int8", int), result_type("int64", float)
    ('int8', 'float32')
    """
    if not dtypes:
        return floatx()
    names = tuple(_WEAK[d] if d in _WEAK else standardize_dtype(d) for d in dtypes)
    joined = _join(names)
    if joined == "weak int":
        return "int32"
    if joined == "weak float":
        return floatx()
    return joined
