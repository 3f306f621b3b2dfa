"""Unpacking tar and zip files that nobody vouches for.

An archive is a list of requests: every name, link, type and size in it is checked before
anything happens, and a single bad member refuses the whole archive with nothing left on disk.

How it holds: members are written into a fresh folder of ours, in which no link exists until the
last file is written; so the path of a member is exactly what its name says, and no check can be
outdated by a later member. Links come last, and only to what the archive itself has put there.
Sizes are counted while writing, not taken from headers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass

_CHUNK = 256 * 1024
_LINK_BYTES = 4096  # the longest link text Linux allows


class ArchiveError(ValueError):
    """An archive that is damaged, of no known format, or asks for something it must not have."""


@dataclass(frozen=True)
class Limits:
    """What one archive may ask for.

    Attributes:
        members: number of members.
        total_bytes: bytes of all members together, and of the decompressed tar stream.
        ratio: bytes written per byte of the archive, looked at beyond `free_bytes`.
        free_bytes: size up to which no ratio is asked for.
        read_bytes: the largest single header (tar reads long names and extended headers whole).
        depth: folders inside each other.
        name_bytes: length of a member's whole name.
    """

    members: int = 500_000
    total_bytes: int = 256 << 30
    ratio: int = 200
    free_bytes: int = 1 << 30
    read_bytes: int = 4 << 20
    depth: int = 64
    name_bytes: int = 1024

    def budget(self, archive_bytes):
        return min(self.total_bytes, max(self.free_bytes, self.ratio * archive_bytes))


def extract_archive(file_path, path=".", archive_format="auto", limits=None):
    """Unpacks a tar (plain, gz, bz2, xz) or zip file into a new folder.

    The folder appears complete or not at all: members are written into a temporary sibling,
    which is renamed at the end.

    Args:
        file_path: the archive.
        path: folder to create. It must not exist, or be empty.
        archive_format: `"tar"`, `"zip"`, a list of these, or `"auto"` for both.
        limits: a `Limits`, for archives that are rightly larger than the default allows.

    Returns:
        The number of files and their bytes, `(files, bytes)`.

    Raises:
        ArchiveError: for a name outside the folder, a link that leaves it, a device, a member
            twice, more members, bytes or compression than `limits` allow, a damaged file.
        OSError: when the disk does not let us write.
    """
    file_path, path = os.path.abspath(file_path), os.path.abspath(path)
    limits = limits or Limits()
    formats = ["tar", "zip"] if archive_format == "auto" else archive_format
    formats = [formats] if isinstance(formats, str) else list(formats or [])
    for name in formats:
        if name not in _READERS:
            raise ValueError(
                f"extract_archive: unknown archive_format; expected 'auto', 'tar', 'zip' or a "
                f"list of these, got {name!r}"
            )
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # mkdtemp's folder is for us alone; the one inside gets the permissions that users expect
    private = tempfile.mkdtemp(prefix=".unpack-", dir=os.path.dirname(path))
    folder = os.path.join(private, "tree")
    try:
        os.mkdir(folder)
        for name in formats:
            tree = _Tree(folder, os.path.getsize(file_path), limits)
            with _as_archive_error(file_path):
                known = _READERS[name](file_path, tree, limits)
            if known:
                break
        else:
            raise ArchiveError(
                f"extract_archive: {file_path} is not an archive; expected one of "
                f"{', '.join(formats) or 'no format at all'}"
            )
        with _as_archive_error(file_path):
            tree.finish()
        os.rename(folder, path)  # onto an empty folder at most
        return tree.files, tree.bytes
    finally:
        shutil.rmtree(private, ignore_errors=True)


class _Tree:
    """The folder being filled, and the account of what was asked for."""

    def __init__(self, root, archive_bytes, limits):
        self.root = root
        self.limits = limits
        self.budget = limits.budget(archive_bytes)
        self.names = {}  # normalised name -> "file", "dir" or "link"
        self.hard, self.soft = [], []
        self.members = self.files = self.bytes = 0

    def declare(self, name):
        """Counts one member and returns the parts of its name."""
        self.members += 1
        if self.members > self.limits.members:
            raise ArchiveError(f"more than {self.limits.members} members")
        return self._parts(name)

    def _parts(self, name):
        """The components of a name that stays below the root, or an error."""
        shown = ascii(name if len(name) <= 200 else name[:200] + "…")
        if "\0" in name:
            raise ArchiveError(f"member name {shown} contains a NUL character")
        if len(os.fsencode(name)) > self.limits.name_bytes:
            raise ArchiveError(f"member name {shown} is longer than {self.limits.name_bytes} bytes")
        if "\\" in name or name.startswith("/") or (name[1:2] == ":" and name[:1].isalpha()):
            raise ArchiveError(f"member name {shown} is absolute or has a backslash")
        parts = [p for p in name.split("/") if p not in ("", ".")]
        if ".." in parts:
            raise ArchiveError(f"member name {shown} leaves the folder")
        if len(parts) > self.limits.depth:
            raise ArchiveError(f"member name {shown} is deeper than {self.limits.depth} folders")
        for part in parts:
            if len(os.fsencode(part)) > 255:
                raise ArchiveError(f"member name {shown} has a part longer than 255 bytes")
            if os.name == "nt" and _is_reserved_on_windows(part):
                raise ArchiveError(f"member name {shown} is reserved on Windows")
        return parts

    def _enter(self, parts, kind):
        """Registers a new name, with its folders; refuses one that is taken."""
        if not parts:
            raise ArchiveError(f"a {kind} without a name")
        self.add_dir(parts[:-1])
        name = "/".join(parts)
        if name in self.names:
            raise ArchiveError(f"member {ascii(name)} occurs twice")
        self.names[name] = kind
        return os.path.join(self.root, *parts)

    def add_dir(self, parts):
        for i in range(1, len(parts) + 1):
            name = "/".join(parts[:i])
            kind = self.names.get(name)
            if kind is None:
                os.mkdir(os.path.join(self.root, *parts[:i]), 0o777)
                self.names[name] = "dir"
            elif kind != "dir":
                raise ArchiveError(f"member {ascii(name)} is a {kind} and a folder at once")

    def add_file(self, parts, source, size, executable):
        """Copies `source` (its `read`) to a new file; it must hold exactly `size` bytes."""
        self.check_size(size)
        target = self._enter(parts, "file")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        written = 0
        with open(os.open(target, flags, 0o777 if executable else 0o666), "wb") as out:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                self.bytes += len(chunk)
                self.check_size(0)
                out.write(chunk)
        if written != size:
            raise ArchiveError(
                f"member {ascii('/'.join(parts))} announces {size} bytes and has {written}"
            )
        self.files += 1

    def check_size(self, more):
        if more < 0 or self.bytes + more > self.budget:
            raise ArchiveError(
                f"unpacks to more than {self.budget} bytes, the limit for an archive of its size"
            )

    def add_hard_link(self, parts, target):
        self.hard.append((self._enter(parts, "link"), parts, self._parts(target)))

    def add_soft_link(self, parts, target):
        if not target or len(os.fsencode(target)) > _LINK_BYTES:
            raise ArchiveError(f"symbolic link {ascii('/'.join(parts))} without a usable target")
        if target.startswith("/") or "\\" in target or "\0" in target:
            raise ArchiveError(f"symbolic link {ascii('/'.join(parts))} to an absolute path")
        resolved, named = list(parts[:-1]), False
        for part in target.split("/"):
            if part == "..":
                # after a name, ".." would start wherever that name leads, if it is a link
                if named or not resolved:
                    raise ArchiveError(f"symbolic link {ascii('/'.join(parts))} leaves the folder")
                resolved.pop()
            elif part not in ("", "."):
                resolved.append(part)
                named = True
        self.soft.append((self._enter(parts, "link"), parts, target, "/".join(resolved)))

    def finish(self):
        """Makes the links, once no more file will be written."""
        for path, parts, target in self.hard:
            name = "/".join(target)
            if self.names.get(name) != "file":
                raise ArchiveError(
                    f"hard link {ascii('/'.join(parts))} to {ascii(name)}, which is not a file "
                    "of the archive"
                )
            # a copy of its own: files that share their bytes surprise whoever edits one
            source = os.path.join(self.root, *target)
            self.bytes += os.path.getsize(source)
            self.check_size(0)
            shutil.copy(source, path)
            self.names["/".join(parts)] = "file"
            self.files += 1
        # A target must be a name that was written, taken literally: with no link among its
        # folders it is where it seems to be. A link to an earlier link is fine.
        waiting = self.soft
        while waiting:
            later = []
            for path, parts, target, resolved in waiting:
                if resolved == "" or self.names.get(resolved) in ("file", "dir", "made link"):
                    os.symlink(target, path)
                    self.names["/".join(parts)] = "made link"
                else:
                    later.append((path, parts, target, resolved))
            if len(later) == len(waiting):
                raise ArchiveError(
                    f"symbolic link {ascii('/'.join(later[0][1]))} to {ascii(later[0][2])}, which "
                    "is not a file or folder of the archive"
                )
            waiting = later


def _read_tar(file_path, tree, limits):
    """Fills `tree` from a tar file; False if it is none."""
    import tarfile

    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_decompressed(file_path))
        counted = _Forward(stream, tree.budget + limits.members * 1024, limits.read_bytes)
        try:
            # "r:" and not "r|": tarfile's own stream layer collects a header of any size
            archive = stack.enter_context(tarfile.open(fileobj=counted, mode="r:"))
        except tarfile.ReadError:
            return False
        while (info := archive.next()) is not None:
            archive.members = []  # else tarfile keeps every header
            parts = tree.declare(info.name)
            if info.isdir():
                tree.add_dir(parts)
            elif info.isreg():
                source = archive.extractfile(info)
                tree.add_file(parts, source, info.size, bool(info.mode & stat.S_IXUSR))
            elif info.islnk():
                tree.add_hard_link(parts, info.linkname)
            elif info.issym():
                tree.add_soft_link(parts, info.linkname)
            else:
                raise ArchiveError(
                    f"member {ascii(info.name)} is a device, a pipe or of an unknown type"
                )
        if counted.last != bytes(512):  # tarfile takes a damaged header for the end
            raise ArchiveError("the file ends without the mark for the end of an archive")
        while counted.read(_CHUNK):  # to the end, where gzip and xz keep their check sums
            pass
    return True


def _decompressed(file_path):
    """Opens the file behind its gzip, bzip2 or xz packing, known by its first bytes."""
    with open(file_path, "rb") as f:
        magic = f.read(6)
    if magic[:2] == b"\x1f\x8b":
        import gzip

        return gzip.open(file_path, "rb")
    if magic[:3] == b"BZh":
        import bz2

        return bz2.open(file_path, "rb")
    if magic == b"\xfd7zXZ\0":
        import lzma

        return lzma.open(file_path, "rb")
    return open(file_path, "rb")


class _Forward:
    """A stream that is read forward only, in bounded pieces, up to a bounded total."""

    def __init__(self, stream, total, piece):
        self._stream, self._total, self._piece = stream, total, max(piece, _CHUNK)
        self._position = 0
        self.last = b""

    def tell(self):
        return self._position

    def read(self, size=-1):
        if size is None or size < 0 or size > self._piece:
            raise ArchiveError(f"a header larger than {self._piece} bytes")
        self.last = self._stream.read(size)
        self._advance(len(self.last))
        return self.last

    def seek(self, position, whence=0):
        # backward would unpack the stream anew; only crafted offsets ask for it
        if whence != 0 or position < self._position:
            raise ArchiveError("offsets that go backwards")
        if position > self._total:
            self._advance(position - self._position)
        while self._position < position:
            data = self._stream.read(min(_CHUNK, position - self._position))
            if not data:
                break
            self._advance(len(data))
        return self._position

    def _advance(self, count):
        self._position += count
        if self._position > self._total:
            raise ArchiveError(f"unpacks to more than {self._total} bytes")


def _read_zip(file_path, tree, limits):
    """Fills `tree` from a zip file; False if it is none."""
    import zipfile

    if not zipfile.is_zipfile(file_path):
        return False
    with zipfile.ZipFile(file_path) as archive:
        infos = archive.infolist()
        if len(infos) > limits.members:
            raise ArchiveError(f"more than {limits.members} members")
        tree.check_size(sum(info.file_size for info in infos))
        _check_overlap(infos, os.path.getsize(file_path))
        for info in infos:
            name = info.orig_filename  # `filename` is cut at a NUL
            parts = tree.declare(name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.flag_bits & 0x1:
                raise ArchiveError(f"member {ascii(name)} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # for the others zipfile unpacks without a bound on memory
                raise ArchiveError(f"member {ascii(name)} is neither stored nor deflated")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                raise ArchiveError(f"member {ascii(name)} is a device or a pipe")
            if name.endswith("/"):
                tree.add_dir(parts)
            elif kind == stat.S_IFLNK:
                if info.file_size > _LINK_BYTES:
                    raise ArchiveError(f"symbolic link {ascii(name)} without a usable target")
                with archive.open(info) as source:  # not read(), which unpacks all at once
                    tree.add_soft_link(parts, os.fsdecode(source.read(_LINK_BYTES)))
            else:
                with archive.open(info) as source:
                    executable = bool(info.external_attr >> 16 & stat.S_IXUSR)
                    tree.add_file(parts, source, info.file_size, executable)
    return True


def _check_overlap(infos, size):
    """Refuses members that share stored bytes: the trick behind the best zip bombs."""
    end, previous = 0, ""
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ArchiveError(
                f"members {ascii(previous)} and {ascii(info.filename)} overlap in the file"
            )
        # 30 bytes of local header and, at least, the stored data
        end = info.header_offset + 30 + info.compress_size
        previous = info.filename
    if end > size:
        raise ArchiveError(f"member {ascii(previous)} reaches beyond the end of the file")


_READERS = {"tar": _read_tar, "zip": _read_zip}


@contextlib.contextmanager
def _as_archive_error(file_path):
    """Names the archive in every complaint about its contents; lets errors of our disk through."""
    import lzma
    import struct
    import tarfile
    import zipfile
    import zlib

    damaged = (
        tarfile.TarError,
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        NotImplementedError,  # a compression method that zipfile does not know
        RuntimeError,  # RecursionError among them
        ValueError,
        IndexError,
        KeyError,
        OverflowError,
    )
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"extract_archive: {file_path} is refused: {error}") from None
    except damaged as error:
        raise ArchiveError(f"extract_archive: {file_path} is damaged: {error}") from error
    except OSError as error:
        # gzip and bz2 report bad data as an OSError without a number
        if error.errno is not None:
            raise
        raise ArchiveError(f"extract_archive: {file_path} is damaged: {error}") from error


def _is_reserved_on_windows(part):
    stem = part.split(".")[0].rstrip(" ").upper()
    device = stem in {"CON", "PRN", "AUX", "NUL"} or (
        len(stem) == 4 and stem[:3] in {"COM", "LPT"} and stem[3].isdigit()
    )
    return device or part[-1] in ". " or any(c in '<>:"|?*' or ord(c) < 32 for c in part)
