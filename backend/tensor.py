"""Tensor: concrete values, immutable by value; and the operators that all tensor types share."""

from __future__ import annotations

import numpy as np

from hornbeam.backend import _core, devices, dtypes

#: Public ops by name. `hornbeam.ops` fills it when it is imported, so that operators and gradients
#: in the layers below can reach them without importing upwards.
OPS: dict = {}


def _binary(name, swapped=False):
    if swapped:
        return lambda self, other: OPS[name](other, self)

    def method(self, other):
        if not _is_operand(other):
            return NotImplemented
        return OPS[name](self, other)

    return method


def _is_operand(x):
    return isinstance(x, (TensorLike, int, float, bool, np.ndarray, np.generic, list, tuple)) or (
        hasattr(x, "__array__")
    )


def _unary(name):
    return lambda self: OPS[name](self)


class TensorLike:
    """Operators of Tensor, Value, KerasTensor and Variable: each calls the op of the same name."""

    __slots__ = ()
    __array_priority__ = 1000
    __array_ufunc__ = None  # numpy_array + tensor asks the tensor

    __add__, __radd__ = _binary("add"), _binary("add", True)
    __sub__, __rsub__ = _binary("subtract"), _binary("subtract", True)
    __mul__, __rmul__ = _binary("multiply"), _binary("multiply", True)
    __truediv__, __rtruediv__ = _binary("true_divide"), _binary("true_divide", True)
    __floordiv__, __rfloordiv__ = _binary("floor_divide"), _binary("floor_divide", True)
    __mod__, __rmod__ = _binary("mod"), _binary("mod", True)
    __pow__, __rpow__ = _binary("power"), _binary("power", True)
    __matmul__, __rmatmul__ = _binary("matmul"), _binary("matmul", True)
    __and__, __rand__ = _binary("bitwise_and"), _binary("bitwise_and", True)
    __or__, __ror__ = _binary("bitwise_or"), _binary("bitwise_or", True)
    __xor__, __rxor__ = _binary("bitwise_xor"), _binary("bitwise_xor", True)
    __lshift__, __rshift__ = _binary("left_shift"), _binary("right_shift")
    __lt__, __le__ = _binary("less"), _binary("less_equal")
    __gt__, __ge__ = _binary("greater"), _binary("greater_equal")
    __neg__, __abs__, __invert__ = _unary("negative"), _unary("absolute"), _unary("bitwise_not")

    def __eq__(self, other):
        return OPS["equal"](self, other) if _is_operand(other) else NotImplemented

    def __ne__(self, other):
        return OPS["not_equal"](self, other) if _is_operand(other) else NotImplemented

    __hash__ = object.__hash__

    def __pos__(self):
        return self

    def __round__(self, ndigits=None):
        return OPS["round"](self, ndigits or 0)

    def __getitem__(self, key):
        return OPS["getitem"](self, key)

    shape: tuple

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def T(self):
        return OPS["transpose"](self)

    def astype(self, dtype):
        return OPS["cast"](self, dtype)

    def reshape(self, *shape):
        return OPS["reshape"](
            self, shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        )


class Tensor(TensorLike):
    """Values in memory, with shape and dtype. Immutable: operations make new tensors.

    Made by `hornbeam.ops.convert_to_tensor` and by every op on concrete values. `np.asarray(t)` is a
    read-only view without a copy; `t.numpy()` is a copy that may be changed.
    """

    __slots__ = ("core", "shape", "dtype", "_keras_mask", "__weakref__")

    def __init__(self, core: _core.Tensor):
        self.core = core
        self.shape = core.shape
        self.dtype = core.dtype

    @property
    def device(self) -> str:
        """Where the values are: `"cpu:0"`, `"cuda:0"`."""
        return self.core.device

    def to(self, device: str) -> Tensor:
        """The same values on another device (itself, if it lives there)."""
        if self.core.device == device:
            return self
        return Tensor(self.core.to(devices.canonical(device)))

    def _view(self, writable=False) -> np.ndarray:
        a = self.core.array(writable)
        return _from_bits(a) if self.dtype == "bfloat16" else a

    def numpy(self) -> np.ndarray:
        """Copy of the values as a NumPy array (bfloat16: see `convert_to_numpy`)."""
        a = self.core.copy()
        return _from_bits(a) if self.dtype == "bfloat16" else a

    def __array__(self, dtype=None, copy=None):
        a = self._view()
        if dtype is not None and a.dtype != dtype:
            return a.astype(dtype)
        return np.array(a) if copy else a

    def __dlpack__(self, **kwargs):
        view = self.core.array()
        if self.dtype == "bfloat16":
            raise BufferError("tensor: NumPy cannot exchange bfloat16; cast to float32 first")
        try:  # consumers that know read-only tensors (DLPack 1.0) share the memory
            return view.__dlpack__(**kwargs)
        except (BufferError, TypeError):  # the others may write, so they get a copy
            kwargs.pop("max_version", None)
            return np.array(view).__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return (1, 0)  # kDLCPU

    def _scalar(self):
        if self.size != 1:
            raise TypeError(
                f"tensor: only a tensor of one element converts to a Python number; "
                f"got shape {self.shape}"
            )
        return self._view().reshape(())[()]

    def item(self):
        return self._scalar().item()

    def tolist(self):
        return self._view().tolist()

    def __float__(self):
        return float(self._scalar())

    def __int__(self):
        return int(self._scalar())

    def __index__(self):
        if not (dtypes.is_int(self.dtype) and self.shape == ()):
            raise TypeError(
                f"tensor: only an integer tensor of rank 0 is an index; "
                f"got shape {self.shape}, dtype {self.dtype}"
            )
        return int(self._scalar())

    def __bool__(self):
        if self.size != 1:
            raise ValueError(
                f"tensor: the truth value of a tensor of shape {self.shape} is ambiguous; "
                "use ops.any(x) or ops.all(x)"
            )
        return bool(self._scalar())

    def __len__(self):
        if not self.shape:
            raise TypeError("tensor: len() of a tensor of rank 0")
        return self.shape[0]

    def __iter__(self):
        for i in range(len(self)):
            yield self[i]

    def __repr__(self):
        return f"<hornbeam.Tensor shape={self.shape}, dtype={self.dtype}, value={self._view()}>"

    def __format__(self, spec):
        return format(self.item() if self.shape == () else repr(self), spec)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return (from_numpy, (np.array(self.core.array()), self.dtype))


def _from_bits(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits as ml_dtypes.bfloat16 where that package is loaded already, else as float32."""
    import sys

    ml_dtypes = sys.modules.get("ml_dtypes")
    if ml_dtypes is not None:
        return bits.view(ml_dtypes.bfloat16)
    return np.left_shift(bits, 16, dtype=np.uint32, out=np.empty(bits.shape, np.uint32)).view(
        np.float32
    )


def _to_bits(a: np.ndarray) -> np.ndarray:
    """float32 rounded to nearest even as bfloat16 bits."""
    u = np.ascontiguousarray(a, np.float32).view(np.uint32)
    rounded = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)
    # ascontiguousarray gives a scalar an axis
    return np.where(np.isnan(a), np.uint16(0x7FC0), rounded.reshape(np.shape(a)))


def from_numpy(array: np.ndarray, dtype: str | None = None, copy: bool = True) -> Tensor:
    """Tensor of a NumPy array; `copy=False` shares memory that the caller must not change."""
    array = np.asarray(array)
    name = dtype or standard_name(array)
    if name == "bfloat16":
        if array.dtype == np.uint16:
            bits = array
        elif array.dtype.name == "bfloat16":
            bits = array.view(np.uint16)
        else:
            bits = _to_bits(array.astype(np.float32, order="C"))
        return Tensor(_core.Tensor.from_numpy(np.asarray(bits, order="C"), name, copy))
    wanted = np.dtype(name)
    if array.dtype != wanted:
        if array.dtype.kind == "f" and wanted.kind in "iu":
            with np.errstate(invalid="ignore"):
                array = array.astype(wanted, order="C")
        else:
            with np.errstate(over="ignore"):  # too large for float16: inf, as on any device
                array = array.astype(wanted, order="C")
        copy = False
    elif not (array.flags.c_contiguous and array.dtype.isnative):
        array = np.array(array, wanted, order="C")
        copy = False
    return Tensor(_core.Tensor.from_numpy(array, name, copy))


def filled(shape: tuple[int, ...], number: Tensor) -> Tensor:
    """Tensor of `shape` that holds `number`, of rank 0, everywhere: written once at most, not copied."""
    core, bits = _core.Tensor.zeros(number.dtype, shape), number.core.array()
    if any(bits.tobytes()):
        core.array(writable=True)[...] = bits
    return Tensor(core).to(number.device)


def from_dlpack(x) -> Tensor:
    """Tensor of any object with `__dlpack__` (torch, jax, cupy on the host), sharing its memory.

    The memory must not be changed while the tensor is in use.

    Example:

    >>> import numpy as np
    >>> from_dlpack(np.ones(2)).tolist()
    [1.0, 1.0]
    """
    return from_numpy(np.from_dlpack(x), copy=False)


#: The usual case of `standard_name`, which is on the way of every call with arrays.
_NAMES = {np.dtype(name): name for name in dtypes.ALL if name != "bfloat16"}


def standard_name(array: np.ndarray) -> str:
    name = _NAMES.get(array.dtype)
    if name is not None:
        return name
    try:
        return dtypes.standardize_dtype(array.dtype)
    except ValueError:
        hint = ""
        if array.dtype == object:
            hint = " (a ragged list, or None among the values?)"
        raise ValueError(
            f"convert_to_tensor: expected numbers or booleans, got an array of dtype "
            f"{array.dtype}{hint}"
        ) from None
