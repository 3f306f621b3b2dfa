"""`get_file`: a file from the web, kept in a cache, checked every time, unpacked on request."""

from __future__ import annotations

import os
import sys
import warnings


def cache_home():
    """The folder for everything that hornbeam keeps: `$HORNBEAM_HOME`, or `~/.hornbeam`."""
    return os.path.expanduser(os.environ.get("HORNBEAM_HOME") or os.path.join("~", ".hornbeam"))


def get_file(
    fname=None,
    origin=None,
    untar=False,
    md5_hash=None,
    file_hash=None,
    cache_subdir="datasets",
    hash_algorithm="auto",
    extract=False,
    archive_format="auto",
    cache_dir=None,
    force_download=False,
):
    """Downloads a file once and returns its path; later calls find it in the cache.

    The file is stored as `<cache_dir>/<cache_subdir>/<fname>`. It appears there complete and
    with the right hash, or not at all: the bytes arrive in `<fname>.partial`, from which a later
    call goes on when the connection was cut. A cached file is checked against the hash as well,
    and is fetched anew when it differs. Processes that want the same file wait for each other.
    If `cache_dir` is not given, a file of the same name and the right hash in Keras's cache
    (`$KERAS_HOME` or `~/.keras`) is used in place.

    Without a hash nobody vouches for the contents: state one for whatever matters. Unpacking is
    safe against hostile archives in any case (`hornbeam.utils.archive`).

    Args:
        fname: name in the cache, without folders. Default: the last part of `origin`.
        origin: `http://` or `https://` address, or a local `file://` one.
        untar: old spelling of `extract=True, archive_format="tar"`.
        md5_hash: old spelling of `file_hash` with `hash_algorithm="md5"`.
        file_hash: the expected hash, in hexadecimal digits.
        cache_subdir: folder inside `cache_dir`; an absolute path is used as it is.
        hash_algorithm: `"sha256"`, `"md5"`, or `"auto"`: by the number of digits.
        extract: unpack the archive, and return the folder.
        archive_format: `"tar"` (also gz, bz2, xz), `"zip"`, a list of these, `"auto"` for both.
        cache_dir: default `$HORNBEAM_HOME`, or `~/.hornbeam`.
        force_download: fetch the file even if the cache has it.

    Returns:
        The path of the file. With `extract` the path of the folder: `<fname>` if that has no
        dot, else `<fname up to its first dot>_extracted`; `<last part of origin>` if no `fname`
        was given. The archive is kept beside it.

    Raises:
        ValueError: no `origin`, an `fname` with folders, a malformed hash, wrong contents
            (`CorruptFileError`), a bad archive (`ArchiveError`).
        OSError: the file could not be fetched (`DownloadError`) or stored.

    Example:

    >>> path = get_file(
    ...     "mnist.npz",
    ...     "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    ...     file_hash="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    ... )  # doctest: +SKIP
    """
    # imported here, and so in all of this file: slow to import, and needed by nobody else
    import urllib.parse

    from hornbeam.utils.download import Digest, lock

    if not origin:
        raise ValueError("get_file: no origin; expected the address to download from, got None")
    digest = None
    if file_hash is not None:
        digest = Digest(file_hash, hash_algorithm)
    elif md5_hash is not None:
        digest = Digest(md5_hash, "md5")
    given = fname is not None and os.fspath(fname) != ""
    name = os.fspath(fname) if given else os.path.basename(urllib.parse.urlsplit(origin).path)
    _check_name(name, origin)
    archive, folder = name, None
    if extract or untar:
        if given and "." in name:
            folder = name[: name.find(".")] + "_extracted"
        else:
            archive, folder = f"{name}_archive", name

    home = cache_home() if cache_dir is None else os.path.expanduser(os.fspath(cache_dir))
    where = os.path.join(home, cache_subdir)
    try:
        os.makedirs(where, exist_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"get_file: cannot make the cache folder {where} ({error.strerror}); set "
            "HORNBEAM_HOME or cache_dir to a folder that can be written",
        ) from error
    target = os.path.join(where, archive)
    with lock(target):
        elsewhere = _in_keras_cache(archive, cache_subdir, digest) if cache_dir is None else None
        path = _cached_or_downloaded(target, elsewhere, origin, digest, force_download)
        if folder is None:
            return path
        folder = os.path.join(where, folder)
        with lock(folder):  # archives of other names may unpack to it too
            return _unpacked(path, folder, "tar" if untar else archive_format)


def _check_name(name, origin):
    if not name:
        raise ValueError(f"get_file: {origin!r} does not end in a file name; give fname")
    if name in (".", "..") or any(c in name for c in ("/", "\\", "\0", os.sep)):
        raise ValueError(
            f"get_file: fname must be a name without folders (see cache_dir and cache_subdir), "
            f"got {name!r}"
        )


def _cached_or_downloaded(target, elsewhere, origin, digest, force):
    from hornbeam.utils.download import download

    if not force:
        if os.path.isfile(target):
            if digest is None or digest.matches(target):
                return target
            print(
                f"get_file: {target} does not have the expected {digest}: fetching it again",
                file=sys.stderr,
            )
        elif elsewhere is not None:
            return elsewhere
    download(origin, target, digest)
    return target


def _in_keras_cache(name, subdir, digest):
    """A file in Keras's own cache, if its hash proves it to be the right one."""
    if digest is None or os.path.isabs(subdir):
        return None
    home = os.path.expanduser(os.environ.get("KERAS_HOME") or os.path.join("~", ".keras"))
    path = os.path.join(home, subdir, name)
    try:
        return path if os.path.isfile(path) and digest.matches(path) else None
    except OSError:  # somebody else's file that we may not read
        return None


def _unpacked(archive, folder, archive_format):
    """Unpacks into `folder`, unless it holds just this archive already."""
    import json
    import shutil

    from hornbeam.utils.archive import extract_archive
    from hornbeam.utils.download import Digest

    # beside the folder and not in it: image folders are read by listing them
    note = os.path.join(os.path.dirname(folder), f".{os.path.basename(folder)}.unpacked")
    digest = Digest("0" * 64).of(archive)
    before = _read_note(note)
    if before is not None and os.path.isdir(folder):
        if before == [digest, *_contents(folder)]:
            return folder
        shutil.rmtree(folder)  # ours: another archive, or damaged since
    elif os.path.lexists(folder):
        kept = _free_name(f"{folder}.before")
        os.rename(folder, kept)
        warnings.warn(
            f"get_file: {folder} was there before and is kept as {kept}",
            stacklevel=3,
        )
    if os.path.lexists(note):
        os.unlink(note)
    extract_archive(archive, folder, archive_format)
    with open(note, "w", encoding="utf-8") as f:
        json.dump([digest, *_contents(folder)], f)
    return folder


def _contents(folder):
    """Number of files and bytes below a folder: tells a crashed or edited unpacking."""
    files = size = 0
    for root, _, names in os.walk(folder):
        files += len(names)
        size += sum(os.lstat(os.path.join(root, name)).st_size for name in names)
    return files, size


def _read_note(path):
    import json

    try:
        with open(path, encoding="utf-8") as f:
            return json.loads(f.read(4096))
    except (FileNotFoundError, ValueError):
        return None


def _free_name(path):
    number = 1
    while os.path.lexists(f"{path}{number}"):
        number += 1
    return f"{path}{number}"
