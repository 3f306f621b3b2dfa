"""Builders of hostile and damaged files, one function per idea; each takes the path to write.

`ZIP` are made for the reader of `.keras` files, `HDF5` for that of weights. The value is a pattern
that the refusal must match.
"""

import io
import json
import pathlib
import stat
import struct
import warnings
import zipfile

import h5py
import numpy as np

FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"
ZIP, HDF5 = {}, {}


def case(table, pattern):
    def enter(build):
        table[build.__name__] = (build, pattern)
        return build

    return enter


def members(name="mlp"):
    """The members of a good file, by name."""
    with zipfile.ZipFile(FIXTURES / f"{name}.keras") as z:
        return {info.filename: z.read(info) for info in z.infolist()}


def write_zip(path, contents, method=zipfile.ZIP_STORED):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as z:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, data in contents if isinstance(contents, list) else contents.items():
            if isinstance(data, int):  # so many zeros, which the builder itself need not hold
                with z.open(name, "w") as out:
                    for _ in range(data >> 20):
                        out.write(bytes(1 << 20))
            else:
                z.writestr(name, data)


def replaced(**changes):
    found = members()
    for name, data in changes.items():
        found[name.replace("_", ".", 2) if name == "model_weights_h5" else f"{name}.json"] = data
    return found


def patched(path, edit):
    """A good file whose bytes `edit(bytearray)` has changed."""
    write_zip(path, members())
    data = bytearray(path.read_bytes())
    edit(data)
    path.write_bytes(data)


def directory_entry(data, name):
    """Position of a member's entry in the central directory."""
    at = data.rfind(b"PK\x01\x02")
    while data[at + 46 : at + 46 + len(name)] != name:
        at = data.rfind(b"PK\x01\x02", 0, at)
    return at


# --- zip ----------------------------------------------------------------------------------------


@case(ZIP, "announce .* bytes")
def bomb_config(path):  # H26
    write_zip(path, replaced(config=400 << 20), zipfile.ZIP_DEFLATED)


@case(ZIP, "announce .* bytes")
def bomb_weights(path):  # H26
    write_zip(path, replaced(model_weights_h5=400 << 20), zipfile.ZIP_DEFLATED)


@case(ZIP, "announce .* bytes")
def bomb_assets(path):  # H26, H27
    found = members() | {f"assets/a{i}.txt": 20 << 20 for i in range(20)}
    write_zip(path, found, zipfile.ZIP_DEFLATED)


@case(ZIP, "at most|most read")
def long_json(path):  # H36
    found = members()
    found["config.json"] = b" " * (65 << 20) + found["config.json"]
    write_zip(path, found, zipfile.ZIP_DEFLATED)


@case(ZIP, "overlap")
def overlapping_members(path):  # H28
    def edit(data):
        first, last = (directory_entry(data, n) for n in (b"metadata.json", b"model.weights.h5"))
        data[last + 42 : last + 46] = data[first + 42 : first + 46]

    patched(path, edit)


@case(ZIP, "occurs twice")
def duplicate_member(path):  # H29
    write_zip(path, [*members().items(), ("config.json", b"{}")])


@case(ZIP, "unexpected member")
def duplicate_but_for_case(path):  # H32
    write_zip(path, members() | {"Config.json": b"{}"})


@case(ZIP, "named otherwise")
def directory_disagrees_with_header(path):  # H30
    def edit(data):
        at = data.find(b"config.json")
        data[at : at + 11] = b"konfig.json"

    patched(path, edit)


@case(ZIP, "encrypted")
def encrypted(path):  # H31
    def edit(data):
        at = directory_entry(data, b"config.json")
        data[at + 8] |= 1

    patched(path, edit)


@case(ZIP, "neither stored nor deflated")
def unknown_method(path):  # H31
    def edit(data):
        at = directory_entry(data, b"config.json")
        data[at + 10 : at + 12] = struct.pack("<H", 14)

    patched(path, edit)


@case(ZIP, "CRC")
def wrong_checksum(path):  # H31
    def edit(data):
        at = data.find(b"\x89HDF")
        data[at + 5000] ^= 1

    patched(path, edit)


@case(ZIP, "two sizes|announces|beyond the end")
def size_lies(path):  # H31
    def edit(data):
        at = directory_entry(data, b"model.weights.h5")
        data[at + 24 : at + 28] = struct.pack("<I", 1 << 30)

    patched(path, edit)


@case(ZIP, "beyond the end")
def both_sizes_lie(path):  # H31
    def edit(data):
        at = directory_entry(data, b"model.weights.h5")
        data[at + 20 : at + 28] = struct.pack("<II", 1 << 30, 1 << 30)

    patched(path, edit)


def _extra_name(name, shown="refused"):
    def build(path):
        write_zip(path, [*members().items(), (name, b"x")])

    build.__name__ = f"name_{ascii(name)[:30]}"
    case(ZIP, shown)(build)


for _name in (  # H32
    "/etc/x", "../x", "assets/../../x", "assets\\x", "C:/x", "assets/CON", "assets/nul.txt",
    "assets/x.", "assets//x", "assets/" + "n" * 300,
):  # fmt: skip
    _extra_name(_name)
_extra_name("evil.py", "unexpected member")  # H34


@case(ZIP, "refused")
def nul_in_a_name(path):  # H32
    write_zip(path, [*members().items(), ("assets/xyz", b"x")])
    path.write_bytes(path.read_bytes().replace(b"assets/xyz", b"assets/x\0z"))


@case(ZIP, "is a link")
def symbolic_link(path):  # H33
    info = zipfile.ZipInfo("assets/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    write_zip(path, [*members().items(), (info, "/etc/passwd")])


@case(ZIP, "missing")
def no_config(path):
    found = members()
    del found["config.json"]
    write_zip(path, found)


@case(ZIP, "missing")
def no_weights(path):
    found = members()
    del found["model.weights.h5"]
    write_zip(path, found)


@case(ZIP, "members; at most")
def many_members(path):
    write_zip(path, members() | {f"assets/{i}": b"" for i in range(10_001)})


@case(ZIP, "not a whole zip|not an HDF5|cut off")
def empty_file(path):
    path.write_bytes(b"")


@case(ZIP, "not a whole zip")
def foreign_file(path):
    path.write_bytes(b"GIF89a" + bytes(5000))


@case(ZIP, "not an HDF5")
def weights_of_another_format(path):
    write_zip(path, replaced(model_weights_h5=b"PK" + bytes(5000)))


def _bad_json(name, text, pattern):
    def build(path):
        write_zip(path, replaced(config=text))

    build.__name__ = f"json_{name}"
    case(ZIP, pattern)(build)


_bad_json("deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "deeper than")  # H36
_bad_json("deep_lists", b'{"a":' + b"[" * 600 + b"]" * 600 + b"}", "deeper than")
_bad_json("twice", b'{"module": 1, "module": 2}', "occurs twice")
_bad_json("digits", b'{"a": ' + b"9" * 100_000 + b"}", "not valid JSON")
_bad_json("surrogate", rb'{"a": "\ud800"}', "not valid Unicode")
_bad_json("surrogate_key", rb'{"\ud800": 1}', "not valid JSON")
_bad_json("latin1", b'{"a": "\xe9"}', "not valid JSON")
_bad_json("list", b"[1, 2]", "expected a JSON object")
_bad_json("cut", b'{"module": "keras", "cla', "not valid JSON")
_bad_json("empty", b"", "not valid JSON")


# --- HDF5 ---------------------------------------------------------------------------------------


def weights(build, pattern, id=None):
    """Enters `build(h5py.File)`, which spoils a file that holds good weights of `mlp`."""

    def write(path):
        path.write_bytes((FIXTURES / "mlp.weights.h5").read_bytes())
        with h5py.File(path, "r+") as f:
            build(f)

    write.__name__ = build.__name__
    HDF5[build.__name__] = (write, pattern)
    return build


def spoiled(pattern):
    return lambda build: weights(build, pattern)


@spoiled("external link")
def external_link(f):  # H13
    del f["layers/dense/vars/0"]
    f["layers/dense/vars/0"] = h5py.ExternalLink("/etc/hostname", "/")


@spoiled("external link")
def external_link_to_a_group(f):  # H13
    del f["layers"]
    f["layers"] = h5py.ExternalLink("other.h5", "/layers")


@spoiled("soft link")
def soft_link(f):  # H14
    del f["layers/dense/vars/0"]
    f["layers/dense/vars/0"] = h5py.SoftLink("/layers/dense_1/vars/0")


@spoiled("soft link")
def soft_link_cycle(f):  # H14
    f["layers/loop"] = h5py.SoftLink("/layers/loop")


@spoiled("second name")
def hard_link_cycle(f):  # H24
    f["layers/loop"] = f["/"]


@spoiled("second name")
def hard_link_twice(f):
    f["layers/again"] = f["layers/dense"]


@spoiled("another file")
def external_storage(f):  # H15
    del f["layers/dense/vars/0"]
    f.create_dataset("layers/dense/vars/0", (6, 8), "f4", external=[("/etc/passwd", 0, 192)])


@spoiled("virtual")
def virtual_dataset(f):  # H16
    del f["layers/dense/vars/0"]
    layout = h5py.VirtualLayout((6, 8), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (6, 8))
    f.create_virtual_dataset("layers/dense/vars/0", layout)


def _array(f, name="layers/dense/vars/0", **arguments):
    if name in f:
        del f[name]
    return f.create_dataset(name, **arguments)


@spoiled("declare")
def huge_shape_chunked(f):  # H18
    _array(f, shape=(50_000_000, 50_000_000), dtype="f4", chunks=(64, 64), compression="gzip")


@spoiled("declares .* stores 0")
def huge_shape_contiguous(f):  # H18
    _array(f, shape=(50_000_000, 50_000_000), dtype="f4")


@spoiled("declare")
def huge_shape_filled(f):  # H18
    _array(f, shape=(10**6, 10**6), dtype="f4", chunks=(10, 10), fillvalue=7.0)


@spoiled("declare")
def many_arrays_just_below(f):  # H19
    for i in range(20):
        _array(f, f"more/{i}", shape=(1 << 22,), dtype="f8", chunks=(1024,), compression="gzip")


@spoiled("declares|declare|damaged")
def overflowing_shape(f):  # H20
    _array(f, shape=(2**31, 2**31, 2), dtype="f8", chunks=(1, 1, 1))


@spoiled("stored in chunks of")
def huge_chunk(f):
    _array(f, shape=(48,), maxshape=(None,), dtype="f4", chunks=(1 << 28,), compression="gzip")


@spoiled("packed by filter")
def unknown_filter(f):  # H24
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((6, 8))
    properties.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL)
    del f["layers/dense/vars/0"]
    space = h5py.h5s.create_simple((6, 8))
    h5py.h5d.create(f["layers/dense/vars"].id, b"0", h5py.h5t.IEEE_F32LE, space, properties)


@spoiled("deeper than")
def deep_groups(f):  # H24
    f.create_group("/".join(["g"] * 150))


@spoiled("named type")
def named_type(f):
    f["layers/type"] = np.dtype("f4")


@spoiled("not valid UTF-8")
def name_that_is_no_text(f):  # H23
    h5py.h5g.create(f.id, b"\xff\xfe")


def _wrong_type(name, **arguments):  # H22
    def build(f):
        _array(f, **arguments)

    build.__name__ = f"type_{name}"
    weights(build, "expected numbers")


_wrong_type("text", data=["a"] * 4)
_wrong_type("fixed_text", data=np.array([b"a"] * 4))
_wrong_type("compound", data=np.zeros(4, [("a", "f4"), ("b", "i4")]))
_wrong_type("reference", shape=(4,), dtype=h5py.ref_dtype)
_wrong_type("region", shape=(4,), dtype=h5py.regionref_dtype)
_wrong_type("vlen", shape=(4,), dtype=h5py.vlen_dtype("f4"))
_wrong_type("longdouble", data=np.zeros(4, "longdouble"))
_wrong_type("opaque", data=np.zeros(4, "V8"))
_wrong_type("two_opaque_bytes", data=np.zeros(4, "V2"))
_wrong_type("enum", data=np.zeros(4, h5py.enum_dtype({"a": 1})))
_wrong_type("complex", data=np.zeros(4, "c8"))
_wrong_type("array", shape=(4,), dtype=np.dtype(("f4", (3,))))
_wrong_type("nothing", data=h5py.Empty("f4"))


# --- the older HDF5 format ----------------------------------------------------------------------

LEGACY = {}


def legacy(pattern):
    def enter(build):
        def write(path):
            path.write_bytes((FIXTURES / "mlp.h5").read_bytes())
            with h5py.File(path, "r+") as f:
                build(f)

        LEGACY[build.__name__] = (write, pattern)
        return build

    return enter


@legacy("external link")
def weights_elsewhere(f):  # H17
    del f["model_weights"]
    f["model_weights"] = h5py.ExternalLink("other.h5", "/")


@legacy("soft link")
def layer_is_a_soft_link(f):  # H14, H17
    del f["model_weights/hidden"]
    f["model_weights/hidden"] = h5py.SoftLink("/model_weights/probabilities")


@legacy("another file")
def array_elsewhere(f):  # H15
    name = "model_weights/hidden/mlp/hidden/kernel"
    del f[name]
    f.create_dataset(name, (6, 8), "f4", external=[("/etc/passwd", 0, 192)])


@legacy("'layer_names', is missing")
def no_layer_names(f):  # H17
    del f["model_weights"].attrs["layer_names"]


@legacy("'layer_names', is missing")
def pieces_of_names_with_a_hole(f):  # H23
    attributes = f["model_weights"].attrs
    del attributes["layer_names"]
    attributes["layer_names1"] = ["hidden", "probabilities"]


@legacy("group 'model_weights/elsewhere' is missing")
def layer_that_is_not_there(f):
    f["model_weights"].attrs["layer_names"] = ["hidden", "elsewhere"]


@legacy("is missing")
def names_that_lead_out(f):
    f["model_weights"].attrs["layer_names"] = ["../model_weights/hidden", "hidden"]


@legacy("array '.*' of group 'model_weights/hidden' is missing")
def weight_names_that_lead_out(f):
    names = ["../probabilities/mlp/probabilities/kernel", "/model_weights/x"]
    f["model_weights/hidden"].attrs["weight_names"] = names


@legacy("got numbers")
def names_that_are_numbers(f):  # H23
    f["model_weights"].attrs["layer_names"] = np.arange(3)


@legacy("not valid UTF-8")
def names_that_are_no_text(f):  # H23
    f["model_weights"].attrs["layer_names"] = np.array([b"\xff\xfe", b"b"])


@legacy("neither text nor numbers")
def names_that_are_references(f):  # H23
    regions = np.array([f["model_weights"].ref] * 2, dtype=h5py.ref_dtype)
    f["model_weights"].attrs["layer_names"] = regions


@legacy("not a list")
def names_in_a_table(f):  # H23
    f["model_weights"].attrs["layer_names"] = np.array([[b"a", b"b"]])


@legacy("holds no model")
def no_model_config(f):
    del f.attrs["model_config"]


@legacy("not valid JSON")
def config_cut_off(f):
    f.attrs["model_config"] = f.attrs["model_config"][:-100]


@legacy("deeper than")
def deep_config(f):  # H36
    f.attrs["model_config"] = '{"a":' * 1000 + "1" + "}" * 1000


def hdf5_bytes(path):
    """A weights file as a member of a `.keras` file."""
    out = io.BytesIO()
    write_zip(out, replaced(model_weights_h5=path.read_bytes()))
    return out.getvalue()


def config_of(name="mlp"):
    """The configuration in a good file, to change."""
    return json.loads(members(name)["config.json"])
