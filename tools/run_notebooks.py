"""Runs notebooks and keeps their outputs: python tools/run_notebooks.py [notebooks/*.ipynb]

Needs the extra `notebooks`. What only says when and where they ran is left out of the files.
"""

import os
import pathlib
import sys
import tempfile

import nbclient
import nbformat


def run(path):
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(
            notebook, timeout=300, coalesce_streams=True, resources=resources
        ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    unfinished = path.with_suffix(".new")
    nbformat.write(notebook, unfinished)
    os.replace(unfinished, path)


if __name__ == "__main__":
    root = pathlib.Path(__file__).resolve().parents[1]
    for name in sys.argv[1:] or sorted(root.glob("notebooks/*.ipynb")):
        print(name)
        run(pathlib.Path(name))
