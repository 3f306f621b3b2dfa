"""The CUDA kernels compiled for the processor, as device cuda:0 (see docs/gpu.md).

On a machine with a GPU and `_cuda.so` the same tests run on the GPU.
"""

import concurrent.futures
import hashlib
import os
import pathlib
import shutil
import subprocess

import pytest

from hornbeam import backend
from hornbeam.backend import devices

ROOT = pathlib.Path(__file__).parents[2]
CSRC = ROOT / "csrc"
FLAGS = [
    "-std=c++20", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror",
    "-DHB_EMULATE", "-ffp-contract=off", f"-I{CSRC}",
]  # fmt: skip
#: Headers that kernels of the CPU include too.
SHARED = ("epilogue_operands", "parameters", "recurrent_functions")
#: What the library has besides kernels.
RUNTIME = [*sorted(CSRC.glob("cuda/*.cc")), *sorted(CSRC.glob("cuda/*.cu"))]


def compiler():
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++"))), None)


def build_emulated(sources, folder) -> pathlib.Path:
    """Shared library of the sources; what is there and up to date is taken."""
    headers = sorted([*CSRC.glob("cuda/*"), *CSRC.glob("core/*.h"), *CSRC.glob("ops/*.cuh"),
                      *(CSRC / "ops" / f"{name}.h" for name in SHARED)])  # fmt: skip
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in (*headers, *sources):
        digest.update(path.read_bytes())
    library = folder / f"_cuda_emulated-{digest.hexdigest()[:16]}.so"
    if library.exists():
        return library
    work = folder / f"objects-{os.getpid()}"
    work.mkdir(parents=True, exist_ok=True)
    cxx = compiler()

    def compile_one(source):
        out = work / f"{source.name}.o"
        command = [cxx, *FLAGS, "-x", "c++", "-c", str(source), "-o", str(out)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return str(out)

    with concurrent.futures.ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        objects = list(pool.map(compile_one, sources))
    part = work / library.name
    subprocess.run([cxx, "-shared", "-o", str(part), *objects], check=True)
    os.replace(part, library)
    shutil.rmtree(work)
    return library


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    """Path of the library of all kernels; skips where it cannot be built."""
    if not CSRC.is_dir() or compiler() is None:
        pytest.skip("needs the sources and a C++ compiler")
    folder = ROOT / "build" / "emulated"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = tmp_path_factory.mktemp("emulated")
    return build_emulated([*sorted(CSRC.glob("ops/*.cu")), *RUNTIME], folder)


@pytest.fixture
def cuda(emulated, monkeypatch):
    """The name of a GPU, or else of the emulated device."""
    monkeypatch.setattr(devices, "in_use", False)
    if not backend.list_devices("cuda"):
        monkeypatch.setenv("HORNBEAM_CUDA_EMULATED", str(emulated))
        if "HORNBEAM_CUDA_COMPILE" not in os.environ:  # an NVRTC found here is for no such device
            monkeypatch.setenv("HORNBEAM_CUDA_COMPILE", "0")
        devices._load_cuda.cache_clear()
        assert devices._load_cuda() == ""
    return "cuda:0"


def pytest_collection_modifyitems(items):
    """With a GPU, all that runs on it is selected by `-m gpu`; without one, test_gpu.py skips."""
    here = pathlib.Path(__file__).parent
    mine = [i for i in items if here in i.path.parents and "cuda" in getattr(i, "fixturenames", ())]
    if mine and not os.environ.get("HORNBEAM_CUDA_EMULATED") and backend.list_devices("cuda"):
        for item in mine:
            item.add_marker("gpu")
