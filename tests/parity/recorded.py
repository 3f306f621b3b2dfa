"""Reads what `record.py` wrote: `cases("layers")` is a list of dicts with NumPy arrays in them.

`python tests/parity/recorded.py GROUP [NAME]` prints the cases whose name starts with NAME.
"""

import json
import math
import pathlib
import pprint
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent / "recorded"


def cotangent(shape):
    """The fixed gradient that flows into an output of this shape: cos(0.7 i), i the flat index."""
    return np.cos(0.7 * np.arange(math.prod(shape))).astype("float32").reshape(shape)


def cases(group, folder=FOLDER):
    """All cases of a group, in the order of recording."""
    text = folder / f"{group}.json"
    if text.exists():
        return json.loads(text.read_text(encoding="utf-8"))
    with np.load(folder / f"{group}.npz") as file:
        flat = {name: file[name] for name in file.files}

    def resolve(value):
        if isinstance(value, dict):
            if value.keys() == {"array"}:
                dtype, shape, start = value["array"]
                return flat[dtype][start : start + math.prod(shape)].reshape(shape)
            return {k: resolve(v) for k, v in value.items()}
        if isinstance(value, list):
            return [resolve(v) for v in value]
        return value

    return resolve(json.loads(flat["cases"].tobytes()))


def construct(recipe, library):
    """The object a recipe stands for: `{"class": "layers.Dense", "kwargs": {...}}`, nested at will.

    `library` is the module to build with, `hornbeam` or `keras`.
    """
    if isinstance(recipe, dict):
        if "class" in recipe:
            found = library
            for part in recipe["class"].split("."):
                found = getattr(found, part)
            return found(**{k: construct(v, library) for k, v in recipe["kwargs"].items()})
        return {k: construct(v, library) for k, v in recipe.items()}
    if isinstance(recipe, list):
        return [construct(v, library) for v in recipe]
    return recipe


if __name__ == "__main__":
    for case in cases(sys.argv[1]):
        if case["name"].startswith("".join(sys.argv[2:])):
            pprint.pprint(case, sort_dicts=False, width=100)
