"""Writing files so that a name always holds the whole old contents or the whole new ones.

The order that makes it so: write a sibling under another name, flush, fsync it, rename it over the
target, fsync the folder. A rename without the first fsync can leave a correctly named file of
zeros after a power cut; without the second, the old contents may come back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NAME = 60  # characters of the target in the temporary name: 240 bytes at most
_NO_FOLDER_SYNC = {errno.EINVAL, getattr(errno, "ENOTSUP", errno.EINVAL), errno.EACCES}


@contextlib.contextmanager
def atomic_write(path, size=None):
    """Context that gives a new binary file, open for reading and writing, to be put at `path`.

    When the block ends, the file takes the place of `path` in one step and is on disk. When
    anything fails, the old file stays as it was and nothing is left beside it.

    Args:
        path: the file; its folder must exist. A symbolic link is followed.
        size: bytes that will be written, if known: too full a disk is then an error at once.

    Raises:
        OSError: the disk refused; the message says what was needed and what is free.

    Example:

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers"
    >>> with atomic_write(path) as f:
    ...     count = f.write(b"12")
    >>> path.read_bytes()
    b'12'
    """
    path = os.path.realpath(os.fspath(path))
    folder = os.path.dirname(path)
    temporary = file = None
    with _explained(path, size):
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, "expected a file, got a folder", path)
        _remove_abandoned(path)
        free = shutil.disk_usage(folder).free
        if size is not None and size > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        temporary, file = _create(path)
    try:
        with _explained(path, size):
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(temporary, path)
            temporary = None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                file.close()  # flushes what is buffered, which may fail again
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    sync_folder(folder)  # should this fail, the new contents are there but may not outlast a crash


def sync_folder(folder):
    """Waits until the names in a folder are on disk, where the system can tell."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # some network file systems
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path, size):
    """Says in an error of the disk which file could not be written, and what became of it."""
    try:
        yield
    except OSError as error:
        if error.errno is None or hasattr(error, "explained"):
            raise
        text = f"could not write {path}: {error.strerror}"
        if error.errno in _NO_ROOM:
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(os.path.dirname(path)).free
                needed = "more" if size is None else f"about {size} bytes"
                text += f"; {needed} needed, {free} bytes free"
        if os.path.lexists(path):
            text += "; the old file is unchanged"
        new = type(error)(error.errno, text)
        new.explained = True
        raise new from error


def _create(path):
    """A new, locked sibling of `path`: its name, and the open file."""
    folder, name = os.path.split(path)
    while True:
        temporary = os.path.join(folder, f".{name[:_NAME]}.{os.urandom(4).hex()}.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(temporary, flags, 0o666)
        except FileExistsError:
            continue
        try:
            _lock(descriptor)
            with contextlib.suppress(OSError):  # a new file takes over the rights of the old one
                os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
            file = os.fdopen(descriptor, "w+b")
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if os.path.exists(temporary):  # else another writer took it for an abandoned one
            return temporary, file
        file.close()


def _remove_abandoned(path):
    """Removes the temporary files of writers that were killed: those that nobody holds locked."""
    folder, name = os.path.split(path)
    prefix = f".{name[:_NAME]}."
    for entry in os.listdir(folder):
        middle = entry[len(prefix) : -4]
        if not (entry.startswith(prefix) and entry.endswith(".tmp") and len(middle) == 8):
            continue
        found = os.path.join(folder, entry)
        with contextlib.suppress(OSError):
            descriptor = os.open(found, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _lock(descriptor):
                    os.unlink(found)
            finally:
                os.close(descriptor)


def _lock(descriptor):
    """Locks an open file until it is closed; False if another process has it, or cannot tell."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
