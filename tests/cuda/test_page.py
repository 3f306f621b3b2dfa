"""The table of docs/gpu.md is what the library registers."""

import pathlib

from hornbeam.backend import _core, dtypes

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "gpu.md"


def rows():
    table: dict[str, set[str]] = {}
    for name, names, level in _core.kernels():
        if level == "cuda":
            table.setdefault(name, set()).update(names)
    for name, found in sorted(table.items()):
        text = "all" if found == set(dtypes.ALL) else ", ".join(d for d in dtypes.ALL if d in found)
        yield f"| `{name}` | {text} |"


def test_table(cuda):
    page = PAGE.read_text(encoding="utf-8")
    written = page.split("| --- | --- |\n", 1)[1].rstrip("\n")
    assert written == "\n".join(rows()), "write the rows of this test into the page"
