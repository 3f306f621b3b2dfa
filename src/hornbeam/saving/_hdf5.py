"""HDF5 files: a reader that checks the whole tree before it reads an array, and a writer.

HDF5 can point out of itself (external links, external and virtual storage) and can declare what it
does not store. None of that occurs in a model, so none of it is followed: links are looked at
before objects, the description of an array before its data. What libhdf5 itself does with a
damaged file is beyond any check made here.
"""

from __future__ import annotations

import contextlib
import math
import os

import numpy as np

from hornbeam.saving._files import DEFAULT_LIMITS, SavedFileError

_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
_ATTRIBUTE_BYTES = 64_512  # what fits into the header of an object, as Keras counts it
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(file):
    """Whether an open file begins as an HDF5 file does."""
    file.seek(0)
    return file.read(8) == _SIGNATURE


@contextlib.contextmanager
def open_tree(file, path, limits=DEFAULT_LIMITS):
    """The checked contents of an open HDF5 file, as a `Tree`.

    Args:
        file: file open for reading, with random access.
        path: its name, for messages.
        limits: `Limits`.

    Raises:
        SavedFileError: not HDF5, damaged, or with anything that is not a plain array or a group.
    """
    import h5py

    if not is_hdf5(file):
        raise SavedFileError(f"{path}: not an HDF5 file; it may be cut off or of another format")
    with _as_saved_file_error(path):
        handle = h5py.File(file, "r")
    try:
        with _as_saved_file_error(path):
            tree = Tree(handle, path, file.seek(0, os.SEEK_END), limits)
        yield tree
    finally:
        with contextlib.suppress(Exception):
            handle.close()


@contextlib.contextmanager
def _as_saved_file_error(path):
    try:
        yield
    except SavedFileError as error:
        if str(error).startswith(str(path)):
            raise
        raise SavedFileError(f"{path}: {error}") from None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise SavedFileError(f"{path}: damaged HDF5 file: {error}") from error


class Array:
    """One stored array: `shape`, `dtype` and `nbytes` are known, `read()` brings the values."""

    def __init__(self, tree, name, dataset, dtype):
        self._tree, self.name, self._dataset = tree, name, dataset
        self.shape, self.dtype = dataset.shape, dtype
        self.nbytes = math.prod(self.shape) * dtype.itemsize

    def read(self):
        import h5py

        with _as_saved_file_error(self._tree.path):
            out = np.empty(self.shape, self.dtype)
            if out.size:
                self._dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, out)
        return (
            self._bfloat16(out)
            if self.dtype.kind == "V"
            else out.astype(self.dtype.newbyteorder("="), copy=False)
        )

    @staticmethod
    def _bfloat16(raw):
        """Two opaque bytes are the upper half of a float32."""
        wide = raw.view(np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(raw.shape)


class Tree:
    """The groups and arrays of an HDF5 file by full name, all checked before any array is read.

    Attributes:
        arrays: `Array` by name, as `"layers/dense/vars/0"`.
        groups: the names of the groups; the root is `""`.
        nbytes: bytes of all arrays together.
    """

    def __init__(self, handle, path, stored, limits):
        import h5py

        self.path, self._stored, self._limits = path, stored, limits
        self.arrays, self.groups, self.nbytes = {}, {}, 0
        self._kept = self._chunked = 0
        root = h5py.h5g.open(handle.id, b"/")
        seen = {h5py.h5o.get_info(root).addr}
        pending = [("", root, 0)]
        count = 0
        while pending:
            name, group, depth = pending.pop()
            self.groups[name] = group
            if depth > limits.depth:
                raise SavedFileError(f"groups deeper than {limits.depth} levels")
            count += group.get_num_objs()
            if count > limits.objects:
                raise SavedFileError(f"more than {limits.objects} groups and arrays")
            for raw in _hard_links(group, name):
                inner = f"{name}/{_text(raw, name)}".lstrip("/")
                child = h5py.h5o.open(group, raw)
                # a second hard link to an object: a cycle, or the same bytes many times over
                address = h5py.h5o.get_info(child).addr
                if address in seen:
                    raise SavedFileError(f"'{inner}' is a second name of another object")
                seen.add(address)
                if isinstance(child, h5py.h5g.GroupID):
                    pending.append((inner, child, depth + 1))
                elif isinstance(child, h5py.h5d.DatasetID):
                    self._add(inner, child)
                else:
                    raise SavedFileError(f"'{inner}' is a named type, not a group or an array")

    def _add(self, name, dataset):
        import h5py

        dtype = _number_type(name, dataset)
        array = Array(self, name, dataset, dtype)
        properties = dataset.get_create_plist()
        layout = properties.get_layout()
        if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            raise SavedFileError(f"array '{name}' is virtual: it is made of other files")
        if properties.get_external_count():
            raise SavedFileError(f"array '{name}' keeps its data in another file")
        stored = dataset.get_storage_size()
        self.nbytes += array.nbytes
        self._kept += stored
        if self._kept > self._stored:
            raise SavedFileError(
                f"array '{name}' reaches beyond the end of the file, which may be cut off"
            )
        if layout != h5py.h5d.CHUNKED:
            if stored != array.nbytes:
                raise SavedFileError(
                    f"array '{name}' of shape {array.shape} declares {array.nbytes} bytes and "
                    f"stores {stored}"
                )
        else:
            self._check_chunks(array, properties)
        if self.nbytes > self._limits.budget(self._stored):
            raise SavedFileError(
                f"its arrays declare {self.nbytes} bytes or more in a file of {self._stored}; a "
                "bomb, or very compressible contents: pass other `limits` if you trust it"
            )
        self.arrays[name] = array

    def _check_chunks(self, array, properties):
        for index in range(properties.get_nfilters()):
            code = properties.get_filter(index)[0]
            if code not in _FILTERS:  # libhdf5 would look for a plug-in
                raise SavedFileError(
                    f"array '{array.name}' is packed by filter {code}; expected one of "
                    f"{', '.join(_FILTERS.values())}"
                )
        chunk = math.prod(properties.get_chunk()) * array.dtype.itemsize
        if chunk > max(4 * array.nbytes, 16 << 20):
            raise SavedFileError(
                f"array '{array.name}' of {array.nbytes} bytes is stored in chunks of {chunk} bytes"
            )

    def below(self, group):
        """The arrays directly in `group`, by their own name."""
        prefix = f"{group}/" if group else ""
        return {name: self.arrays[prefix + name] for name in self._children.get(group, ())}

    @property
    def _children(self):
        if "_index" not in self.__dict__:
            self._index = {}
            for name in self.arrays:
                group, _, last = name.rpartition("/")
                self._index.setdefault(group, []).append(last)
        return self._index

    def attribute(self, group, name):
        """An attribute of a group: text, list of texts, or array of numbers; None if missing."""
        import h5py

        with _as_saved_file_error(self.path):
            where = self.groups[group]
            if not h5py.h5a.exists(where, name.encode()):
                return None
            attribute = h5py.h5a.open(where, name.encode())
            kind = attribute.get_type()
            if math.prod(attribute.shape) * kind.get_size() > self._limits.attribute_bytes:
                raise SavedFileError(f"attribute '{name}' of '{group}' is too large")
            if len(attribute.shape) > 1:
                raise SavedFileError(f"attribute '{name}' of '{group}' is not a list")
            if isinstance(kind, h5py.h5t.TypeStringID):
                self._check_texts(group, name, attribute)
                value = h5py.AttributeManager(h5py.Group(where)).get(name)
                if isinstance(value, (str, bytes)):
                    return _text(value, name)
                return [_text(v, name) for v in np.asarray(value, object).ravel()]
            if isinstance(kind, (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)):
                out = np.empty(attribute.shape, kind.dtype)
                if out.size:
                    attribute.read(out)
                return out
            raise SavedFileError(f"attribute '{name}' of '{group}' is neither text nor numbers")

    def _check_texts(self, group, name, attribute):
        """Many references to one long text would be many copies of it in memory."""
        points = math.prod(attribute.shape)
        if attribute.get_type().is_variable_str():
            longest = self._stored - self._kept  # the arrays take up the rest
            if points > 1 and points * longest > max(64 << 30, self._limits.budget(self._stored)):
                raise SavedFileError(f"attribute '{name}' of '{group}' is too large")

    def texts(self, group, name):
        """An attribute that is a list of texts, perhaps in pieces `name0`, `name1`, …"""
        value = self.attribute(group, name)
        if value is None:
            value, index = [], 0
            while (piece := self.attribute(group, f"{name}{index}")) is not None:
                value.extend([piece] if isinstance(piece, str) else piece)
                index += 1
            if index == 0:
                return None
        if isinstance(value, str):
            return [value]
        if isinstance(value, np.ndarray):
            if value.size:
                raise SavedFileError(
                    f"{self.path}: attribute '{name}' of '{group}': expected texts, got numbers"
                )
            return []
        if len(value) > self._limits.objects or any(not isinstance(v, str) for v in value):
            raise SavedFileError(f"{self.path}: attribute '{name}' of '{group}' is not a list")
        return list(value)


def _hard_links(group, name):
    """The names in a group, once it is known that all of them lead into this very file."""
    import h5py

    found = []

    def look(raw, info):
        if info.type != h5py.h5l.TYPE_HARD:
            kind = "soft" if info.type == h5py.h5l.TYPE_SOFT else "external"
            # an exception inside of this callback would be lost
            found.append((kind, raw))
            return True
        found.append((None, raw))

    group.links.iterate(look, info=True)
    for kind, raw in found:
        if kind is not None:
            raise SavedFileError(f"'{name}/{_text(raw, name)}' is {kind} link, which is refused")
    return [raw for _, raw in found]


def _text(raw, where):
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise SavedFileError(f"a name in '{where}' is not valid UTF-8: {raw[:80]!r}") from None


def _number_type(name, dataset):
    """The NumPy dtype of an array of plain numbers."""
    import h5py

    kind = dataset.get_type()
    dtype = None
    numbers = (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID, h5py.h5t.TypeEnumID)
    if isinstance(kind, (*numbers, h5py.h5t.TypeOpaqueID)):
        dtype = kind.dtype
        if dtype.kind == "V":
            dtype = dtype if dtype == np.dtype("V2") and _is_bfloat16(dataset) else None
        elif h5py.check_enum_dtype(dtype) is not None or dtype.kind not in "biuf":
            dtype = None
        elif dtype.itemsize > 8:
            dtype = None
    if dtype is None or dataset.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        raise SavedFileError(
            f"array '{name}': expected numbers of at most 8 bytes, got HDF5 type "
            f"{type(kind).__name__.removeprefix('Type').removesuffix('ID').lower()}"
        )
    return dtype


def _is_bfloat16(dataset):
    import h5py

    if not h5py.h5a.exists(dataset, b"dtype"):
        return False
    attribute = h5py.h5a.open(dataset, b"dtype")
    if attribute.shape != () or attribute.get_type().get_size() > 64:
        return False
    value = h5py.AttributeManager(h5py.Dataset(dataset)).get("dtype")
    return value in ("bfloat16", b"bfloat16")


# --- writing ----------------------------------------------------------------------------------


@contextlib.contextmanager
def create(file):
    """A `Writer` of a new HDF5 file into an open file.

    libhdf5 cannot close a file whose last writes fail, and would try again when the process ends.
    So it is never told: an error of the disk is kept, and raised as soon as Python is back.
    """
    import h5py

    sink = _Sink(file)
    handle = h5py.File(sink, "w")
    try:
        yield Writer(handle, sink)
    finally:
        handle.close()
    sink.check()


class Writer:
    """Groups, arrays and attributes of a new HDF5 file, the way Keras stores them."""

    def __init__(self, handle, sink):
        self._handle, self._sink = handle, sink

    def group(self, name):
        if name:
            self._handle.require_group(_writable(name))

    def array(self, name, value, dtype=None):
        """A contiguous array; bfloat16 as two opaque bytes."""
        value = np.asarray(value)
        name = _writable(name)
        if str(dtype or value.dtype) == "bfloat16":
            bits = np.asarray(value, np.float32, order="C").view(np.uint32) >> 16
            raw = bits.astype(np.uint16).view("V2")
            dataset = self._handle.create_dataset(name, data=raw)
            dataset.attrs["dtype"] = "bfloat16"
        else:
            self._handle.create_dataset(name, data=value)
        self._sink.check()

    def attribute(self, group, name, value):
        """Text, or a list of texts: a long list goes into pieces `name0`, `name1`, …"""
        attributes = self._handle[group or "/"].attrs
        if isinstance(value, str):
            attributes[name] = value
        elif len(value) == 0:
            attributes[name] = np.zeros(0)
        elif len(value) * 16 <= _ATTRIBUTE_BYTES:  # HDF5 keeps a reference of 16 bytes to each
            attributes[name] = list(value)
        else:
            size = _ATTRIBUTE_BYTES // 16
            for index, first in enumerate(range(0, len(value), size)):
                attributes[f"{name}{index}"] = list(value[first : first + size])
        self._sink.check()


def _writable(name):
    """`name`, if HDF5 would take every part of it for a name."""
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise ValueError(f"saving: {name!r} cannot be the name of a group or an array")
    return name


class _Sink:
    """A file whose errors wait until `check` is called."""

    def __init__(self, file):
        self._file, self.error = file, None

    def check(self):
        if self.error is not None:
            raise self.error

    def _try(self, action, otherwise):
        if self.error is None:
            try:
                return action()
            except OSError as error:
                self.error = error
        return otherwise

    def write(self, data):
        return self._try(lambda: self._file.write(data), len(data))

    def read(self, size=-1):  # h5py asks for it, and calls readinto
        return self._try(lambda: self._file.read(size), b"")

    def readinto(self, buffer):
        return self._try(lambda: self._file.readinto(buffer), len(buffer))

    def seek(self, offset, whence=os.SEEK_SET):
        return self._try(lambda: self._file.seek(offset, whence), offset)

    def tell(self):
        return self._try(self._file.tell, 0)

    def truncate(self, size=None):
        return self._try(lambda: self._file.truncate(size), size or 0)

    def flush(self):
        return self._try(self._file.flush, None)
