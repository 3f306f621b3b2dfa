"""What gets installed: every package, the core, the data; no sources, no strays."""

import importlib.metadata
from pathlib import Path

import pytest

import hornbeam

ROOT = Path(__file__).parents[2]


def installed_files():
    try:
        dist = importlib.metadata.distribution("hornbeam")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("hornbeam is not installed (run from the source tree)")
    if dist.read_text("direct_url.json") and '"editable": true' in dist.read_text(
        "direct_url.json"
    ):
        pytest.skip("an editable install has no wheel contents")
    return [f for f in dist.files or [] if "__pycache__" not in f.parts]


def test_contents():
    files = [str(f) for f in installed_files()]
    package = [f for f in files if f.startswith("hornbeam/")]
    assert all(f.startswith(("hornbeam/", "hornbeam-")) for f in files), files
    for room in ("layers", "models", "backend", "datasets", "ops", "saving", "optimizers"):
        assert f"hornbeam/{room}/__init__.py" in package
    cores = [
        f for f in package if f.startswith("hornbeam/backend/_core") and f.endswith((".so", ".pyd"))
    ]
    assert len(cores) == 1
    assert "hornbeam/py.typed" in package
    strays = [f for f in package if f.endswith((".cc", ".h", ".cu", ".o", ".a", ".txt.in"))]
    assert not strays, strays
    for room in ("", "layers", "models", "backend", "datasets"):
        base = ROOT / (room or "src/hornbeam")
        prefix = f"hornbeam/{room}/" if room else "hornbeam/"
        sources = {prefix + p.relative_to(base).as_posix() for p in base.rglob("*.py")}
        assert sources <= set(package), sorted(sources - set(package))[:5]
    assert "hornbeam/datasets/_bundled/README.md" in package


def test_size():
    total = sum(f.size or 0 for f in installed_files())
    assert total < 30e6, total  # unpacked; the compressed wheel is about a third


def test_version_is_one():
    try:
        assert importlib.metadata.version("hornbeam") == hornbeam.__version__
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("hornbeam is not installed (run from the source tree)")
