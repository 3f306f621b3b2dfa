"""docs/ops.md is what the registry and the kernels say."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def test_page(cuda):
    spec = importlib.util.spec_from_file_location("print_ops", ROOT / "tools" / "print_ops.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    written = (ROOT / "docs" / "ops.md").read_text(encoding="utf-8")
    assert written == tool.page(), "python tools/print_ops.py > docs/ops.md"
