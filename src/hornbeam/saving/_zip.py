"""A zip file of stored members, written straight into the target, one of them in random order.

The standard library writes a member from front to end only. HDF5 is written in any order, so the
header of its member is left open, the contents are written in place behind it, and checksum and
size are filled in afterwards: no second copy on disk or in memory.
"""

from __future__ import annotations

import contextlib
import struct
import time
import zlib

from hornbeam.saving._files import Window

_CHUNK = 1 << 20
_MOST = 0xFFFFFFFF  # the largest 32-bit field: "see the 64-bit fields"


class ArchiveWriter:
    """Members of a new zip file in the open file `file`; `close` writes the directory."""

    def __init__(self, file):
        self._file, self._entries, self._end = file, [], 0
        t = time.localtime()
        self._date = (max(t[0], 1980) - 1980) << 9 | t[1] << 5 | t[2]
        self._time = t[3] << 11 | t[4] << 5 | t[5] // 2

    def add(self, name, data):
        with self.open(name) as out:
            out.write(data)

    @contextlib.contextmanager
    def open(self, name):
        """A file of unknown size that becomes the member `name`."""
        name = name.encode()
        offset = self._end
        start = offset + 30 + len(name) + 20
        self._file.seek(offset)
        self._file.write(bytes(start - offset))
        window = Window(self._file, start, writable=True)
        yield window
        size, checksum, left = window.size, 0, window.size
        self._file.seek(start)
        while left:
            chunk = self._file.read(min(_CHUNK, left))
            if not chunk:
                raise OSError(f"the end of {name.decode()} is missing on disk")
            checksum = zlib.crc32(chunk, checksum)
            left -= len(chunk)
        large = size >= _MOST
        self._file.seek(offset)
        self._file.write(
            struct.pack(
                "<4s5H3I2H",
                b"PK\3\4",
                45,
                self._flags(name),
                0,
                self._time,
                self._date,
                checksum,
                _MOST if large else size,
                _MOST if large else size,
                len(name),
                20,
            )  # fmt: skip
        )
        # the place for 64-bit sizes; where they are not needed, a field that no reader knows
        extra = struct.pack("<2H2Q", 1, 16, size, size) if large else _padding(20)
        self._file.write(name + extra)
        self._entries.append((name, checksum, size, offset))
        self._end = start + size

    @staticmethod
    def _flags(name):
        return 0 if name.isascii() else 0x800  # bit 11: the name is UTF-8

    def close(self):
        self._file.seek(self._end)
        for name, checksum, size, offset in self._entries:
            wide = [value for value in (size, size, offset) if value >= _MOST]
            extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
            self._file.write(
                struct.pack(
                    "<4s6H3I5H2I",
                    b"PK\1\2",
                    3 << 8 | 45,
                    45 if wide else 20,
                    self._flags(name),
                    0,
                    self._time,
                    self._date,
                    checksum,
                    min(size, _MOST),
                    min(size, _MOST),
                    len(name),
                    len(extra),
                    0,
                    0,
                    0,
                    0o600 << 16,
                    min(offset, _MOST),
                )  # fmt: skip
            )
            self._file.write(name + extra)
        size, count, offset = self._file.tell() - self._end, len(self._entries), self._end
        if offset >= _MOST or count >= 0xFFFF:
            at = offset + size
            self._file.write(
                struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
            )
            self._file.write(struct.pack("<4sIQI", b"PK\6\7", 0, at, 1))
        short = min(count, 0xFFFF)
        self._file.write(
            struct.pack(
                "<4s4H2IH", b"PK\5\6", 0, 0, short, short, min(size, _MOST), min(offset, _MOST), 0
            )
        )


def _padding(size):
    return struct.pack("<2H", 0x6248, size - 4) + bytes(size - 4)
