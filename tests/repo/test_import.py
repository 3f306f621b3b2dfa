"""`import hornbeam` is light: numpy and its own core."""

import json
import subprocess
import sys

HEAVY = {
    "h5py", "tqdm", "pandas", "matplotlib", "scipy", "PIL", "torch", "tensorflow", "jax", "keras",
    "onnx", "tensorboard", "IPython", "ml_dtypes", "http.client", "ssl", "urllib.request",
    "multiprocessing", "asyncio", "unittest", "pytest", "concurrent.futures", "importlib.metadata",
}  # fmt: skip


def modules_after(statement):
    code = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(out.stdout))


def test_import_loads_little():
    with_numpy = modules_after("import numpy")
    added = modules_after("import hornbeam") - with_numpy
    assert not added & HEAVY, sorted(added & HEAVY)
    others = {m for m in added if not m.startswith("hornbeam")}
    assert len(others) < 40, sorted(others)


def test_import_prints_nothing():
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import hornbeam"], capture_output=True, text=True
    )
    assert (out.returncode, out.stdout, out.stderr) == (0, "", "")


def test_main_module_shows_the_machine():
    out = subprocess.run([sys.executable, "-m", "hornbeam"], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    for word in ("hornbeam 0.", "instruction set", "threads", "cpu:0", "CUDA"):
        assert word in out.stdout, out.stdout
