"""Bringing one file from a server to a place on disk, complete and checked, or not at all.

The bytes go to `<target>.partial`, which survives a cut connection and is continued by the next
attempt, and is renamed to `<target>` only when its size and its hash are right.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from hornbeam.utils.atomic import sync_folder

TIMEOUT = 30.0  # seconds without a single byte
WINDOW = 60.0  # seconds in which at least WINDOW_BYTES must arrive
WINDOW_BYTES = 16 * 1024
ATTEMPTS = 4  # in a row without any progress
MAX_BYTES = 1 << 40  # for a server that never stops
PAUSE = 0.5  # seconds before the second attempt, doubled each time
_CHUNK = 256 * 1024


class DownloadError(OSError):
    """A file could not be downloaded; the message says how to go on by hand."""


class CorruptFileError(DownloadError, ValueError):
    """A server sent a complete file with the wrong contents."""


class _Again(Exception):
    """A failure that another attempt may cure; `args[0]` says what happened."""


class _Fatal(Exception):
    """A failure that will not go away by itself."""


class Digest:
    """An expected hash: SHA-256, or MD5 where nothing better is published.

    Args:
        expected: hexadecimal digits.
        algorithm: `"sha256"`, `"md5"`, or `"auto"`: by the number of digits.

    Example:

    >>> Digest("d41d8cd98f00b204e9800998ecf8427e").algorithm
    'md5'
    """

    _DIGITS = {"sha256": 64, "md5": 32}

    def __init__(self, expected, algorithm="auto"):
        text = str(expected).strip().lower()
        if algorithm == "auto":
            algorithm = "sha256" if len(text) == 64 else "md5"
        if algorithm not in self._DIGITS:
            raise ValueError(
                f"get_file: unknown hash_algorithm; expected 'sha256', 'md5' or 'auto', "
                f"got {algorithm!r}"
            )
        if len(text) != self._DIGITS[algorithm] or set(text) - set("0123456789abcdef"):
            raise ValueError(
                f"get_file: not a {algorithm} hash; expected {self._DIGITS[algorithm]} hexadecimal "
                f"digits, got {expected!r}"
            )
        self.algorithm, self.expected = algorithm, text

    def of(self, path):
        """The hash of a file, as hexadecimal digits."""
        state = hashlib.new(self.algorithm, usedforsecurity=False)
        with open(path, "rb") as f:
            while chunk := f.read(1 << 20):
                state.update(chunk)
        return state.hexdigest()

    def matches(self, path):
        return self.of(path) == self.expected

    def __str__(self):
        return f"{self.algorithm} {self.expected}"


def download(url, target, digest=None):
    """Downloads `url` to the file `target`; the caller holds the lock for `target`.

    Args:
        url: `http://`, `https://`, or a local `file://`.
        target: path of the file; an existing one is replaced only by a complete, right one.
        digest: expected `Digest`, or None: then only the size is checked.

    Raises:
        CorruptFileError: the whole file came and has the wrong hash.
        DownloadError: anything else that kept the file from coming.
    """
    partial, validator = f"{target}.partial", f"{target}.partial.tag"
    try:
        continued = _fetch(url, partial, validator, digest)
        found = digest.of(partial) if digest is not None else None
        if continued and digest is not None and found != digest.expected:
            # the beginning may stem from another version of the file: once more from zero
            _remove(partial, validator)
            _fetch(url, partial, validator, digest)
            found = digest.of(partial)
        if digest is not None and found != digest.expected:
            size = _size(partial)
            _remove(partial, validator)
            raise CorruptFileError(
                f"get_file: {url} has the wrong contents; expected {digest}, got {digest.algorithm}"
                f" {found} ({size} bytes). The file may have changed on the server, or something "
                f"in between (proxy, login page) replaced it. {_by_hand(url, target, digest)}"
            )
        os.replace(partial, target)
        _remove(validator)
        sync_folder(os.path.dirname(target))
    except (_Again, _Fatal) as error:
        if isinstance(error, _Fatal):
            _remove(partial, validator)  # what is there is of no use to another attempt
        raise DownloadError(
            f"get_file: could not download {url}: {error}. {_by_hand(url, target, digest)}"
        ) from error.__cause__
    except DownloadError:
        raise
    except OSError as error:  # of our disk; what has arrived stays for the next call
        raise DownloadError(f"get_file: could not store {url} as {target}: {error}") from error


def _by_hand(url, target, digest):
    check = f" ({digest})" if digest is not None else ""
    return f"To do it by hand, fetch {url} and store it as {target}{check}."


def _fetch(url, partial, validator, digest):
    """Fills `partial`, in as many attempts as make progress. True if it was put together."""
    scheme = urllib.parse.urlsplit(url).scheme.lower()
    if scheme == "file":
        _copy_local(url, partial)
        return False
    if scheme not in ("http", "https"):
        raise _Fatal(f"only http, https and file are supported, got {scheme or 'no scheme'!r}")
    failures, best = 0, _size(partial)
    while True:
        try:
            return _attempt(url, partial, validator, digest)
        except _Again as error:
            # a server that cuts after every few bytes must not keep us for ever
            failures = failures + 1 if _size(partial) < best + (1 << 20) else 1
            best = max(best, _size(partial))
            if failures >= ATTEMPTS:
                raise _Again(f"{error} (after {failures} attempts)") from error.__cause__
            time.sleep(PAUSE * 2 ** (failures - 1))


def _attempt(url, partial, validator, digest):
    """One request: continues `partial` (then the answer is True) if it can, else starts anew."""
    have, tag = _size(partial), _read_text(validator)
    # without a hash only the server's own word tells that the file is still the same
    if have and digest is None and not tag:
        have = 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "hornbeam", "Accept-Encoding": "identity"}
    )
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag:
            request.add_header("If-Range", tag)
    with _trying():
        response = _opener(url).open(request, timeout=TIMEOUT)
    with response:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _Fatal("the server packed the file although it was asked not to")
        if response.status == 416:  # nothing beyond what we have, or another file altogether
            if _range_total(response) == have:
                return True
            _remove(partial, validator)
            raise _Again("the server could not continue the file")
        try:
            start, total = _extent(response, have)
        except _Again:
            _remove(partial, validator)
            raise
        _check_room(total, start, partial)
        _write_text(validator, _validator_of(response))
        with open(partial, "r+b" if start else "wb") as out:
            out.truncate(start)
            out.seek(start)
            try:
                _copy(response, out, start, total, url)
            finally:
                out.flush()
                os.fsync(out.fileno())
        return start > 0


def _copy(response, out, position, total, url):
    """Streams a response into a file and holds it to the size it announced."""
    with _progress(url, position, total) as advance:
        window_end, window_start = time.monotonic() + WINDOW, position
        while position != total:
            # read1 returns what is there, so that a slow drip shows; what comes beyond the
            # announced size is not part of the answer
            with _trying():
                chunk = response.read1(_CHUNK if total is None else min(_CHUNK, total - position))
            if not chunk:
                break
            position += len(chunk)
            if position > MAX_BYTES:
                raise _Fatal(f"the server sends more than {MAX_BYTES} bytes")
            out.write(chunk)
            advance(len(chunk))
            if time.monotonic() > window_end:
                if position - window_start < WINDOW_BYTES:
                    raise _Again(f"less than {WINDOW_BYTES} bytes in {WINDOW:.0f} seconds")
                window_end, window_start = time.monotonic() + WINDOW, position
    if total is not None and position != total:
        raise _Again(f"the connection ended after {position} of {total} bytes")


def _extent(response, have):
    """Where the bytes of this response begin, and the size of the whole file if it is told."""
    length = response.headers.get("Content-Length")
    if length is not None and not (length.isascii() and length.isdigit()):
        raise _Fatal(f"the server announced the size {length!r}")
    if response.status == 206:
        unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
        start, _, rest = rest.partition("-")
        end, _, total = rest.partition("/")
        if unit != "bytes" or start != str(have) or not have:
            raise _Again("the server sent another part of the file than asked for")
        if not (end.isdigit() and total.isdigit() and int(end) + 1 == int(total)):
            raise _Again("the server sent a part of the file without its end")
        return have, int(total)
    if response.status != 200:
        raise _Fatal(f"the server answered with the unexpected status {response.status}")
    return 0, None if length is None else int(length)


def _range_total(response):
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isascii() and total.isdigit() else None


def _validator_of(response):
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):  # a weak tag does not promise the same bytes
        return tag
    return response.headers.get("Last-Modified", "")


def _check_room(total, start, partial):
    if total is None:
        return
    if total > MAX_BYTES:
        raise _Fatal(f"the server announces {total} bytes; at most {MAX_BYTES} are expected")
    free = shutil.disk_usage(os.path.dirname(partial)).free
    if total - start > free:
        raise _Fatal(f"{total - start} bytes are to come and the disk has {free} bytes free")


def _copy_local(url, partial):
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise _Fatal("a file:// address with a host name")
    path = urllib.request.url2pathname(parts.path)
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise _Fatal(f"the file has more than {MAX_BYTES} bytes")
        with open(path, "rb") as source, open(partial, "wb") as out:
            shutil.copyfileobj(source, out, _CHUNK)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise _Fatal(str(error)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects from the web to the web, and from https to https alone."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        before = urllib.parse.urlsplit(req.full_url).scheme.lower()
        after = urllib.parse.urlsplit(newurl).scheme.lower()
        if after not in ("http", "https") or (before == "https" and after != "https"):
            fp.close()
            raise _Fatal(f"the server redirects to {newurl}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Errors(urllib.request.HTTPErrorProcessor):
    """Lets 416 through, which `_attempt` can make use of."""

    def http_response(self, request, response):
        if response.status == 416:
            return response
        return super().http_response(request, response)

    https_response = http_response


def _opener(url):
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context())
        if url.lower().startswith("https:")
        else urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        _Errors(),
    ):
        opener.add_handler(handler)
    return opener


@contextlib.contextmanager
def _trying():
    """Sorts network errors into those worth another attempt and the others."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            if "is not allowed" in str(error.reason):  # urllib's own refusal, file: for one
                raise _Fatal(f"the server's redirect is refused: {error.reason}") from error
            text = f"the server answered {error.code} {error.reason}"
        if error.code in (408, 429) or error.code >= 500:
            raise _Again(text) from error
        raise _Fatal(text) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise _Fatal(f"the certificate is not trusted: {error.reason}") from error
        if isinstance(error.reason, OSError):
            raise _Again(str(error.reason) or type(error.reason).__name__) from error
        raise _Fatal(str(error.reason)) from error
    except TimeoutError as error:
        raise _Again(f"nothing came for {TIMEOUT:.0f} seconds") from error
    except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
        raise _Again(f"the connection broke ({type(error).__name__}: {error})") from error


@contextlib.contextmanager
def _progress(url, position, total):
    """A bar on a terminal, silence anywhere else."""
    if not (sys.stderr is not None and sys.stderr.isatty()):
        yield lambda count: None
        return
    from tqdm import tqdm

    name = os.path.basename(urllib.parse.urlsplit(url).path)
    with tqdm(desc=name, initial=position, total=total, unit="B", unit_scale=True) as bar:
        yield bar.update


@contextlib.contextmanager
def lock(path):
    """Holds `<path>.lock` against other processes and threads; the file is gone afterwards."""
    name = f"{path}.lock"
    while True:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _wait_for(descriptor)
            if _is_current(descriptor, name):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner removed it while we waited: queue up at the new one
    try:
        yield
    finally:
        if os.name != "nt":
            _remove(name)  # before the lock is let go, so that nobody waits at a dead name
        os.close(descriptor)


def _wait_for(descriptor):
    if os.name == "nt":
        import msvcrt

        while True:
            try:
                return msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
            except OSError:  # after ten seconds of waiting
                continue
    import fcntl

    return fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_current(descriptor, name):
    try:
        mine, there = os.fstat(descriptor), os.stat(name)
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _size(path):
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def _remove(*paths):
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _read_text(path):
    try:
        with open(path, encoding="latin-1") as f:
            text = f.read(1024)
    except FileNotFoundError:
        return ""
    return text if text.isprintable() else ""


def _write_text(path, text):
    with open(path, "w", encoding="latin-1", errors="replace") as f:
        f.write(text)
