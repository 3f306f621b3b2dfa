"""The notebooks run from top to bottom, and what they keep is what a reader should see."""

import os
import pathlib
import re
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
NEEDED = "the extra `notebooks` is not installed"

nbformat = pytest.importorskip("nbformat", reason=NEEDED)
nbclient = pytest.importorskip("nbclient", reason=NEEDED)
for module in ("ipykernel", "matplotlib"):
    pytest.importorskip(module, reason=NEEDED)

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(notebook):
    return [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]


def pictures(notebook):
    return sum("image/png" in o.get("data", ()) for o in outputs(notebook))


def test_there_are_three():
    assert [path.name[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_"]


@each
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the notebook machinery in this process, not the kernel's
def test_runs(path, tmp_path):
    kept = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=60, resources=resources).execute()
    assert not [o.text for o in outputs(notebook) if o.get("name") == "stderr"]
    assert pictures(notebook) == pictures(kept)
    assert list(tmp_path.iterdir()) == [], "it leaves files behind"


@each
def test_is_kept_as_run(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert outputs(notebook)
    assert all(o.output_type != "error" and o.get("name") != "stderr" for o in outputs(notebook))
    assert all("execution" not in cell.metadata for cell in notebook.cells)


@each
def test_names_no_place_of_a_machine(path):
    text = re.sub(r'"image/png": ".*"', "", path.read_text(encoding="utf-8"))
    here = map(re.escape, (str(ROOT), tempfile.gettempdir(), os.path.expanduser("~")))
    found = re.search("|".join([*here, "/home/", "/Users/", "/root/", r"[A-Z]:\\\\"]), text)
    assert found is None, found


@each
def test_names_files_that_exist(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    for name in re.findall(r"`((?:docs/)?\w+\.(?:ipynb|md))`", text):
        assert (path.parent / name).exists() or (ROOT / name).exists(), name
