"""Element-wise clusters that are compiled at run time (csrc/cuda/jit.h, csrc/ops/elementwise_source.cu).

On the emulated device a library with NVRTC's names compiles the generated source by the host
compiler: it is the same source that NVRTC gets, and must give the interpreter's bits.
"""

import ctypes
import functools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from .conftest import CSRC, compiler

FUNCTIONS = CSRC / "ops" / "elementwise_functions.cuh"

SETUP = """
import sys, numpy as np, hornbeam
from hornbeam import backend, ops
from hornbeam.backend.executor import CLUSTER
from hornbeam.backend.registry import Spec
saved = {}
def run(name, steps, inputs, outs=None, shape=None):
    "steps: (function, operands, dtype of the result); all results are outputs, or `outs`"
    n = len(inputs)
    outs = tuple(range(n, n + len(steps))) if outs is None else outs
    shape = shape or np.broadcast_shapes(*(x.shape for x in inputs))
    attrs = dict(
        fns=tuple(f for f, _, _ in steps), arity=tuple(len(a) for _, a, _ in steps),
        args=tuple(i for _, a, _ in steps for i in a), dtypes=tuple(d for _, _, d in steps),
        outs=outs, _specs=tuple(Spec(shape, steps[o - n][2]) for o in outs))
    with hornbeam.device("cuda:0"):
        f = backend.function(lambda *xs: CLUSTER(*xs, **attrs))
        got = f(*inputs)
    for k, v in enumerate(backend.tree.flatten(got)):
        v = ops.cast(v, "float32") if v.dtype == "bfloat16" else v
        saved[f"{name}-{k}"] = np.array(v)
def values(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        x = rng.integers(0, 2, shape).astype(bool)
    elif "int" in dtype:
        info = np.iinfo(dtype)
        x = rng.integers(max(info.min, -9), 10, shape).astype(dtype)
        x.flat[::13] = info.max
        x.flat[5::17] = info.min
    else:
        x = rng.normal(scale=3, size=shape).astype("float32")
        x.flat[::11] = np.round(x.flat[::11])
        special = [np.inf, -np.inf, np.nan, 0.0, -0.0, 45.0, -45.0, 1e-30]
        for k, v in enumerate(special):
            x.flat[k + 3 :: 97] = v
        return ops.cast(x, dtype)
    return ops.convert_to_tensor(x, dtype=dtype)
"""

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
    "bfloat16", "float32", "float64",
)  # fmt: skip


def functions():
    """{list: {function: number of operands}}, as the header has them."""
    text = FUNCTIONS.read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if match := re.match(r"#define HB_(\w+)\(F\)", line):
            rows = re.findall(r"\bF\((\w+), ([12]),", line)
            found[match[1]] = {name: int(arity) for name, arity in rows}
    return found


def clusters_of(dtype):
    """Lists of steps that together hold every function of a dtype, on the operands 0 and 1."""
    f = functions()
    kind = "FLOAT" if "float" in dtype else "BOOL" if dtype == "bool" else "INT"
    tests = f["COMPARISONS"] | f.get(f"{kind}_TESTS", {})
    steps = [(name, (0, 1)[:n], "bool") for name, n in tests.items()]
    steps += [(name, (0, 1)[:n], dtype) for name, n in f[f"{kind}_FUNCTIONS"].items()]
    steps += [("cast", (0,), d) for d in DTYPES]
    return [steps[i : i + 22] for i in range(0, len(steps), 22)]


EVERYTHING = (
    f"CLUSTERS = { ({d: clusters_of(d) for d in DTYPES})!r}\n"
    + """
for dtype, clusters in CLUSTERS.items():
    x, y = values(dtype, (2, 67)), values(dtype, (2, 67), 1)
    if "float" in dtype:  # casts of what no integer holds are left open
        whole = ops.clip(ops.nan_to_num(x, nan=0.0, posinf=90.0, neginf=0.0), 0.0, 90.0)
    for k, steps in enumerate(clusters):
        casts = [s for s in steps if s[0] == "cast"]
        others = [s for s in steps if s[0] != "cast"]
        if others: run(f"{dtype}-{k}", others, [x, y])
        if casts: run(f"{dtype}-{k}-cast", casts, [whole if "float" in dtype else x])
    run(f"{dtype}-where", [("less", (0, 1), "bool"), ("where", (2, 0, 1), dtype)], [x, y])
np.savez(sys.argv[1], **saved)
"""
)

# Dense; a scalar; rows, columns and both; three axes; a last axis that packs do not divide; a size
# that packs do not divide; several dtypes at once; a cluster in a recording (CUDA graph).
BROADCASTS = """
for dtype in ("float32", "bfloat16", "float64", "int8", "uint32", "bool"):
    for k, shapes in enumerate([
        [(6, 16), (6, 16)], [(6, 16), ()], [(6, 16), (16,)], [(6, 16), (6, 1)],
        [(4, 1, 8), (1, 5, 8)], [(4, 5, 1), (5, 8)], [(2, 3, 4, 8), (2, 1, 4, 1)],
        [(7, 5), (5,)], [(7, 5), (7, 1)], [(13,), (13,)], [(3, 1, 5, 1, 7), (2, 1, 3, 7)],
    ]):
        a, b = (values(dtype, s, i) for i, s in enumerate(shapes))
        run(f"{dtype}-{k}", [("maximum", (0, 1), dtype)], [a, b])
x, h, b, d = values("float32", (5, 24)), values("float16", (24,)), values("bool", (5, 1)), values("float64", (5, 24))
run("mixed", [("cast", (1,), "float32"), ("add", (0, 4), "float32"), ("where", (2, 5, 0), "float32"),
              ("cast", (3,), "float16"), ("cast", (7,), "float32"), ("multiply", (6, 8), "float32"),
              ("greater", (9, 0), "bool"), ("cast", (9,), "bfloat16")], [x, h, b, d], outs=(9, 10, 11, 7))
with hornbeam.device("cuda:0"):
    x = ops.convert_to_tensor(np.arange(3000, dtype="float32"))
    f = backend.function(lambda x: ops.tanh(ops.cumsum(ops.sqrt(x) * 0.001)) + x)
    for k in range(5):  # recorded as it comes the second time
        saved[f"recorded-{k}"] = np.array(f(x))
    saved["recordings"] = np.array(f.concrete(x).program.replay_counts)
np.savez(sys.argv[1], **saved)
"""

# More parts than a launch takes, of sizes that packs divide or not.
PARTS = """
rng = np.random.default_rng(3)
sizes = [int(n) for n in rng.choice([2, 13, 257, 1024, 1490], 133)]
for dtype in ("float32", "bfloat16"):
    one = values(dtype, ())
    xs = [v for k, n in enumerate(sizes) for v in (values(dtype, (n,), k), values(dtype, (n,), 200 + k), one)]
    attrs = dict(
        fns=("multiply", "subtract"), arity=(2, 2), args=(1, 2, 0, 3), dtypes=(dtype, dtype),
        outs=(4, 3), parts=len(sizes), _specs=tuple(Spec((n,), dtype) for n in sizes for _ in "ab"))
    with hornbeam.device("cuda:0"):
        got = backend.function(lambda *xs: CLUSTER(*xs, **attrs))(*xs)
    for k, v in enumerate(got):
        saved[f"{dtype}-{k}"] = np.array(ops.cast(v, "float32"))
np.savez(sys.argv[1], **saved)
"""

SIMPLE = """
x = values("float32", (3000,))
run("a", [("tanh", (0,), "float32")], [x])
run("b", [("tanh", (0,), "float32")], [values("float32", (60, 60))])  # the same source
np.savez(sys.argv[1], **saved)
"""


@pytest.fixture(scope="session")
def fake(tmp_path_factory):
    """The stand-in for NVRTC."""
    library = tmp_path_factory.mktemp("nvrtc") / "libnvrtc.so.13"
    source = pathlib.Path(__file__).parent / "fake_nvrtc.cc"
    command = [compiler(), "-std=c++20", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, str(source), "-o", str(library)], check=True)
    return library


@pytest.fixture(scope="session")
def host_compiler(tmp_path_factory):
    """The command that compiles sources for the emulated device."""
    folder = tmp_path_factory.mktemp("precompiled")
    flags = ["-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-DHB_EMULATE"]
    command = [compiler(), *flags, "-ffp-contract=off"]
    # What all of them include, precompiled: a third of the time.
    (folder / "cuda").mkdir()
    (folder / "all.h").write_text('#include "cuda/kernel.cuh"\n')
    out = folder / "cuda" / "kernel.cuh.gch"
    subprocess.run(
        [*command, f"-I{CSRC}", "-x", "c++-header", str(folder / "all.h"), "-o", str(out)],
        check=True,
    )
    return shlex.join([*command, "-shared", f"-I{folder}", f"-I{CSRC}"])


class Runner:
    """Runs scripts with the stand-in, which keeps what it compiles in `folder`."""

    def __init__(self, emulated, fake, host_compiler, folder):
        self.folder = folder
        self.results = folder / "results.npz"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("HORNBEAM_")}
        self.environment |= {
            "HORNBEAM_CUDA_EMULATED": str(emulated), "HORNBEAM_NVRTC": str(fake),
            "HORNBEAM_HOME": str(folder / "home"), "HORNBEAM_DEBUG": "plan",
            "FAKE_NVRTC_FOLDER": str(folder), "FAKE_NVRTC_COMPILER": host_compiler,
        }  # fmt: skip

    def start(self, code, **environment):
        return subprocess.Popen(
            [sys.executable, "-c", SETUP + code, str(self.results)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment | environment,
        )  # fmt: skip

    def __call__(self, code, **environment):
        """(arrays, what it printed as errors)."""
        process = self.start(code, **environment)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        with np.load(self.results) as arrays:
            return dict(arrays), errors

    def calls(self):
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def files(self):
        return sorted((self.folder / "home" / "kernels").glob("*"))


@pytest.fixture
def runner(emulated, fake, host_compiler, tmp_path):
    return Runner(emulated, fake, host_compiler, tmp_path)


def assert_same_bits(got, expected):
    assert got.keys() == expected.keys()
    assert got
    for name, g in got.items():
        e = expected[name]
        np.testing.assert_array_equal(g, e, err_msg=name)
        if g.dtype.kind == "f":
            np.testing.assert_array_equal(
                np.signbit(g[~np.isnan(g)]), np.signbit(e[~np.isnan(e)]), err_msg=name
            )


INTERPRETED = "element-wise clusters are interpreted on the GPU: "


@pytest.fixture(scope="session")
def sources(emulated, fake, host_compiler, tmp_path_factory):
    """sources(code): scripts run with and without the stand-in: (compiled, interpreted, sources)."""

    @functools.cache
    def both(code, order=""):
        run = Runner(emulated, fake, host_compiler, tmp_path_factory.mktemp("both"))
        expected, _ = run(code, HORNBEAM_CUDA_COMPILE="0")
        assert run.calls() == []
        got, errors = run(code, HORNBEAM_CUDA_COMPILE="all", HORNBEAM_EMULATE_ORDER=order)
        assert INTERPRETED not in errors
        return got, expected, [p.read_text() for p in sorted(run.folder.glob("*.cu"))]

    return both


def test_every_function_has_the_bits_of_the_interpreter(sources):
    got, expected, texts = sources(EVERYTHING)
    assert len(texts) > 3 * len(DTYPES)
    assert_same_bits(got, expected)


@pytest.mark.parametrize("order", ["", "reverse"])
def test_broadcasting(sources, order):
    got, expected, texts = sources(BROADCASTS, order)
    assert_same_bits(got, expected)
    _, recorded, replayed = got["recordings"]
    assert recorded >= 1 and replayed >= 1, got["recordings"]
    text = "".join(texts)
    assert all(f"load_pack<float, W>(args.inputs[{k}], " in text for k in (0, 1))
    assert "repeat_pack<float, W>" in text


@pytest.mark.parametrize("order", ["", "reverse"])
def test_several_clusters_in_one_launch(sources, order):
    got, expected, texts = sources(PARTS, order)
    assert_same_bits(got, expected)
    assert sum("struct Arguments {" in text for text in texts) == 2  # one for each dtype


# ---------------------------------------------------------------------- files


def test_what_was_compiled_is_found_again(runner):
    first, errors = runner(SIMPLE)
    assert INTERPRETED not in errors
    (call,) = runner.calls()  # two shapes, one source
    assert call.split() == ["--gpu-architecture=sm_80", "--std=c++17", "--fmad=false"]
    (file,) = runner.files()
    second, _ = runner(SIMPLE)
    assert len(runner.calls()) == 1
    assert_same_bits(second, first)
    runner(SIMPLE, FAKE_NVRTC_VERSION="14")  # another compiler, another key
    assert len(runner.calls()) == 2
    runner(SIMPLE, HORNBEAM_EMULATE_ARCHITECTURE="90")  # newer than the compiler: PTX
    assert runner.calls()[2].split()[0] == "--gpu-architecture=compute_80"
    assert len(runner.files()) == 3
    assert file in runner.files()


@pytest.mark.parametrize("damage", ["short", "empty", "bit", "key", "other"])
def test_a_damaged_file_is_not_used(runner, damage):
    first, _ = runner(SIMPLE)
    (file,) = runner.files()
    content = bytearray(file.read_bytes())
    if damage == "short":
        content = content[:-7]
    elif damage == "empty":
        content = bytearray()
    elif damage == "bit":
        content[-100] ^= 4
    elif damage == "key":
        content[40] ^= 1
    else:
        content = bytearray(b"not a kernel" * 100)
    file.write_bytes(content)
    second, errors = runner(SIMPLE)
    assert len(runner.calls()) == 2
    assert INTERPRETED not in errors
    assert_same_bits(second, first)
    runner(SIMPLE)  # and the file is whole again
    assert len(runner.calls()) == 2


def test_several_processes_write_at_once(runner):
    started = [runner.start(SIMPLE) for _ in range(4)]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert [p.suffix for p in runner.files()] == [".kernel"]
    calls = len(runner.calls())
    runner(SIMPLE)
    assert len(runner.calls()) == calls


def test_files_are_bounded_and_can_be_turned_off(runner):
    runner(SIMPLE, HORNBEAM_KERNEL_FILES="0")
    assert runner.files() == []
    runner(SIMPLE)
    (old,) = runner.files()
    size = old.stat().st_size
    os.utime(old, (1, 1))
    other = SIMPLE.replace("tanh", "sqrt")
    runner(other, HORNBEAM_KERNEL_FILES=str(size * 3 // 2))
    (new,) = runner.files()
    assert new != old
    runner(SIMPLE, HORNBEAM_KERNEL_FILES=str(size * 3))
    assert len(runner.files()) == 2


def test_a_folder_that_cannot_be_written_only_costs_time(runner):
    (runner.folder / "home").write_text("a file")
    _, errors = runner(SIMPLE)
    assert INTERPRETED not in errors
    assert len(runner.calls()) == 1


def test_a_folder_that_others_can_write_to_is_not_used(runner):
    runner(SIMPLE)
    folder = runner.folder / "home" / "kernels"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [p.stat().st_mode & 0o777 for p in runner.files()] == [0o600]
    folder.chmod(0o770)
    before = [p.read_bytes() for p in runner.files()]
    runner(SIMPLE)
    runner(SIMPLE.replace("tanh", "sqrt"))
    assert len(runner.calls()) == 3  # nothing read, nothing written
    assert [p.read_bytes() for p in runner.files()] == before


def test_files_lie_in_the_home_folder(runner):
    home = str(runner.folder)
    runner(SIMPLE, HORNBEAM_HOME="", HOME=home)
    assert len(list((runner.folder / ".hornbeam" / "kernels").glob("*.kernel"))) == 1
    runner(SIMPLE, HORNBEAM_HOME="~/home", HOME=home)
    assert len(runner.files()) == 1
    runner(SIMPLE, HORNBEAM_HOME="", HOME="")  # no place: no files
    assert len(runner.calls()) == 3


# ---------------------------------------------------------------------- without a compiler


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"HORNBEAM_NVRTC": "/nowhere/libnvrtc.so"}, "NVRTC was not found: /nowhere/libnvrtc.so: "),
        ({"FAKE_NVRTC_VERSION": "11"}, "NVRTC 11.0 is too old; expected 12.0 or newer"),
        ({"FAKE_NVRTC_FAILS": "1"}, "error: this is asked to fail"),
        ({"HORNBEAM_EMULATE_ARCHITECTURE": "70"}, "NVRTC 13.0 knows no GPU like this"),
    ],
    ids=["missing", "old", "failing", "old-gpu"],
)
def test_without_a_compiler_clusters_are_interpreted(runner, environment, reason):
    expected, errors = runner(SIMPLE, HORNBEAM_CUDA_COMPILE="0")
    assert INTERPRETED not in errors
    got, errors = runner(SIMPLE, **environment)
    assert errors.count(INTERPRETED) == 1
    assert reason in errors
    assert_same_bits(got, expected)
    assert runner.files() == []
    _, errors = runner(SIMPLE, **environment, HORNBEAM_DEBUG="")
    assert errors == ""


def test_small_tensors_are_not_compiled(runner):
    runner(SIMPLE.replace("3000", "300").replace("60, 60", "6, 6"))
    assert runner.calls() == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("HORNBEAM_CUDA_COMPILE", "yes", "expected 0 or all, got yes"),
        ("HORNBEAM_KERNEL_FILES", "2 GB", "expected a number of bytes, got '2 GB'"),
        ("HORNBEAM_KERNEL_FILES", "-1", "expected a number of bytes, got '-1'"),
    ],
)
def test_a_wrong_choice_is_an_error(runner, name, value, expected):
    process = runner.start(SIMPLE, **{name: value})
    _, errors = process.communicate()
    assert process.returncode != 0
    assert f"{name}: {expected}" in errors


# ---------------------------------------------------------------------- NVRTC itself


@pytest.fixture(scope="session")
def nvrtc():
    """Compiles by NVIDIA's library: nvrtc(source, option) gives the cubin or an error text."""
    where = os.environ.get("HORNBEAM_NVRTC", "libnvrtc.so.13")
    if os.path.isdir(where):
        where = os.path.join(where, "libnvrtc.so.13")
    try:
        library = ctypes.CDLL(where)
    except OSError as e:
        pytest.skip(f"needs NVRTC (HORNBEAM_NVRTC): {e}")

    def compile_source(source, architecture):
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        text = source.encode()
        assert not library.nvrtcCreateProgram(ctypes.byref(program), text, b"c.cu", 0, None, None)
        options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17", b"--fmad=false"]
        array = (ctypes.c_char_p * len(options))(*options)
        status = library.nvrtcCompileProgram(program, len(options), array)
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        assert status == 0 and not log.value.strip(), log.value.decode()
        kind = "PTX" if architecture.startswith("compute") else "CUBIN"
        assert not getattr(library, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
        code = ctypes.create_string_buffer(size.value)
        assert not getattr(library, f"nvrtcGet{kind}")(program, code)
        library.nvrtcDestroyProgram(ctypes.byref(program))
        return code.raw

    return compile_source


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    "code", [EVERYTHING, BROADCASTS, PARTS], ids=["functions", "broadcasts", "parts"]
)
def test_nvrtc_compiles_every_source(nvrtc, sources, architecture, code):
    for text in sources(code)[2]:
        code = nvrtc(text, architecture)
        assert code[:4] == b"\x7fELF"
        assert b"hornbeam_cluster" in code


# Dense operands of 4, 2 and 1 bytes, a row and a scalar: what most clusters are.
PLAIN = """
for dtype in ("float32", "bfloat16", "int8"):
    x, y, row, one = (values(dtype, s, i) for i, s in enumerate([(40, 64), (40, 64), (64,), ()]))
    run(dtype, [("add", (0, 1), dtype), ("maximum", (2, 4), dtype), ("multiply", (3, 5), dtype)],
        [x, y, row, one], outs=(6,))
np.savez(sys.argv[1], **saved)
"""


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_machine_code(nvrtc, sources, architecture, tmp_path):
    """Dense operands and rows move by 16 bytes (int8: 8), and of the interpreter (values in local
    memory, jumps through tables) nothing is left."""
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    dump = shutil.which("cuobjdump") or str(pathlib.Path(nvcc).parent / "cuobjdump")
    if not os.path.exists(dump):
        pytest.skip("needs cuobjdump")
    texts = [s for s in sources(PLAIN)[2] if "args.inputs[3]" in s]
    texts += [s for s in sources(PARTS)[2] if "struct Arguments {" in s]
    assert len(texts) == 5
    for source in texts:
        path = tmp_path / "code.cubin"
        path.write_bytes(nvrtc(source, architecture))
        text = subprocess.run(
            [dump, "-sass", str(path)], capture_output=True, text=True, check=True
        ).stdout
        size = "64" if "Pack<int8_t" in source else "128"
        assert len(re.findall(rf"LDG\.E\.{size}", text)) >= 2, text
        assert len(re.findall(rf"STG\.E\.{size}", text)) >= 1, text
        assert not re.findall(r"\b(?:LDL|STL|BRX|CALL)\b", text), text


def test_code_of_nvrtc_is_only_kept_if_it_can_be_loaded(nvrtc, runner):
    """The emulated device cannot run it: the whole way through NVRTC, then the interpreter."""
    where = os.environ.get("HORNBEAM_NVRTC", "libnvrtc.so.13")
    expected, _ = runner(SIMPLE, HORNBEAM_CUDA_COMPILE="0")
    got, errors = runner(SIMPLE, HORNBEAM_NVRTC=where)
    assert errors.count(INTERPRETED) == 1
    assert "the code cannot be loaded: cudaErrorInvalidKernelImage" in errors
    assert_same_bits(got, expected)
    assert runner.files() == []
