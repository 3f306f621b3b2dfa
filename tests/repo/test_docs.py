"""What the pages say about the code is so: named files exist, quoted code is in them."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / n for n in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(ROOT.glob("docs/*.md")),
]
BASES = [ROOT, ROOT / "src" / "hornbeam", ROOT / "csrc", ROOT / "docs"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page):
    names = re.findall(r"`([\w./-]+/[\w./-]*)`", page.read_text(encoding="utf-8"))
    missing = [n for n in names if not any((base / n).exists() for base in BASES)]
    assert missing == []


QUOTED = [  # by the blocks of docs/adding_a_layer.md, in order
    "layers/normalization/rms_normalization.py",
    "layers/core/dense.py",
    "tests/layers/test_layers.py",
    "tests/parity/recording/layers.py",
]


@pytest.mark.parametrize("file", QUOTED)
def test_adding_a_layer_quotes_the_layer_as_it_is(file):
    page = (ROOT / "docs" / "adding_a_layer.md").read_text(encoding="utf-8")
    quoted = re.findall(r"```python\n(.*?)```", page, flags=re.S)[QUOTED.index(file)]
    code = (ROOT / file).read_text(encoding="utf-8")
    for line in quoted.splitlines():
        line = line.split("  #")[0].strip()
        assert "…" in line or line in code, f"{file} has no line {line!r}"
