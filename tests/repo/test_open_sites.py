"""Files that nobody vouches for are opened in the guarded places only, and code is never loaded."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "backend").is_dir():
    pytest.skip("needs the source tree", allow_module_level=True)

#: What may unpack or parse which kind of file; each has a corpus of hostile files in its tests.
ALLOWED = {
    "h5py": {"src/hornbeam/saving/_hdf5.py"},
    "zipfile": {
        "src/hornbeam/saving/_files.py", "src/hornbeam/utils/archive.py", "datasets/_npz.py",
    },
    "tarfile": {"src/hornbeam/utils/archive.py", "datasets/_cifar.py"},
}  # fmt: skip
#: Never: each of them runs, or builds objects from, what a file says.
FORBIDDEN = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "importlib", "runpy"}
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "compile"}
NUMPY_READERS = {"load", "memmap"}


def sources():
    for base in ("src/hornbeam", "layers", "models", "backend", "datasets"):
        for path in sorted((ROOT / base).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            rooms = ("layers", "models", "backend", "datasets")
            if not name.startswith(tuple(f"src/hornbeam/{room}/" for room in rooms)):
                yield name, ast.parse(path.read_text())


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_readers_stand_in_the_guarded_places():
    found = {module: set() for module in ALLOWED}
    for name, tree in sources():
        for module in set(imported(tree)) & set(ALLOWED):
            found[module].add(name)
    for module, places in found.items():
        assert places <= ALLOWED[module], f"{module} is opened elsewhere"
    assert found["h5py"], "the search finds nothing: it is broken"


def test_nothing_loads_code_or_pickles():
    for name, tree in sources():
        assert not set(imported(tree)) & FORBIDDEN, name
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Name):
                assert called.id not in FORBIDDEN_CALLS, f"{name}:{node.lineno}"
            elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                if called.value.id in ("np", "numpy") and called.attr in NUMPY_READERS:
                    raise AssertionError(
                        f"{name}:{node.lineno}: np.{called.attr} outside of a guard"
                    )
