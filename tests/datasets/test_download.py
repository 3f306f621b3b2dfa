"""get_file against a loopback server: complete and right, or not there at all."""

import hashlib
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from hornbeam.utils import download as download_module
from hornbeam.utils import get_file
from hornbeam.utils.download import CorruptFileError, DownloadError, lock

BODY = bytes(range(256)) * 400  # about 100 kB


def sha256(body):
    return hashlib.sha256(body).hexdigest()


def cache(tmp_path):
    return tmp_path / "home" / "datasets"


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def cut_after(count):
    return lambda handler, body: handler.answer(body, cut=count)


def redirect_to(target):
    def behave(handler, body):
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return behave


def test_downloads_once_and_leaves_nothing_else(web, tmp_path):
    url = web.put("a.bin", BODY)
    path = get_file(origin=url, file_hash=sha256(BODY))
    assert path == str(cache(tmp_path) / "a.bin")
    assert get_file("a.bin", url, file_hash=sha256(BODY)) == path
    assert get_file("a.bin", url) == path
    assert Path(path).read_bytes() == BODY
    assert len(web.log) == 1
    assert names(cache(tmp_path)) == ["a.bin"]
    get_file("a.bin", url, force_download=True)
    assert len(web.log) == 2


def test_md5_and_old_spelling(web):
    url = web.put("a.bin", BODY)
    md5 = hashlib.md5(BODY).hexdigest()
    for arguments in ({"file_hash": md5}, {"md5_hash": md5.upper()}):
        assert Path(get_file("a.bin", url, **arguments)).read_bytes() == BODY
    with pytest.raises(CorruptFileError, match="expected md5 000"):
        get_file("b.bin", url, md5_hash="0" * 32)


@pytest.mark.parametrize("bad", ["", "abc", "g" * 64, "0" * 40])
def test_malformed_hash_is_not_ignored(web, bad):
    with pytest.raises(ValueError, match="not a .* hash"):
        get_file("a.bin", web.put("a.bin", BODY), file_hash=bad)
    assert not web.log


def test_progress_is_silent_off_a_terminal(web, capfd):
    get_file("a.bin", web.put("a.bin", BODY))
    assert capfd.readouterr() == ("", "")


def test_cut_connection_is_resumed_within_the_call(web):
    url = web.put("a.bin", BODY, cut_after(30_000), cut_after(20_000))
    assert Path(get_file("a.bin", url, file_hash=sha256(BODY))).read_bytes() == BODY
    assert web.requests("a.bin") == [None, "bytes=30000-", "bytes=50000-"]


def test_cut_connection_is_resumed_by_the_next_call(web, tmp_path):
    url = web.put("a.bin", BODY, cut_after(30_000), *[cut_after(0)] * 3)
    with pytest.raises(DownloadError, match="30000 of 102400") as caught:
        get_file("a.bin", url, file_hash=sha256(BODY))
    text = str(caught.value)
    assert url in text and str(cache(tmp_path) / "a.bin") in text and sha256(BODY) in text
    assert not (cache(tmp_path) / "a.bin").exists()
    web.log.clear()
    assert Path(get_file("a.bin", url, file_hash=sha256(BODY))).read_bytes() == BODY
    assert web.requests("a.bin") == ["bytes=30000-"]
    assert names(cache(tmp_path)) == ["a.bin"]


def test_complete_partial_needs_no_bytes(web, tmp_path):
    url = web.put("a.bin", BODY)
    cache(tmp_path).mkdir(parents=True)
    (cache(tmp_path) / "a.bin.partial").write_bytes(BODY)
    assert Path(get_file("a.bin", url, file_hash=sha256(BODY))).read_bytes() == BODY
    assert web.requests("a.bin") == [f"bytes={len(BODY)}-"]


def test_partial_of_another_version_is_thrown_away(web, tmp_path):
    url = web.put("a.bin", BODY)
    cache(tmp_path).mkdir(parents=True)
    (cache(tmp_path) / "a.bin.partial").write_bytes(b"old version")
    assert Path(get_file("a.bin", url, file_hash=sha256(BODY))).read_bytes() == BODY
    assert web.requests("a.bin") == ["bytes=11-", None]


def test_partial_longer_than_the_file_is_thrown_away(web, tmp_path):
    url = web.put("a.bin", BODY)
    cache(tmp_path).mkdir(parents=True)
    (cache(tmp_path) / "a.bin.partial").write_bytes(BODY + b"more")
    assert Path(get_file("a.bin", url, file_hash=sha256(BODY))).read_bytes() == BODY


def test_without_hash_a_changed_file_is_not_glued_together(web):
    new = BODY[::-1]

    def changes(handler, body):
        handler.answer(body, cut=30_000)
        web.files["/a.bin"] = new

    url = web.put("a.bin", BODY, changes)
    assert Path(get_file("a.bin", url)).read_bytes() == new


def test_without_hash_and_tag_nothing_is_resumed(web):
    web.tags = False
    url = web.put("a.bin", BODY, cut_after(30_000))
    assert Path(get_file("a.bin", url)).read_bytes() == BODY
    assert web.requests("a.bin") == [None, None]


def test_server_without_ranges(web):
    web.ranges = False
    url = web.put("a.bin", BODY, cut_after(30_000))
    assert Path(get_file("a.bin", url, file_hash=sha256(BODY))).read_bytes() == BODY


def test_wrong_part_in_answer_to_a_range(web):
    def other_part(handler, body):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 5-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - 5))
        handler.end_headers()
        handler.wfile.write(body[5:])

    url = web.put("a.bin", BODY, cut_after(30_000), other_part)
    assert Path(get_file("a.bin", url, file_hash=sha256(BODY))).read_bytes() == BODY
    assert web.requests("a.bin") == [None, "bytes=30000-", None]


def test_wrong_hash_on_a_fresh_download(web, tmp_path):
    url = web.put("a.bin", BODY)
    with pytest.raises(CorruptFileError, match="wrong contents") as caught:
        get_file("a.bin", url, file_hash="0" * 64)
    assert sha256(BODY) in str(caught.value) and isinstance(caught.value, ValueError)
    assert names(cache(tmp_path)) == []


def test_damaged_cached_file_is_fetched_again(web, tmp_path, capfd):
    url = web.put("a.bin", BODY)
    path = Path(get_file("a.bin", url, file_hash=sha256(BODY)))
    path.write_bytes(b"damaged")
    get_file("a.bin", url, file_hash=sha256(BODY))
    assert path.read_bytes() == BODY
    assert "does not have the expected" in capfd.readouterr().err


def test_damaged_cached_file_stays_if_the_server_is_gone(web, tmp_path):
    cache(tmp_path).mkdir(parents=True)
    path = cache(tmp_path) / "a.bin"
    path.write_bytes(b"perhaps valuable")
    with pytest.raises(DownloadError, match="404"):
        get_file("a.bin", web.url + "missing", file_hash=sha256(BODY))
    assert path.read_bytes() == b"perhaps valuable"


def test_more_bytes_than_announced(web):
    url = web.put("a.bin", BODY, lambda h, body: h.answer(body, announced=1000))
    with pytest.raises(CorruptFileError, match="1000 bytes"):
        get_file("a.bin", url, file_hash=sha256(BODY))
    url = web.put("b.bin", BODY, lambda h, body: h.answer(body + b"extra", announced=len(body)))
    assert Path(get_file("b.bin", url, file_hash=sha256(BODY))).read_bytes() == BODY


def test_fewer_bytes_than_announced(web, tmp_path):
    web.ranges = False
    short = [lambda h, body: h.answer(body, announced=10**6)] * 8
    with pytest.raises(DownloadError, match="of 1000000 bytes"):
        get_file("a.bin", web.put("a.bin", BODY, *short))
    assert not (cache(tmp_path) / "a.bin").exists()


def test_size_that_does_not_fit_the_disk(web, tmp_path):
    lie = [lambda h, body: h.answer(body, announced=2**62)] * 4
    with pytest.raises(DownloadError, match="at most|bytes free"):
        get_file("a.bin", web.put("a.bin", BODY, *lie))
    lie = [lambda h, body: h.answer(body, announced="-5")] * 4
    with pytest.raises(DownloadError, match="announced the size '-5'"):
        get_file("a.bin", web.put("a.bin", BODY, *lie))


def test_endless_answer_without_a_size(web, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "MAX_BYTES", 50_000)
    url = web.put("a.bin", BODY, *[lambda h, body: h.answer(body, announced="chunked")] * 4)
    with pytest.raises(DownloadError, match="more than 50000"):
        get_file("a.bin", url)
    assert names(cache(tmp_path)) == []


def test_slow_drip_is_given_up(web, monkeypatch):
    monkeypatch.setattr(download_module, "WINDOW", 0.05)
    monkeypatch.setattr(download_module, "ATTEMPTS", 2)

    def drip(handler, body):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for i in range(200):
            handler.wfile.write(body[i : i + 1])
            handler.wfile.flush()
            time.sleep(0.01)

    with pytest.raises(DownloadError, match="less than 16384 bytes"):
        get_file("a.bin", web.put("a.bin", BODY, drip, drip))


def test_silence_is_given_up(web, monkeypatch):
    monkeypatch.setattr(download_module, "TIMEOUT", 0.1)
    monkeypatch.setattr(download_module, "ATTEMPTS", 2)
    url = web.put("a.bin", BODY, *[lambda h, body: time.sleep(0.5)] * 2)
    with pytest.raises(DownloadError, match="nothing came|timed out"):
        get_file("a.bin", url)


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_stay_on_the_web(web, tmp_path, target):
    with pytest.raises(DownloadError, match="redirect") as caught:
        get_file("a.bin", web.put("a.bin", BODY, redirect_to(target)))
    assert "To do it by hand" in str(caught.value)
    assert names(cache(tmp_path)) == []


def test_redirects_within_the_web_are_followed(web):
    there = web.put("there.bin", BODY)
    url = web.put("a.bin", b"", redirect_to(there))
    assert Path(get_file("a.bin", url, file_hash=sha256(BODY))).read_bytes() == BODY


def test_redirect_from_https_to_http_is_refused():
    import urllib.request

    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(download_module._Fatal, match="refused"):
        download_module._Redirects().redirect_request(
            request, io.BytesIO(), 302, "Found", {}, "http://example.org/a"
        )


def test_server_errors_are_tried_again_and_others_not(web):
    busy = lambda handler, body: handler.send_error(503)  # noqa: E731
    url = web.put("a.bin", BODY, busy, busy)
    assert Path(get_file("a.bin", url)).read_bytes() == BODY
    assert len(web.log) == 3
    with pytest.raises(DownloadError, match="404"):
        get_file("b.bin", web.url + "b.bin")
    assert web.requests("b.bin") == [None]


def test_packed_answer_is_refused(web):
    packed = lambda h, body: h.answer(body, headers={"Content-Encoding": "gzip"})  # noqa: E731
    with pytest.raises(DownloadError, match="packed"):
        get_file("a.bin", web.put("a.bin", BODY, packed))


def test_nobody_listens(web, monkeypatch):
    monkeypatch.setattr(download_module, "ATTEMPTS", 2)
    with pytest.raises(DownloadError, match="refused"):
        get_file("a.bin", "http://127.0.0.1:9/a.bin")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../a", "/etc/x", "a\\b", "a\0b"])
def test_names_with_folders(web, name):
    with pytest.raises(ValueError, match="without folders"):
        get_file(name, web.url + "a.bin")
    assert not web.log


@pytest.mark.parametrize("origin", [None, "", "http://127.0.0.1/", "http://127.0.0.1/x/.."])
def test_bad_origins(web, origin):
    with pytest.raises(ValueError, match="origin|file name|without folders"):
        get_file(None, origin)


@pytest.mark.parametrize("origin", ["ftp://127.0.0.1/a", "gopher://x/a", "a.bin", "/etc/hostname"])
def test_other_protocols(web, origin):
    with pytest.raises(DownloadError, match="only http, https and file"):
        get_file("a.bin", origin)


def test_local_file_as_origin(web, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(BODY)
    assert Path(get_file("a.bin", source.as_uri(), file_hash=sha256(BODY))).read_bytes() == BODY
    with pytest.raises(CorruptFileError):
        get_file("b.bin", source.as_uri(), file_hash="0" * 64)
    with pytest.raises(DownloadError, match="No such file"):
        get_file("c.bin", (tmp_path / "missing").as_uri())


def test_keras_cache_is_read_only_with_the_right_hash(web, tmp_path):
    url = web.put("a.bin", BODY)
    there = tmp_path / "keras" / "datasets" / "a.bin"
    there.parent.mkdir(parents=True)
    there.write_bytes(BODY)
    assert get_file("a.bin", url, file_hash=sha256(BODY)) == str(there)
    assert not web.log
    assert get_file("a.bin", url) != str(there)  # nothing proves that it is the same file
    (cache(tmp_path) / "a.bin").unlink()
    there.write_bytes(b"another file")
    assert Path(get_file("a.bin", url, file_hash=sha256(BODY))).read_bytes() == BODY
    assert there.read_bytes() == b"another file"


def test_folders_of_the_cache(web, tmp_path):
    url = web.put("a.bin", BODY)
    assert get_file("a.bin", url, cache_dir=tmp_path / "x") == str(tmp_path / "x/datasets/a.bin")
    path = get_file("a.bin", url, cache_dir=tmp_path, cache_subdir=str(tmp_path / "abs"))
    assert path == str(tmp_path / "abs" / "a.bin")


def test_cache_that_cannot_be_made(web, tmp_path, monkeypatch):
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setenv("HORNBEAM_HOME", str(tmp_path / "occupied"))
    with pytest.raises(OSError, match="HORNBEAM_HOME"):
        get_file("a.bin", web.put("a.bin", BODY))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file(web, tmp_path, monkeypatch, call):
    url = web.put("a.bin", BODY)
    path = Path(get_file("a.bin", url))
    web.put("a.bin", BODY[::-1])

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download_module.os, call, fail)
    with pytest.raises(DownloadError, match="could not store .* No space left"):
        get_file("a.bin", url, force_download=True)
    monkeypatch.undo()
    assert path.read_bytes() == BODY


def test_interrupt_keeps_what_has_arrived(web, tmp_path, monkeypatch):
    original = download_module._copy

    def interrupted(*args):
        original(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(download_module, "_copy", interrupted)
    url = web.put("a.bin", BODY)
    with pytest.raises(KeyboardInterrupt):
        get_file("a.bin", url, file_hash=sha256(BODY))
    assert "a.bin" not in names(cache(tmp_path)) and "a.bin.lock" not in names(cache(tmp_path))
    assert (cache(tmp_path) / "a.bin.partial").read_bytes() == BODY


def test_bar_on_a_terminal(web, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    get_file("a.bin", web.put("a.bin", BODY))
    assert "a.bin: " in terminal.getvalue() and "100%" in terminal.getvalue()


def test_importing_is_cheap():
    program = """
import sys, numpy
before = set(sys.modules)
import hornbeam.datasets, hornbeam.utils.file_utils
slow = {"ssl", "urllib.request", "http.client", "tarfile", "zipfile", "gzip", "tqdm", "h5py"}
print(sorted(slow & (set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


CHILD = """
import sys
from hornbeam.utils import get_file
print("ready", flush=True)
path = get_file("a.bin", sys.argv[1], file_hash=sys.argv[2])
print(len(open(path, "rb").read()))
"""


def test_processes_at_once_fetch_it_once(web, tmp_path):
    all_there = threading.Event()

    def wait(handler, body):
        all_there.wait(60)
        handler.answer(body)

    url = web.put("a.bin", BODY, wait, wait, wait)
    command = [sys.executable, "-c", CHILD, url, sha256(BODY)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 3
    all_there.set()
    assert [child.communicate(timeout=60)[0] for child in children] == [f"{len(BODY)}\n"] * 3
    assert len(web.log) == 1
    assert names(cache(tmp_path)) == ["a.bin"]


@pytest.mark.skipif(sys.platform == "win32", reason="the lock file stays there")
def test_lock_survives_many_hands(tmp_path):
    """Threads take turns although the lock file is removed and made anew all the time."""
    path, inside, seen = str(tmp_path / "x"), [], []

    def work():
        for _ in range(50):
            with lock(path):
                inside.append(1)
                seen.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 200
    assert os.listdir(tmp_path) == []


def a_zip(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "fname, archive, folder",
    [
        (None, "data.v1.zip_archive", "data.v1.zip"),
        ("flowers", "flowers_archive", "flowers"),
        ("flowers.v1.zip", "flowers.v1.zip", "flowers_extracted"),
    ],
)
def test_extract_names_follow_keras(web, tmp_path, fname, archive, folder):
    url = web.put("data.v1.zip", a_zip({"a/b.txt": "hello"}))
    path = Path(get_file(fname, url, extract=True))
    assert path == cache(tmp_path) / folder
    assert (path / "a" / "b.txt").read_text() == "hello"
    assert (cache(tmp_path) / archive).is_file()


def test_extract_again_only_when_needed(web, tmp_path):
    url = web.put("d.zip", a_zip({"a.txt": "one", "b.txt": "two"}))
    path = Path(get_file("d", url, extract=True))
    inode = path.stat().st_ino
    get_file("d", url, extract=True)
    assert path.stat().st_ino == inode
    (path / "b.txt").unlink()  # as after a crash, or an accident
    get_file("d", url, extract=True)
    assert (path / "b.txt").read_text() == "two"
    web.put("d.zip", a_zip({"c.txt": "three"}))
    get_file("d", url, extract=True, force_download=True)
    assert names(path) == ["c.txt"]


def test_extract_keeps_what_was_there(web, tmp_path):
    mine = cache(tmp_path) / "d"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work")
    url = web.put("d.zip", a_zip({"a.txt": "one"}))
    with pytest.warns(UserWarning, match="was there before"):
        path = get_file("d", url, extract=True)
    assert names(Path(path)) == ["a.txt"]
    assert (cache(tmp_path) / "d.before1" / "thesis.txt").read_text() == "years of work"


def test_what_is_no_archive(web, tmp_path):
    with pytest.raises(ValueError, match="not an archive"):
        get_file("d", web.put("d.zip", b"plain text"), extract=True)
    with pytest.raises(ValueError, match="not an archive"):
        get_file("e", web.put("e.zip", a_zip({"a": "b"})), untar=True)
    assert names(cache(tmp_path)) == ["d_archive", "e_archive"]
