"""Reads `.npz` files: every size is checked against the bytes that are there, and no code runs."""

from __future__ import annotations

import math
import re

import numpy as np

from hornbeam.datasets._stream import FormatError, decode

MAX_BYTES = 1 << 30  # of one member, unpacked; the largest real one has 188 MB
_HEADER_BYTES = 4096
# what numpy.save writes, letter by letter; `L` is from Python 2
_HEADER = re.compile(
    r"\{'descr': '([<>|=][biufO]\d*)', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,18}L?, ?)*(?:\d{1,18}L?)?)\),? ?\}\s*"
)


def load(path, names):
    """The arrays of these names, in this order, from a `.npz` file.

    Raises:
        FormatError: for anything but the arrays asked for in the form in which NumPy saves them.
    """
    import zipfile
    import zlib

    try:
        with zipfile.ZipFile(path) as archive:
            return [_load_member(archive, name) for name in names]
    except FormatError as error:
        raise FormatError(f"{path} is not the data it should be: {error}") from error.__cause__
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise FormatError(f"{path} is damaged: {error}") from error


def _load_member(archive, name):
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise FormatError(
            f"no array {name!r}; it has {', '.join(archive.namelist()[:20])}"
        ) from None
    if info.file_size > MAX_BYTES:
        raise FormatError(f"array {name!r} would unpack to {info.file_size} bytes")
    if info.compress_type not in (0, 8):
        raise FormatError(f"array {name!r} is neither stored nor deflated")
    with archive.open(info) as stream:
        dtype, fortran, shape, used = _header(stream, name)
        rest = info.file_size - used
        count = math.prod(shape)
        # before anything is read, and in Python's integers, which do not overflow
        if not dtype.hasobject and count * dtype.itemsize != rest:
            raise FormatError(f"array {name!r} of shape {shape} and {dtype} in {rest} bytes")
        data = stream.read(rest + 1)
    if len(data) != rest:
        raise FormatError(f"array {name!r} has {len(data)} bytes and announces {rest}")
    if not dtype.hasobject:
        array = np.frombuffer(bytearray(data), dtype=dtype)  # writable
        return array.reshape(shape, order="F" if fortran else "C")
    array = decode(data)
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        raise FormatError(f"array {name!r} holds something other than its header says")
    return array


def _header(stream, name):
    """The header of a `.npy` stream: dtype, Fortran order, shape, and its own size."""
    magic = stream.read(8)
    width = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4}.get(magic)
    if width is None:
        raise FormatError(f"array {name!r} does not begin as NumPy's files do")
    length = int.from_bytes(stream.read(width), "little")
    if length > _HEADER_BYTES:
        raise FormatError(f"array {name!r} has a header of {length} bytes")
    text = stream.read(length).decode("latin-1")
    match = _HEADER.fullmatch(text)
    if match is None:
        raise FormatError(f"array {name!r} has the header {ascii(text[:200])}")
    code, fortran, numbers = match.groups()
    try:
        dtype = np.dtype(code)
    except TypeError:
        raise FormatError(f"array {name!r} of the dtype {code!r}") from None
    shape = tuple(int(n.strip(" L")) for n in numbers.split(",") if n.strip())
    return dtype, fortran == "True", shape, 8 + width + length
