"""The decoders of old data files: they read what pickle and NumPy wrote, and run nothing."""

import datetime
import functools
import io
import operator
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from hornbeam.datasets import _npz
from hornbeam.datasets._stream import _STEPS, FormatError, decode


def same(a, b):
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        order = "="  # unpickling makes it native, decoding keeps it
        if a.dtype.newbyteorder(order) != b.dtype.newbyteorder(order) or a.shape != b.shape:
            return False
        return all(map(same, a.ravel().tolist(), b.ravel().tolist()))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


VALUES = [
    None,
    True,
    [0, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -1, -(2**31), 2**63, -(2**70), 2**2000],
    [1.5, -0.0, float("inf")],
    ["text", "naïve", "\U0001f333" * 100, "x" * 70_000],
    [b"", b"bytes", bytes(range(256)) * 300],
    [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [[]], {}],
    {"a": 1, "b": [1, 2], 3: {"c": "d"}},
    [list(range(5000)), list(range(5000))],
    np.arange(12, dtype="uint8").reshape(3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(3, dtype=">i4"),
    np.array([True, False]),
    np.zeros((0, 3), dtype="float32"),
    np.array(5.0),
    [np.arange(3), np.arange(4, dtype="f2"), {"x": np.arange(2)}],
]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_reads_what_pickle_writes(protocol, value):
    data = pickle.dumps(value, protocol=protocol)
    assert same(decode(data), pickle.loads(data))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_of_lists(protocol):
    array = np.empty(3, dtype=object)
    array[:] = [[1, 2], [], [70_000]]
    assert same(decode(pickle.dumps(array, protocol=protocol)), array)


def test_shared_and_circular_parts():
    a = np.arange(3)
    x, y = decode(pickle.dumps([a, a]))
    assert x is y
    circle = []
    circle.append(circle)
    assert (result := decode(pickle.dumps(circle)))[0] is result


class Reduce:
    def __init__(self, *state):
        self.state = state

    def __reduce__(self):
        return self.state


class Plain:
    pass


def gadgets(folder):
    target = str(folder)
    yield Reduce(os.mkdir, (target,))
    yield Reduce(os.system, (f"mkdir {target}",))
    yield Reduce(eval, (f"__import__('os').mkdir({target!r})",))
    yield Reduce(__import__, ("this",))
    yield Reduce(getattr, (int, "real"))
    yield Reduce(operator.attrgetter, ("mkdir",))
    yield Reduce(functools.partial, (os.mkdir, target))
    yield Reduce(np.load, (target,))
    yield Reduce(list, ())
    yield Reduce(dict, (), {"a": 1})
    yield os.mkdir
    yield np.ndarray.tofile
    yield Plain()
    yield datetime.date(2020, 1, 1)
    yield 1 + 2j
    yield {1, 2}
    yield bytearray(b"x")
    yield np.float64(1.5)
    yield np.array([("a", 1)], dtype=[("x", "U1"), ("y", "i4")])
    yield np.array(["2020-01-01"], dtype="M8[D]")
    yield np.array(["text"])
    yield np.ma.array([1, 2])


@pytest.mark.parametrize("protocol", [2, 4])
def test_runs_nothing(tmp_path, protocol):
    for value in gadgets(tmp_path / "ran"):
        for wrapped in (value, [value], {"data": value}):
            with pytest.raises(FormatError):
                decode(pickle.dumps(wrapped, protocol=protocol))
    assert not (tmp_path / "ran").exists()


def test_runs_nothing_hand_written():
    start = b"\x80\x02"
    for body in (
        b"cos\nsystem\nU\x04true\x85R.",
        b"cposix\nsystem\nU\x04true\x85R.",
        b"cnumpy\ndtype.__class__\n.",
        b"cnumpy\nload\nU\x01x\x85R.",
        b"cnumpy.core.multiarray\n_reconstruct\ncos\nsystem\nK\x00\x85U\x01b\x87R.",
        b"c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0rot\x86R.",
        b"cnumpy\nndarray\nK\x05\x85\x85R.",
        b"c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.",
        b"cnumpy\nndarray\n)\x81.",  # NEWOBJ
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nU\x04trueo.",  # OBJ
        b"\x82\x01.",  # EXT1
        b"P1\n.",  # PERSID
        b"U\x02osU\x06system\x93.",  # STACK_GLOBAL of bytes
        b"]}b.",  # BUILD on a list
        b"\x80\x05N.",
        b"\x80\xffN.",
    ):
        with pytest.raises(FormatError):
            decode(start + body)


def test_every_instruction_but_the_known_ones_is_refused():
    known = {0x4D, 0x4B, 0x2E, *_STEPS}
    assert not known & {ord(c) for c in "iocPQ\x81\x82\x83\x84\x92"} - {ord("c")}
    for code in set(range(256)) - known:
        with pytest.raises(FormatError, match="instruction"):
            decode(b"\x80\x02NN" + bytes([code]) + b"aa\n." * 3)


def test_sizes_beyond_the_stream():
    for body in (
        b"T\xff\xff\xff\x7fabc.",
        b"T\xff\xff\xff\xffabc.",
        b"B\xff\xff\xff\xffabc.",
        b"\x8e" + b"\xff" * 8 + b"abc.",
        b"X\xff\xff\xff\xffabc.",
        b"\x8a\xffabc.",
    ):
        with pytest.raises(FormatError, match="ends too early"):
            decode(b"\x80\x02" + body)


def test_arrays_whose_contents_do_not_fit():
    good = pickle.dumps(np.arange(12, dtype="u1").reshape(3, 4), protocol=3)
    shape = b"K\x03K\x04\x86"
    assert shape in good and decode(good).shape == (3, 4)
    for bad in (b"K\x03K\x05\x86", b"K\x03J\xff\xff\xff\xff\x86", b"K\x03G" + bytes(8) + b"\x86",
                b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86",
                b"\x8a\x09" + b"\xff" * 8 + b"\x00K\x00\x86"):  # fmt: skip
        with pytest.raises(FormatError):
            decode(good.replace(shape, bad))


def test_cut_and_flipped_streams_never_crash():
    array = np.empty(2, dtype=object)
    array[:] = [[1, 2, 300], [4]]
    for protocol in (2, 4):
        data = pickle.dumps({"x": array, "y": np.arange(5.0), "z": [b"a", "b"]}, protocol=protocol)
        for length in range(len(data)):
            with pytest.raises(FormatError):
                decode(data[:length])
        rng = np.random.default_rng(0)
        for _ in range(3000):
            damaged = bytearray(data)
            for position in rng.integers(0, len(data), 2):
                damaged[position] = rng.integers(0, 256)
            try:
                decode(bytes(damaged))
            except FormatError:
                pass


def npz(tmp_path, members, compression=zipfile.ZIP_STORED):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, body in members.items():
            archive.writestr(f"{name}.npy", body)
    return path


def npy(array, version=None):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def with_header(text, contents=b"", version=b"\1\0"):
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text.encode() + contents


@pytest.mark.parametrize(
    "array",
    [v for v in VALUES if isinstance(v, np.ndarray)] + [np.arange(3), np.ones((2, 3, 4), "f4")],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_npz_reads_what_numpy_writes(tmp_path, array, compression):
    for version in ((1, 0), (2, 0)):
        path = npz(tmp_path, {"x": npy(array, version), "other": b"junk"}, compression)
        (result,) = _npz.load(path, ["x"])
        assert result.dtype == array.dtype and result.flags.writeable
        np.testing.assert_array_equal(result, array)
        assert result.flags.f_contiguous == array.flags.f_contiguous


def test_npz_reads_python_2_shapes(tmp_path):
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (2L, 3L), }    \n"
    path = npz(tmp_path, {"x": with_header(text, b"abcdef")})
    assert _npz.load(path, ["x"])[0].tolist() == [[97, 98, 99], [100, 101, 102]]


def header(descr="'|u1'", order="False", shape="(3,)", end=", }\n"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}{end}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        b"\x93NUMPY\3\0",
        with_header(header(), b"ab"),
        with_header(header(), b"abcd"),
        with_header(header(shape="(999999999999, 999999999999, 999999999999)"), b"abc"),
        with_header(header(shape="(0, 999999999999)"), b"abc"),
        with_header(header(shape="(-3,)"), b"abc"),
        with_header(header(shape="(3.0,)"), b"abc"),
        with_header(header(shape="(True,)"), b"a"),
        with_header(header(shape="(" * 2000), b"abc"),
        with_header(header(shape="(3,)" + " " * 5000), b"abc"),
        with_header(header(order="1"), b"abc"),
        with_header(header(descr="'|u3'"), b"abc"),
        with_header(header(descr="'|V3'"), b"abc"),
        with_header(header(descr="'<M8[D]'"), b"abc"),
        with_header(header(descr="[('a', '|u1')]"), b"abc"),
        with_header(header(end=", 'x': __import__('os')}\n"), b"abc"),
        with_header("9" * 4000 + "**" + "9" * 50, b"abc"),
        with_header(header(descr="'|O'"), b"abc"),
        with_header(header(descr="'|O'"), pickle.dumps(np.arange(3))),
        with_header(header(descr="'|O'"), pickle.dumps([1, 2, 3])),
        with_header(header(descr="'|O'", shape="(4,)"), pickle.dumps(np.array([1, "a", None]))),
    ],
    ids=lambda body: str(len(body)),
)
def test_npz_refuses(tmp_path, body):
    with pytest.raises(FormatError, match="a.npz"):
        _npz.load(npz(tmp_path, {"x": body}), ["x"])


def test_npz_runs_nothing(tmp_path):
    array = np.empty(1, dtype=object)
    array[0] = Reduce(os.mkdir, (str(tmp_path / "ran"),))
    with pytest.raises(FormatError, match="mkdir"):
        _npz.load(npz(tmp_path, {"x": npy(array)}), ["x"])
    assert not (tmp_path / "ran").exists()


def test_npz_bombs_and_damage(tmp_path, monkeypatch):
    body = npy(np.zeros(100_000))
    path = npz(tmp_path, {"x": body}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(_npz, "MAX_BYTES", 100_000)
    with pytest.raises(FormatError, match="would unpack"):
        _npz.load(path, ["x"])
    monkeypatch.undo()
    with pytest.raises(FormatError, match="no array 'y'; it has x.npy"):
        _npz.load(path, ["y"])
    with pytest.raises(FormatError, match="neither stored"):
        _npz.load(npz(tmp_path, {"x": body}, zipfile.ZIP_BZIP2), ["x"])
    data = npz(tmp_path, {"x": npy(np.arange(50))}).read_bytes()
    for length in range(0, len(data), 11):
        path.write_bytes(data[:length])
        with pytest.raises(FormatError):
            _npz.load(path, ["x"])
    wrong_sum = bytearray(data)
    wrong_sum[300] ^= 1
    path.write_bytes(wrong_sum)
    with pytest.raises(FormatError, match="CRC"):
        _npz.load(path, ["x"])
