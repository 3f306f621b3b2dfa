"""The downloading loaders on files of the real formats, served on the loopback interface."""

import gzip
import hashlib
import io
import json
import pickle
import re
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from hornbeam import datasets
from hornbeam.datasets import _remote, _sequences
from hornbeam.datasets._stream import FormatError
from hornbeam.utils.download import CorruptFileError, DownloadError

RNG = np.random.default_rng(7)


@pytest.fixture
def serve(web, monkeypatch):
    """Puts a body on the server and lets a loader's source point to it, with its hash."""

    def put(module, attribute, body, file_hash=None):
        source = getattr(module, attribute)
        name = source.url.rpartition("/")[2]
        url = web.put(name, body)
        algorithm = "sha256" if len(source.file_hash) == 64 else "md5"
        file_hash = file_hash or hashlib.new(algorithm, body).hexdigest()
        monkeypatch.setattr(module, attribute, _remote.Source(url, file_hash))

    return put


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def ragged(lists):
    array = np.empty(len(lists), dtype=object)
    for i, item in enumerate(lists):
        array[i] = item
    return array


def python2_string(value):
    return b"U" + bytes([len(value)]) + value


def python2_array(array):
    """The stream of a uint8 array as Python 2's cPickle wrote it in protocol 2."""
    rows, columns = array.shape
    return b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b",
            b"\x87Rq\x04(K\x01M",
            struct.pack("<H", rows),
            b"M",
            struct.pack("<H", columns),
            b"\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ",
            b"\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T",
            struct.pack("<i", array.nbytes),
            array.tobytes(),
            b"tb",
        ]
    )


def python2_batch(images, labels, key):
    """A CIFAR batch, instruction for instruction like the real ones."""
    numbers = b"".join(b"K" + bytes([n]) for n in labels)
    parts = [
        b"\x80\x02}q\x01(",
        python2_string(b"batch_label") + b"U\x15training batch 1 of 5",
        python2_string(key) + b"]q\x07(" + numbers + b"e",
        python2_string(b"data") + python2_array(images),
        python2_string(b"filenames") + b"]q\x08(U\x05a.pngq\x09U\x05b.pngq\x0ae",
        b"u.",
    ]
    return b"".join(parts)


def tar_gz(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def images_and_labels(count, classes):
    images = RNG.integers(0, 256, (count, 3072), dtype="uint8")
    return images, RNG.integers(0, classes, count).tolist()


def test_addresses_and_hashes_are_well_formed():
    sources = [
        value
        for module in vars(datasets).values()
        for value in getattr(module, "__dict__", {}).values()
        if isinstance(value, _remote.Source)
    ]
    assert len(sources) == 13
    for source in sources:
        assert source.url.startswith("https://")
        digits = 32 if "word_index" in source.url else 64
        assert re.fullmatch(f"[0-9a-f]{{{digits}}}", source.file_hash)
    assert len({s.file_hash for s in sources}) == len({s.url for s in sources}) == 13


def test_mnist(serve, web):
    x, y = RNG.integers(0, 256, (30, 28, 28), dtype="uint8"), np.arange(30, dtype="uint8")
    serve(
        datasets.mnist, "SOURCE", npz(x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    )
    for _ in range(2):
        (x_train, y_train), (x_test, y_test) = datasets.mnist.load_data()
        for got, want in ((x_train, x[:20]), (y_train, y[:20]), (x_test, x[20:]), (y_test, y[20:])):
            np.testing.assert_array_equal(got, want)
            assert got.dtype == "uint8" and got.flags.writeable
    assert len(web.log) == 1
    datasets.mnist.load_data("other_name.npz")
    assert len(web.log) == 2


def test_wrong_hash_and_damaged_cache(serve, tmp_path):
    body = npz(x_train=np.zeros(1), y_train=np.zeros(1), x_test=np.zeros(1), y_test=np.zeros(1))
    serve(datasets.mnist, "SOURCE", body, "0" * 64)
    with pytest.raises(CorruptFileError, match="wrong contents"):
        datasets.mnist.load_data()
    serve(datasets.mnist, "SOURCE", body)
    datasets.mnist.load_data()
    cached = tmp_path / "home" / "datasets" / "mnist.npz"
    cached.write_bytes(pickle.dumps(Gadget(tmp_path / "ran")))
    datasets.mnist.load_data()
    assert cached.read_bytes() == body and not (tmp_path / "ran").exists()


def test_no_server_says_what_to_do(web, monkeypatch, tmp_path):
    source = _remote.Source(web.url + "mnist.npz", "ab" * 32)
    monkeypatch.setattr(datasets.mnist, "SOURCE", source)
    with pytest.raises(DownloadError) as caught:
        datasets.mnist.load_data()
    place = str(tmp_path / "home" / "datasets" / "mnist.npz")
    assert all(text in str(caught.value) for text in (source.url, place, source.file_hash, "404"))


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes())


def test_fashion_mnist(serve, tmp_path):
    module = datasets.fashion_mnist
    x, y = RNG.integers(0, 256, (7, 28, 28), dtype="uint8"), np.arange(7, dtype="uint8")
    serve(module, "TRAIN_IMAGES", idx(x[:5]))
    serve(module, "TRAIN_LABELS", idx(y[:5]))
    serve(module, "TEST_IMAGES", idx(x[5:]))
    serve(module, "TEST_LABELS", idx(y[5:]))
    (x_train, y_train), (x_test, y_test) = module.load_data()
    for got, want in ((x_train, x[:5]), (y_train, y[:5]), (x_test, x[5:]), (y_test, y[5:])):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == "uint8" and got.flags.writeable
    assert len(list((tmp_path / "home" / "datasets" / "fashion-mnist").iterdir())) == 4
    huge = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
    for bad in (b"text", gzip.compress(b"text"), idx(x[:5])[:-9], idx(y[:5]), gzip.compress(huge),
                gzip.compress(gzip.decompress(idx(x)) + b"more")):  # fmt: skip
        serve(module, "TRAIN_IMAGES", bad)
        with pytest.raises(FormatError):
            module.load_data()
    serve(module, "TRAIN_IMAGES", idx(x))
    with pytest.raises(FormatError, match="7 images and 5 labels"):
        module.load_data()


@pytest.mark.parametrize("python", [2, 3])
def test_cifar10(serve, python):
    members, want = {"cifar-10-batches-py/readme.html": b"hello"}, []
    for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
        images, labels = images_and_labels(4, 10)
        want.append((images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels))
        if python == 2:
            body = python2_batch(images, labels, b"labels")
            assert pickle.loads(body, encoding="bytes")[b"labels"] == labels  # a real pickle
        else:
            body = pickle.dumps({b"data": images, b"labels": labels, "extra": None}, protocol=4)
        members[f"cifar-10-batches-py/{name}"] = body
    serve(datasets.cifar10, "SOURCE", tar_gz(members))
    (x_train, y_train), (x_test, y_test) = datasets.cifar10.load_data()
    np.testing.assert_array_equal(x_train, np.concatenate([x for x, _ in want[:5]]))
    np.testing.assert_array_equal(y_train[:, 0], np.concatenate([y for _, y in want[:5]]))
    np.testing.assert_array_equal(x_test, want[5][0])
    np.testing.assert_array_equal(y_test[:, 0], want[5][1])
    assert x_train.shape == (20, 32, 32, 3) and y_test.shape == (4, 1)
    assert {a.dtype.name for a in (x_train, y_train, x_test, y_test)} == {"uint8"}
    assert x_train.flags.c_contiguous and x_train.flags.writeable


def test_cifar100(serve):
    members, want = {}, {}
    for name in ("train", "test"):
        images, fine = images_and_labels(4, 100)
        coarse = [n // 5 for n in fine]
        want[name] = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), fine, coarse
        batch = {"data": images, "fine_labels": fine, "coarse_labels": coarse}
        members[f"cifar-100-python/{name}"] = pickle.dumps(batch, protocol=2)
    serve(datasets.cifar100, "SOURCE", tar_gz(members))
    for mode, index in (("fine", 1), ("coarse", 2)):
        for name, (x, y) in zip(("train", "test"), datasets.cifar100.load_data(mode), strict=True):
            np.testing.assert_array_equal(x, want[name][0])
            np.testing.assert_array_equal(y[:, 0], want[name][index])
    with pytest.raises(ValueError, match="'fine' or 'coarse', got 'rough'"):
        datasets.cifar100.load_data("rough")


def test_cifar_in_the_session_s_image_format(serve):
    from hornbeam import backend

    images, labels = images_and_labels(4, 10)
    body = pickle.dumps({"data": images, "fine_labels": labels}, protocol=2)
    members = {f"cifar-100-python/{name}": body for name in ("train", "test")}
    serve(datasets.cifar100, "SOURCE", tar_gz(members))
    backend.set_image_data_format("channels_first")
    try:
        (x_train, _), _ = datasets.cifar100.load_data()
    finally:
        backend.set_image_data_format("channels_last")
    np.testing.assert_array_equal(x_train, images.reshape(-1, 3, 32, 32))


class Gadget:
    """Unpickling it makes a folder: what an attack would do, in a harmless way."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def test_hostile_cifar_batches(serve, tmp_path):
    images, labels = images_and_labels(2, 10)
    good = {"data": images, "labels": labels}
    ran = tmp_path / "ran"
    bad = [
        Gadget(ran),
        good | {"more": Gadget(ran)},
        good | {"labels": [0, Gadget(ran)]},
        good | {"labels": [0, -1]},
        good | {"labels": [0, 1.5]},
        good | {"labels": [0]},
        good | {"data": images[:, :100]},
        good | {"data": images.astype("int16")},
        good | {"data": images.tolist()},
        {"labels": labels},
        [],
    ]
    bodies = [pickle.dumps(batch, protocol=2) for batch in bad]
    bodies += [b"", b"text", pickle.dumps(good)[:-30]]
    for body in bodies:
        names = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
        serve(
            datasets.cifar10,
            "SOURCE",
            tar_gz({f"cifar-10-batches-py/{name}": body for name in names}),
        )
        with pytest.raises(FormatError, match="cifar-10-python.tar.gz"):
            datasets.cifar10.load_data()
    assert not ran.exists()
    archive = tar_gz({"cifar-10-batches-py/readme": b""})
    for body in (archive, archive[:40], b"text"):
        serve(datasets.cifar10, "SOURCE", body)
        with pytest.raises(FormatError):
            datasets.cifar10.load_data()


def reviews(count):
    lengths = RNG.integers(1, 40, count)
    return ragged([RNG.geometric(0.002, n).tolist() for n in lengths])


def keras_imdb(x, y, seed):
    """Keras's documented order for one part, told with its own tool, RandomState."""
    order = np.arange(len(x))
    seed.shuffle(order)
    return [x[i] for i in order], y[order]


def test_imdb(serve):
    x, y = reviews(50), RNG.integers(0, 2, 50)
    serve(
        datasets.imdb, "SOURCE", npz(x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    )
    seed = np.random.RandomState(113)
    (x1, y1), (x2, y2) = keras_imdb(x[:30], y[:30], seed), keras_imdb(x[30:], y[30:], seed)

    (x_train, y_train), (x_test, y_test) = datasets.imdb.load_data(num_words=10**9)
    assert (
        x_train.tolist() == [[1] + [w + 3 for w in s] for s in x1]
        and y_train.tolist() == y1.tolist()
    )
    assert (
        x_test.tolist() == [[1] + [w + 3 for w in s] for s in x2] and y_test.tolist() == y2.tolist()
    )
    assert {type(w) for s in x_train for w in s} == {int}

    (x_train, _), _ = datasets.imdb.load_data(start_char=None, index_from=0, num_words=10**9)
    assert x_train.tolist() == x1
    (x_train, _), _ = datasets.imdb.load_data(
        start_char=None, index_from=0, num_words=500, skip_top=10, oov_char=None
    )
    assert x_train.tolist() == [[w for w in s if 10 <= w < 500] for s in x1]
    (x_train, _), _ = datasets.imdb.load_data(num_words=500, skip_top=10)
    assert x_train.tolist() == [
        [w if 10 <= w < 500 else 2 for w in [1, *(w + 3 for w in s)]] for s in x1
    ]
    (x_train, y_train), (x_test, _) = datasets.imdb.load_data(maxlen=20, num_words=10**9)
    short = [i for i, s in enumerate(x1) if len(s) + 1 < 20]
    assert x_train.tolist() == [[1] + [w + 3 for w in x1[i]] for i in short]
    assert y_train.tolist() == y1[short].tolist()
    # without a limit the rarest word is outside, as in Keras
    (x_train, _), (x_test, _) = datasets.imdb.load_data()
    assert max(max(s) for s in [*x_train, *x_test]) < max(max(s) for s in x) + 3
    old, new = datasets.imdb.load_data(nb_words=500), datasets.imdb.load_data(num_words=500)
    assert old[0][0].tolist() == new[0][0].tolist()
    with pytest.raises(TypeError, match="words_num"):
        datasets.imdb.load_data(words_num=3)
    with pytest.raises(ValueError, match="shorter than maxlen"):
        datasets.imdb.load_data(maxlen=1)


def test_reuters(serve):
    x, y = reviews(50), RNG.integers(0, 46, 50)
    serve(datasets.reuters, "SOURCE", npz(x=x, y=y))
    x1, y1 = keras_imdb(x, y, np.random.RandomState(113))
    (x_train, y_train), (x_test, y_test) = datasets.reuters.load_data(num_words=10**9)
    assert isinstance(x_train, np.ndarray) and x_train.shape == (40,) and x_test.shape == (10,)
    assert [*x_train, *x_test] == [[1] + [w + 3 for w in s] for s in x1]
    assert [*y_train, *y_test] == y1.tolist()
    (x_train, _), (x_test, _) = datasets.reuters.load_data(test_split=0, seed=1)
    assert len(x_train) == 50 and len(x_test) == 0
    with pytest.raises(ValueError, match="test_split"):
        datasets.reuters.load_data(test_split=1.0)
    assert len(set(datasets.reuters.get_label_names())) == 46
    assert datasets.reuters.get_label_names()[-1] == "lead"


def test_sequences_of_one_length_stay_lists(serve):
    x = ragged([[1, 2], [3, 4], [5, 6]])
    serve(datasets.reuters, "SOURCE", npz(x=x, y=np.arange(3)))
    (x_train, _), _ = datasets.reuters.load_data(num_words=100, test_split=0)
    assert x_train.shape == (3,) and type(x_train[0]) is list


@pytest.mark.parametrize("module", [datasets.imdb, datasets.reuters])
def test_word_index(serve, module):
    serve(module, "WORDS", json.dumps({"the": 1, "naïve": 2}).encode())
    assert module.get_word_index() == {"the": 1, "naïve": 2}
    for bad in (b"[1]", b'{"a": "b"}', b'{"a": true}', b"{", b"[" * 100_000, b"\xff"):
        serve(module, "WORDS", bad)
        with pytest.raises(FormatError):
            module.get_word_index()


def test_hostile_sequences(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(_sequences, "_MAX_WORDS", 1_000_000)
    shared = list(range(2000))
    bad = [
        [[1, 2], Gadget(tmp_path / "ran")],
        [[1, 2], [3, Gadget(tmp_path / "ran")]],
        [[1, 2], [3, -4]],
        [[1, 2], [3, 2**31]],
        [[1, 2], [3, "4"]],
        [[1, 2], [3, True]],
        [[1, 2], (3, 4)],
        [[1, 2], None],
        [shared] * 6_000,  # a small file, and 12 million words
    ]
    for lists in bad:
        serve(datasets.reuters, "SOURCE", npz(x=ragged(lists), y=np.arange(len(lists))))
        with pytest.raises(FormatError):
            datasets.reuters.load_data()
    assert not (tmp_path / "ran").exists()
    for y in (np.arange(3), np.arange(2.0), np.arange(2).reshape(2, 1)):
        serve(datasets.reuters, "SOURCE", npz(x=ragged([[1], [2, 3]]), y=y))
        with pytest.raises(FormatError, match="labels"):
            datasets.reuters.load_data()


@pytest.mark.parametrize(
    "module, columns", [(datasets.boston_housing, 13), (datasets.california_housing, 8)]
)
def test_housing(serve, module, columns):
    x, y = RNG.normal(size=(700, columns)).astype("float32"), np.arange(700, dtype="float32")
    serve(module, "SOURCE", npz(x=x, y=y))
    order = np.arange(700)
    np.random.RandomState(113).shuffle(order)
    (x_train, y_train), (x_test, y_test) = module.load_data()
    assert len(x_train) == 560 and len(x_test) == 140
    np.testing.assert_array_equal(np.concatenate([x_train, x_test]), x[order])
    np.testing.assert_array_equal(np.concatenate([y_train, y_test]), y[order])
    (x_train, _), (x_test, _) = module.load_data(test_split=0.5, seed=0)
    assert len(x_train) == len(x_test) == 350
    for split in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match="test_split"):
            module.load_data(test_split=split)


def test_california_small(serve):
    serve(datasets.california_housing, "SOURCE", npz(x=np.ones((700, 8)), y=np.arange(700.0)))
    (x_train, y_train), (_, y_test) = datasets.california_housing.load_data(version="small")
    assert len(x_train) == 480 and max(*y_train, *y_test) == 599
    with pytest.raises(ValueError, match="'small' or 'large', got 'tiny'"):
        datasets.california_housing.load_data("tiny")


def test_no_loader_uses_pickle():
    """Neither the module nor NumPy's door to it appears in the sources."""
    folder = Path(datasets.__file__).parent
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"\bimport c?[pP]ickle|\bpickle\.\w|np\.load\(|allow_pickle|eval\(", text
        ), path
