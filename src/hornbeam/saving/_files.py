"""The one way into a saved file that nobody vouches for: limits, zip archives, JSON.

A size in a file is a request, not a fact: it is held against the bytes that are there before
anything is allocated. Together with `_hdf5` this is the only place that opens saved files.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import zlib
from dataclasses import dataclass

_CHUNK = 1 << 20
_RESERVED = {"CON", "PRN", "AUX", "NUL"} | {f"{d}{i}" for d in ("COM", "LPT") for i in range(10)}


class SavedFileError(ValueError):
    """A saved file that is damaged, of another format, or asks for what it must not have."""


@dataclass(frozen=True)
class Limits:
    """What one saved file may ask for.

    Attributes:
        json_bytes: a configuration, as text.
        json_depth: lists and objects inside each other, in a configuration.
        members: members of a `.keras` archive.
        directory_bytes: the directory of an archive.
        objects: groups and arrays of an HDF5 file.
        depth: groups inside each other.
        name_bytes: a single name.
        ratio: bytes asked for per byte stored, looked at beyond `free_bytes`.
        free_bytes: bytes up to which no ratio is asked for.
        attribute_bytes: a single HDF5 attribute, as stored.
    """

    json_bytes: int = 64 << 20
    json_depth: int = 400
    members: int = 10_000
    directory_bytes: int = 4 << 20
    objects: int = 1_000_000
    depth: int = 100
    name_bytes: int = 1024
    ratio: int = 200
    free_bytes: int = 256 << 20
    attribute_bytes: int = 64 << 20

    def budget(self, stored):
        return max(self.free_bytes, self.ratio * stored)


DEFAULT_LIMITS = Limits()


@contextlib.contextmanager
def open_file(path):
    """Opens a file for reading; only a regular one (a pipe would wait for ever)."""
    path = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, "File not found", path) from None
    if stat.S_ISDIR(mode) or not stat.S_ISREG(mode):
        raise SavedFileError(f"{path}: expected a file, got a folder, pipe or device")
    with open(path, "rb") as file:
        yield file


class Window(io.RawIOBase):
    """A part of an open file, as a file. A writable one may grow to the end of the whole."""

    def __init__(self, file, start, size=0, writable=False):
        super().__init__()
        self.file, self.start, self.size, self._writable = file, start, size, writable
        self.position = 0

    def readable(self):
        return True

    def writable(self):
        return self._writable

    def seekable(self):
        return True

    def tell(self):
        return self.position

    def seek(self, offset, whence=os.SEEK_SET):
        self.position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position}.get(whence, self.size)
        return self.position

    def readinto(self, buffer):
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self.position))
        self.file.seek(self.start + self.position)
        count = self.file.readinto(view[:count])
        self.position += count
        return count

    def write(self, data):
        data = memoryview(data).cast("B")
        self.file.seek(self.start + self.position)
        self.file.write(data)
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)

    def truncate(self, size=None):
        self.size = self.position if size is None else size
        self.file.truncate(self.start + self.size)
        return self.size


# --- JSON -------------------------------------------------------------------------------------


def parse_json(data, what, limits=DEFAULT_LIMITS):
    """The object in a JSON text (str or UTF-8 bytes).

    Raises:
        SavedFileError: no JSON object, too long, too deep, a key twice, text that is not Unicode.
    """
    if len(data) > limits.json_bytes:
        raise SavedFileError(f"{what}: JSON of {len(data)} bytes; at most {limits.json_bytes} read")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        found = json.loads(text, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise SavedFileError(f"{what}: JSON deeper than {limits.json_depth} levels") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, integers without end
        raise SavedFileError(f"{what}: not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise SavedFileError(f"{what}: expected a JSON object, got {type(found).__name__}")
    _check_depth(found, what, limits.json_depth)
    return found


def _unique_keys(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} occurs twice")
    for key in found:
        key.encode()  # a lone surrogate could not be written anywhere again
    return found


def _check_depth(found, what, limit):
    level, depth = [found], 0
    while level:
        depth += 1
        if depth > limit:
            raise SavedFileError(f"{what}: JSON deeper than {limit} levels")
        below = []
        for item in level:
            for value in item.values() if isinstance(item, dict) else item:
                if isinstance(value, (dict, list)):
                    below.append(value)
                elif isinstance(value, str) and not value.isascii():
                    try:
                        value.encode()
                    except UnicodeEncodeError:
                        raise SavedFileError(f"{what}: a text is not valid Unicode") from None
        level = below


# --- zip --------------------------------------------------------------------------------------


def check_name(name, what):
    """The parts of a path inside a file; refuses what could mean another place."""
    parts = name.split("/")
    for part in parts:
        if (
            part in ("", ".", "..")
            or len(part.encode("utf-8", "replace")) > 255
            or part[-1] in ". "
            or any(c in '\\:*?"<>|' or ord(c) < 32 for c in part)
            or part.split(".")[0].rstrip(" ").upper() in _RESERVED
        ):
            raise SavedFileError(f"{what}: name {ascii(name[:200])} is refused")
    return parts


class Archive:
    """A zip file with the members that a `.keras` file has, and no others.

    Args:
        file: open file.
        path: its name, for messages.
        fixed: the names that may occur.
        folder: a folder below which any name may occur.
        limits: `Limits`.
    """

    def __init__(self, file, path, fixed, folder=None, limits=DEFAULT_LIMITS):
        import zipfile

        self.path, self.limits, self._file = path, limits, file
        stored = os.fstat(file.fileno()).st_size
        with self._guarded():
            # the directory is read whole by zipfile, before anything can be said about it
            self._zip = zipfile.ZipFile(_SmallReads(file, limits.directory_bytes))
            infos = self._zip.infolist()
            if len(infos) > limits.members:
                raise SavedFileError(f"{len(infos)} members; at most {limits.members} read")
            self.members, lower, total = {}, set(), 0
            for info in infos:
                self._check_member(info, fixed, folder)
                if info.orig_filename.lower() in lower:
                    raise SavedFileError(f"member {ascii(info.filename)} occurs twice")
                lower.add(info.orig_filename.lower())
                total += info.file_size
                if not info.is_dir():
                    self.members[info.filename] = info
            self._check_overlap(infos, stored)
            for info in infos:
                self._check_header(info)
            if total > limits.budget(sum(info.compress_size for info in infos)):
                raise SavedFileError(
                    f"its members announce {total} bytes and {stored} are stored; a bomb, or very "
                    "compressible contents: pass other `limits` if you trust it"
                )

    def _check_member(self, info, fixed, folder):
        import zipfile

        name = info.orig_filename  # `filename` is cut at a NUL
        shown = ascii(name[:200])
        check_name(name[:-1] if name.endswith("/") else name, "zip member")
        if name not in fixed:
            inside = folder is not None and name.startswith(folder + "/")
            if not inside:
                raise SavedFileError(f"unexpected member {shown}; expected {', '.join(fixed)}")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR if name.endswith("/") else 0):
            raise SavedFileError(f"member {shown} is a link, a device or a pipe")
        if info.flag_bits & 0x1:
            raise SavedFileError(f"member {shown} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise SavedFileError(f"member {shown} is neither stored nor deflated")
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise SavedFileError(f"member {shown} has two sizes")

    @staticmethod
    def _check_overlap(infos, stored):
        """Members must not share stored bytes, the trick behind the best bombs."""
        end = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise SavedFileError("its members overlap")
            end = info.header_offset + 30 + len(info.orig_filename.encode()) + info.compress_size
        if end > stored:
            raise SavedFileError("a member reaches beyond the end of the file")

    def _check_header(self, info):
        """The header before the data must say what the directory says."""
        self._file.seek(info.header_offset)
        header = self._file.read(30)
        method, length = (int.from_bytes(header[i : i + 2], "little") for i in (8, 26))
        name = self._file.read(length)
        if header[:4] != b"PK\3\4" or method != info.compress_type:
            raise SavedFileError(f"member {ascii(info.filename)} has no header of its own")
        if name.decode("utf-8" if name.isascii() or header[7] & 8 else "cp437") != (
            info.orig_filename
        ):
            raise SavedFileError(f"member {ascii(info.filename)} is named otherwise in its header")

    def __contains__(self, name):
        return name in self.members

    def read(self, name, most):
        """The contents of a small member."""
        with self._guarded():
            info = self._info(name)
            if info.file_size > most:
                raise SavedFileError(f"member {name} has {info.file_size} bytes; {most} at most")
            return b"".join(self._chunks(info))

    def copy(self, name, out):
        """Writes a member to an open file."""
        with self._guarded():
            for chunk in self._chunks(self._info(name)):
                out.write(chunk)

    @contextlib.contextmanager
    def open(self, name):
        """A member as a file with random access, its checksum verified."""
        import tempfile
        import zipfile

        with self._guarded():
            info = self._info(name)
            if info.compress_type == zipfile.ZIP_STORED:
                for _ in self._chunks(info):  # verifies the checksum
                    pass
                self._file.seek(info.header_offset + 26)
                lengths = self._file.read(4)
                start = (
                    info.header_offset
                    + 30
                    + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
                )
                source = Window(self._file, start, info.file_size)
            else:
                source = tempfile.TemporaryFile()
                self.copy(name, source)
                source.seek(0)
        with source:
            yield source

    def _info(self, name):
        if name not in self.members:
            raise SavedFileError(f"member {name} is missing")
        return self.members[name]

    def _chunks(self, info):
        count = 0
        with self._zip.open(info) as source:
            while chunk := source.read(_CHUNK):
                count += len(chunk)
                if count > info.file_size:
                    break
                yield chunk
        if count != info.file_size:
            raise SavedFileError(
                f"member {ascii(info.filename)} announces {info.file_size} bytes and has another "
                "number"
            )

    @contextlib.contextmanager
    def _guarded(self):
        """Names the file in every complaint about its contents."""
        import struct
        import zipfile

        damaged = (
            zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError,
            NotImplementedError, RuntimeError, UnicodeError, IndexError, OverflowError,
        )  # fmt: skip
        try:
            yield
        except SavedFileError as error:
            if str(error).startswith(str(self.path)):
                raise
            raise SavedFileError(f"{self.path}: {error}") from None
        except damaged as error:
            raise SavedFileError(
                f"{self.path}: not a whole zip archive: {error}; expected a `.keras` file; it may "
                "be cut off or damaged"
            ) from error


class _SmallReads:
    """An open file of which no piece above a size is read at once."""

    def __init__(self, file, most):
        self._file, self._most = file, max(most, _CHUNK)

    def read(self, size=-1):
        if size is None or size < 0:
            size = os.fstat(self._file.fileno()).st_size - self._file.tell()
        if size > self._most:
            raise SavedFileError(f"a directory or header above {self._most} bytes")
        return self._file.read(size)

    def seek(self, *args):
        if args[0] < 0 and args[1:] in ((), (0,)):
            raise SavedFileError("an offset before the beginning of the file")
        return self._file.seek(*args)

    def tell(self):
        return self._file.tell()

    def seekable(self):
        return True

    def close(self):
        """The file belongs to whoever opened it."""
