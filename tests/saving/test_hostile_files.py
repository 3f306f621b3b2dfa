"""Hostile, damaged and foreign files are refused by name, before anything is allocated."""

import io
import re
import resource
import zipfile

import common
import h5py
import hostile
import numpy as np
import pytest

import hornbeam as keras
from hornbeam.saving import _files, _hdf5

FIXED = ("metadata.json", "config.json", "model.weights.h5")
MEGABYTES = 1 << 10  # ru_maxrss counts kilobytes


@pytest.fixture(autouse=True)
def bounded_memory():
    """The most that this process ever held may not grow with what a file declares."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 700 * MEGABYTES


def read_keras(path):
    with _files.open_file(path) as file:
        archive = _files.Archive(file, path, FIXED, "assets")
        _files.parse_json(archive.read("config.json", 64 << 20), path)
        with archive.open("model.weights.h5") as weights, _hdf5.open_tree(weights, path) as tree:
            return {name: array.read() for name, array in tree.arrays.items()}


def read_hdf5(path):
    with _files.open_file(path) as file, _hdf5.open_tree(file, path) as tree:
        return {name: array.read() for name, array in tree.arrays.items()}


def refused(read, path, pattern):
    with pytest.raises(keras.saving.SavedFileError) as info:
        read(path)
    assert re.search(pattern, str(info.value)), str(info.value)
    assert str(path) in str(info.value)


def load_weights(path):
    common.architectures.build(keras, "mlp").load_weights(path)


@pytest.mark.parametrize("name", hostile.ZIP)
def test_zip(tmp_path, name):
    build, pattern = hostile.ZIP[name]
    path = tmp_path / "m.keras"
    build(path)
    refused(read_keras, path, pattern)
    refused(keras.models.load_model, path, pattern)
    if "json" not in name and "config" not in name:
        refused(load_weights, path, pattern)


@pytest.mark.parametrize("change", hostile.LEGACY)
def test_older_format(tmp_path, change):
    build, pattern = hostile.LEGACY[change]
    path = tmp_path / "m.h5"
    build(path)
    refused(keras.models.load_model, path, pattern)
    if "config" not in change:
        refused(load_weights, path, pattern)


@pytest.mark.parametrize("inside", [False, True], ids=["h5", "keras"])
@pytest.mark.parametrize("name", hostile.HDF5)
def test_hdf5(tmp_path, name, inside):
    build, pattern = hostile.HDF5[name]
    path = tmp_path / "m.weights.h5"
    build(path)
    if inside:
        path.with_name("m.keras").write_bytes(hostile.hdf5_bytes(path))
        path = path.with_name("m.keras")
    refused(read_keras if inside else read_hdf5, path, pattern)
    refused(load_weights, path, pattern)
    refused(keras.models.load_model, path, pattern if inside else "")


def test_good_files_are_read():
    for path in hostile.FIXTURES.glob("*.keras"):
        with zipfile.ZipFile(path) as z, h5py.File(io.BytesIO(z.read("model.weights.h5"))) as f:
            found = read_keras(path)
            assert found
            for name, value in found.items():
                np.testing.assert_array_equal(value, f[name][()])


@pytest.mark.parametrize("name", ["mlp.keras", "mlp.weights.h5", "mlp.h5"])
def test_a_file_cut_off_anywhere(tmp_path, name):
    data = (hostile.FIXTURES / name).read_bytes()
    path = tmp_path / name
    read = load_weights if "weights" in name else keras.models.load_model
    for size in [0, 1, 7, 8, 100, *range(997, len(data), 997), len(data) - 1]:
        path.write_bytes(data[:size])
        refused(read, path, "")


def test_every_flipped_bit_of_a_keras_file_shows(tmp_path):
    """The checksums of the archive cover the members; headers are held against the directory."""
    good = (hostile.FIXTURES / "mlp.keras").read_bytes()
    path, expected = tmp_path / "m.keras", None
    unnoticed = 0
    for position in range(0, len(good), 211):
        data = bytearray(good)
        data[position] ^= 0x10
        path.write_bytes(data)
        try:
            found = read_keras(path)
        except _files.SavedFileError:
            continue
        unnoticed += 1  # a date, say: then the contents must be right all the same
        expected = expected or read_keras(hostile.FIXTURES / "mlp.keras")
        assert found.keys() == expected.keys()
        for key, value in found.items():
            np.testing.assert_array_equal(value, expected[key])
    assert unnoticed < 5


def test_numbers_of_other_machines_and_packed_ones(tmp_path):
    path = tmp_path / "a.h5"
    big = np.arange(12, dtype=">f8").reshape(3, 4)
    with h5py.File(path, "w") as f:
        f["big"] = big
        f["flags"] = np.array([True, False])
        f.create_dataset("packed", data=big, chunks=(1, 4), compression="gzip", shuffle=True)
        f.create_dataset("checked", data=big, chunks=(3, 4), fletcher32=True)
        f["empty"] = np.zeros((0, 3), "f4")
        f["scalar"] = np.int64(7)
        f["half"] = np.frombuffer(np.float32([1.5, -2]).tobytes(), "V2")[1::2]
        f["half"].attrs["dtype"] = "bfloat16"
    found = read_hdf5(path)
    for name in ("big", "packed", "checked"):
        np.testing.assert_array_equal(found[name], big)
        assert found[name].dtype.isnative
    assert found["flags"].tolist() == [True, False]
    assert found["empty"].shape == (0, 3)
    assert found["scalar"] == 7
    assert found["half"].tolist() == [1.5, -2]


def test_attributes(tmp_path):
    path = tmp_path / "a.h5"
    names = [f"layer_{i}" for i in range(10_000)]
    with open(path, "w+b") as file, _hdf5.create(file) as writer:
        writer.attribute("", "text", "grün")
        writer.attribute("", "few", ["a", "b"])
        writer.attribute("", "none", [])
        writer.attribute("", "many", names)
    with h5py.File(path) as f:
        assert {"many0", "many1", "many2"} <= set(f.attrs)
        f.attrs["few"]
    with h5py.File(path, "r+") as f:
        f.attrs["fixed"] = np.array([b"x", b"yz"])
        f.attrs["bad"] = np.array([b"\xff"])
        f.attrs["number"] = 3
        f.attrs["two"] = np.array([["a"], ["b"]], dtype=object)
        f.attrs["reference"] = f.ref
    with _files.open_file(path) as file, _hdf5.open_tree(file, path) as tree:
        assert tree.attribute("", "text") == "grün"
        assert tree.texts("", "few") == ["a", "b"]
        assert tree.texts("", "none") == []
        assert tree.texts("", "many") == names
        assert tree.texts("", "fixed") == ["x", "yz"]
        assert tree.texts("", "missing") is None
        assert tree.attribute("", "number") == 3
        for name in ("bad", "two", "reference"):
            with pytest.raises(_files.SavedFileError, match=str(path)):
                tree.attribute("", name)


@pytest.mark.parametrize("length", range(0, 12))
def test_a_writer_that_fails_leaves_libhdf5_in_order(tmp_path, length):
    """An error of the disk at any write is raised, and other files can be written afterwards."""

    class Full(io.FileIO):
        left = length

        def write(self, data):
            self.left -= 1
            if self.left < 0:
                raise OSError(28, "No space left on device")
            return super().write(data)

    def write(file):
        with _hdf5.create(file) as writer:
            for i in range(3):
                writer.group(f"g{i}")
                writer.array(f"g{i}/a", np.zeros(1000))
                writer.attribute(f"g{i}", "names", ["a", "b"])

    with Full(tmp_path / "full.h5", "w+") as file:
        try:
            write(file)
            complete = True
        except OSError as error:
            assert error.errno == 28
            complete = False
    assert complete == (read_or_none(tmp_path / "full.h5") is not None)
    with open(tmp_path / "good.h5", "w+b") as file:
        write(file)
    assert len(read_hdf5(tmp_path / "good.h5")) == 3


def read_or_none(path):
    try:
        return read_hdf5(path)
    except _files.SavedFileError:
        return None


def test_not_a_file(tmp_path):
    import os

    refused(read_keras, tmp_path, "got a folder")
    os.mkfifo(tmp_path / "pipe")
    for read in (keras.models.load_model, load_weights):
        refused(read, tmp_path / "pipe", "pipe")
        with pytest.raises(FileNotFoundError, match="File not found"):
            read(tmp_path / "missing.keras")
