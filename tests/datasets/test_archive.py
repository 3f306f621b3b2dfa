"""Hostile archives: an error that names the trick, and not a trace outside or left behind."""

import gzip
import io
import os
import shutil
import stat
import struct
import tarfile
import warnings
import zipfile
from dataclasses import replace

import pytest

from hornbeam.utils.archive import ArchiveError, Limits, extract_archive


def a_tar(members, mode="w", **options):
    """Members: name -> bytes, or a TarInfo (with a body from its `body` attribute)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                archive.addfile(info)
    return buffer.getvalue()


def special(name, kind, linkname="", **fields):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    for field, value in fields.items():
        setattr(info, field, value)
    return name, info


def a_zip(members, compression=zipfile.ZIP_STORED):
    """Members: name -> bytes; a ZipInfo in place of a name is taken as it is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of duplicate names
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def zip_info(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.fixture
def unpack(tmp_path):
    """Unpacks bytes into box/out, and checks that a refusal leaves no trace anywhere."""
    (tmp_path / "box").mkdir()
    (tmp_path / "secret").write_text("secret")

    def run(body, limits=None, archive_format="auto"):
        source = tmp_path / "archive"
        source.write_bytes(body)
        try:
            extract_archive(source, tmp_path / "box" / "out", archive_format, limits)
        except BaseException:
            assert os.listdir(tmp_path / "box") == []
            raise
        finally:
            assert sorted(os.listdir(tmp_path)) == ["archive", "box", "secret"]
            assert (tmp_path / "secret").read_text() == "secret"
        return tmp_path / "box" / "out"

    return run


GOOD = [("a.txt", b"one"), ("d/b.txt", b"two"), ("./d/e/c.txt", b"")]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_good_tars(unpack, mode, format):
    long = "/".join(["x" * 60] * 4) + "/" + "ä" * 40
    members = GOOD + ([(long, b"deep")] if format != tarfile.USTAR_FORMAT else [])
    out = unpack(a_tar(members, mode, format=format))
    assert (out / "a.txt").read_bytes() == b"one"
    assert (out / "d" / "b.txt").read_bytes() == b"two"
    assert (out / "d" / "e" / "c.txt").read_bytes() == b""
    if format != tarfile.USTAR_FORMAT:
        assert (out / long).read_bytes() == b"deep"
    assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_good_zips(unpack, compression):
    out = unpack(a_zip([("empty/", b""), *GOOD], compression))
    assert (out / "d" / "b.txt").read_bytes() == b"two"
    assert (out / "empty").is_dir()


def test_large_members_arrive_whole(unpack):
    body = os.urandom(1_000_001)
    assert (unpack(a_tar([("a", body), ("b", body)], "w:gz")) / "b").read_bytes() == body


def test_permissions_are_plain(unpack):
    kinds = [("run", 0o4755), ("read", 0o2600), ("d", 0o7000)]
    members = [special(n, tarfile.DIRTYPE if n == "d" else tarfile.REGTYPE, mode=m, size=0)
               for n, m in kinds]  # fmt: skip
    out = unpack(a_tar(members))
    modes = {n: stat.S_IMODE((out / n).stat().st_mode) for n, _ in kinds}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {"run": 0o777 & ~mask, "read": 0o666 & ~mask, "d": 0o777 & ~mask}
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~mask


def test_good_links(unpack):
    out = unpack(
        a_tar(
            [
                special("lib.so", tarfile.SYMTYPE, "lib.so.1"),
                special("lib.so.1", tarfile.SYMTYPE, "lib.so.1.2"),
                special("d/up", tarfile.SYMTYPE, "../lib.so"),
                special("here", tarfile.SYMTYPE, "d"),
                ("lib.so.1.2", b"code"),
                special("hard", tarfile.LNKTYPE, "./lib.so.1.2"),
            ]
        )
    )
    for name in ("lib.so", "d/up", "hard", "here/up"):
        assert (out / name).read_bytes() == b"code", name
    assert not (out / "hard").is_symlink()


BAD_NAMES = [
    "../evil",
    "/tmp/evil",
    "a/../../evil",
    "a/../b",
    "..",
    "a\\..\\b",
    "C:/evil",
    "c:evil",
    "\\\\host\\share",
    "x" * 256,
    "/".join("x" * 70),
    "n" * 2000,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_leave(unpack, name):
    for body in (a_tar([("ok", b"1"), (name, b"2")]), a_zip([("ok", b"1"), (name, b"2")])):
        with pytest.raises(ArchiveError, match="member name"):
            unpack(body)


def test_names_that_leave_from_the_root_folder(unpack, monkeypatch):
    """Checks are against the destination: from `/` every path is below the current folder."""
    monkeypatch.chdir("/")
    with pytest.raises(ArchiveError, match="leaves"):
        unpack(a_tar([("../evil", b"2")]))


def test_nul_in_a_zip_name(unpack):
    body = a_zip([("ok.txtXevil", b"1")]).replace(b"ok.txtXevil", b"ok.txt\0evil")
    with pytest.raises(ArchiveError, match="NUL"):
        unpack(body)


@pytest.mark.parametrize(
    "target",
    ["/etc", "../..", "..", "../secret", "a/../../secret", "", "missing", "l", "sub/../.."],
)
def test_symbolic_links_that_leave(unpack, target):
    body = a_tar([("sub/a", b"1"), special("l", tarfile.SYMTYPE, target)])
    with pytest.raises(ArchiveError, match="symbolic link|a link without"):
        unpack(body)
    info = zip_info("l", stat.S_IFLNK | 0o777)
    with pytest.raises(ArchiveError, match="symbolic link"):
        unpack(a_zip([("sub/a", b"1"), (info, target.encode())]))


def test_link_through_a_link_to_the_root(unpack):
    """d/l is the root, so d/l/../secret is outside, though it reads like d/secret."""
    links = [special("d/l", tarfile.SYMTYPE, ".."), special("d/m", tarfile.SYMTYPE, "l/../secret")]
    with pytest.raises(ArchiveError, match="leaves"):
        unpack(a_tar([("d/secret", b"bait"), *links]))


def test_writing_through_a_link(unpack, tmp_path):
    for target in (str(tmp_path), "../..", "."):
        body = a_tar([special("l", tarfile.SYMTYPE, target), ("l/secret", b"overwritten")])
        with pytest.raises(ArchiveError):
            unpack(body)
        body = a_tar([special("l", tarfile.SYMTYPE, target), ("l", b"overwritten")])
        with pytest.raises(ArchiveError):
            unpack(body)


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "../../secret", "missing", "", "."])
def test_hard_links_that_leave(unpack, target):
    with pytest.raises(ArchiveError):
        unpack(a_tar([("a", b"1"), special("l", tarfile.LNKTYPE, target)]))
    with pytest.raises(ArchiveError, match="leaves"):
        unpack(a_tar([("a", b"1"), special("../l", tarfile.LNKTYPE, "a")]))


def test_hard_link_to_a_symbolic_link(unpack):
    with pytest.raises(ArchiveError, match="not a file"):
        unpack(
            a_tar(
                [
                    ("a", b"1"),
                    special("s", tarfile.SYMTYPE, "a"),
                    special("h", tarfile.LNKTYPE, "s"),
                ]
            )
        )


def test_chain_of_links_longer_than_a_path(unpack):
    """The trick against realpath: folders and links until no check can resolve the path."""
    long, steps, members, path = "d" * 247, "abcdefghijklmnop", [], ""
    for step in steps:
        members.append(special(os.path.join(path, long), tarfile.DIRTYPE))
        members.append(special(os.path.join(path, step), tarfile.SYMTYPE, long))
        path = os.path.join(path, long)
    link = os.path.join("/".join(steps), "l" * 254)
    members.append(special(link, tarfile.SYMTYPE, "../" * len(steps)))
    members.append(special("escape", tarfile.SYMTYPE, link + "/../../../../secret"))
    members.append(("escape", b"overwritten"))
    with pytest.raises(ArchiveError):
        unpack(a_tar(members, format=tarfile.GNU_FORMAT))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"])
def test_devices_and_pipes(unpack, kind):
    with pytest.raises(ArchiveError, match="device"):
        unpack(a_tar([special("x", kind)]))


@pytest.mark.parametrize("mode", [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_in_zips(unpack, mode):
    with pytest.raises(ArchiveError, match="device"):
        unpack(a_zip([(zip_info("x", mode | 0o600), b"")]))


def test_one_name_twice(unpack):
    for twice in ([("a", b"1"), ("a", b"2")], [("a", b"1"), ("./a", b"2")]):
        for body in (a_tar(twice), a_zip(twice)):
            with pytest.raises(ArchiveError, match="twice"):
                unpack(body)
    for clash in ([("a", b"1"), ("a/b", b"2")], [("a/b", b"2"), ("a", b"1")]):
        for body in (a_tar(clash), a_zip(clash)):
            with pytest.raises(ArchiveError):
                unpack(body)


SMALL = Limits(members=10, total_bytes=100_000, ratio=10, free_bytes=20_000, read_bytes=20_000)


def test_bombs(unpack):
    zeros = bytes(50_000)
    bombs = [
        a_tar([("a", zeros)], "w:gz"),
        a_tar([(f"{i}", bytes(9_000)) for i in range(6)], "w:xz"),
        a_zip([("a", zeros)], zipfile.ZIP_DEFLATED),
        a_zip([(f"{i}", bytes(9_000)) for i in range(6)], zipfile.ZIP_DEFLATED),
    ]
    for body in bombs:
        with pytest.raises(ArchiveError, match="unpacks to more"):
            unpack(body, SMALL)
    # the same bytes are fine when they are not conjured out of nothing
    assert (unpack(a_tar([("a", os.urandom(50_000))]), SMALL) / "a").exists()


def test_bomb_of_hard_links(unpack):
    links = [special(f"l{i}", tarfile.LNKTYPE, "a") for i in range(8)]
    with pytest.raises(ArchiveError, match="unpacks to more"):
        unpack(a_tar([("a", os.urandom(9_000)), *links], "w:gz"), replace(SMALL, ratio=5))


def test_too_many_members(unpack):
    many = [(str(i), b"") for i in range(11)]
    for body in (a_tar(many), a_zip(many)):
        with pytest.raises(ArchiveError, match="more than 10 members"):
            unpack(body, SMALL)


def test_huge_header(unpack):
    """A packed gigabyte as a member's *name* is read whole by tarfile."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 10**6
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(ArchiveError, match="header larger"):
        unpack(gzip.compress(header + b"n" * 10**6 + bytes(2000)), SMALL)


def test_sparse_member_that_is_all_hole(unpack):
    info = tarfile.TarInfo("hole")
    info.size = 10**12
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "hole",
           "GNU.sparse.realsize": str(10**12)}  # fmt: skip
    info.pax_headers, info.size = pax, 512
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"1\n0\n0\n".ljust(512, b"\0")))
    with pytest.raises(ArchiveError, match="unpacks to more|damaged"):
        unpack(buffer.getvalue())


def test_zip_members_that_share_bytes(unpack):
    body = bytearray(a_zip([("a", b"x" * 1000), ("b", b"y" * 1000)]))
    # the central directory's second entry points to the first member's data
    second = body.rindex(b"PK\1\2")
    struct.pack_into("<I", body, second + 42, 10)
    with pytest.raises(ArchiveError, match="overlap"):
        unpack(bytes(body))


def test_zip_headers_that_disagree(unpack):
    body = bytearray(a_zip([("aaaa", b"x" * 100)]))
    body[30:34] = b"bbbb"  # the local header's name
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(bytes(body))
    body = bytearray(a_zip([("aaaa", b"x" * 100)]))
    body[40] ^= 1  # a byte of the data: wrong CRC
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(bytes(body))


def test_zip_flags(unpack):
    body = bytearray(a_zip([("aaaa", b"x" * 100)]))
    entry = body.rindex(b"PK\1\2")
    body[entry + 8] |= 1
    with pytest.raises(ArchiveError, match="encrypted"):
        unpack(bytes(body))
    with pytest.raises(ArchiveError, match="neither stored nor deflated"):
        unpack(a_zip([("a", bytes(1000))], zipfile.ZIP_LZMA))


@pytest.mark.parametrize("make", [lambda: a_tar(GOOD * 1, "w:gz"), lambda: a_tar(GOOD),
                                  lambda: a_zip(GOOD, zipfile.ZIP_DEFLATED)])  # fmt: skip
def test_every_truncation_is_noticed(unpack, make):
    body = make()
    step = max(1, len(body) // 60)
    end = len(body.rstrip(b"\0")) if body[:2] not in (b"PK", b"\x1f\x8b") else len(body) - 1
    for length in range(0, end, step):
        with pytest.raises(ArchiveError):
            unpack(body[:length])


def test_flipped_bytes_never_crash(unpack, tmp_path):
    for body in (a_tar(GOOD, "w:gz"), a_tar(GOOD), a_zip(GOOD, zipfile.ZIP_DEFLATED)):
        for position in range(0, min(len(body), 1600), 7):
            damaged = bytearray(body)
            damaged[position] ^= 0xFF
            try:
                out = unpack(bytes(damaged))
            except ArchiveError:
                continue
            os.rename(out, tmp_path / "box" / "moved")
            shutil.rmtree(tmp_path / "box" / "moved")


def test_formats(unpack):
    with pytest.raises(ArchiveError, match="not an archive"):
        unpack(b"text")
    with pytest.raises(ArchiveError, match="not an archive"):
        unpack(b"")
    with pytest.raises(ArchiveError, match="not an archive"):
        unpack(a_zip(GOOD), archive_format="tar")
    with pytest.raises(ArchiveError, match="no format at all"):
        unpack(a_zip(GOOD), archive_format=None)
    with pytest.raises(ValueError, match="unknown archive_format"):
        unpack(a_zip(GOOD), archive_format="rar")
    assert unpack(a_zip(GOOD), archive_format=["tar", "zip"]).is_dir()


def test_full_disk_is_an_error_of_the_disk(unpack, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hornbeam.utils.archive.os.mkdir", fail)
    with pytest.raises(OSError, match="No space"):
        unpack(a_tar(GOOD))


def test_the_destination_must_be_free(unpack, tmp_path):
    (tmp_path / "box" / "out").mkdir()
    (tmp_path / "box" / "out" / "mine").write_text("mine")
    (tmp_path / "archive").write_bytes(a_tar(GOOD))
    with pytest.raises(OSError):
        extract_archive(tmp_path / "archive", tmp_path / "box" / "out")
    assert (tmp_path / "box" / "out" / "mine").read_text() == "mine"
    assert os.listdir(tmp_path / "box") == ["out"]
