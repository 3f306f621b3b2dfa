"""Writes the cases of a group: as readable JSON where they hold no arrays, else as one npz.

The npz has one flat array per dtype, and the JSON that points into them as bytes under `cases`.
"""

import json
import math
import zlib

import numpy as np


def rng(name):
    """A generator of its own for each case, so that adding cases leaves the others as they were."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def coarse(values):
    """Rounded to multiples of 1/64: exact in float16 too if small, and short to store."""
    return (np.round(np.asarray(values) * 64) / 64).astype("float32")


def normal(r, *shape, scale=1.0):
    return coarse(r.normal(size=shape) * scale)


def write(folder, group, cases):
    flat, lengths = {}, {}

    def strip(value):
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [strip(v) for v in value]
        if isinstance(value, bool | int | float | str) or value is None:
            return value
        value = np.asarray(value)
        dtype, start = value.dtype.name, lengths.get(value.dtype.name, 0)
        if dtype not in ("bool", "int8", "int16", "int32", "int64", "uint8", "float32"):
            raise TypeError(f"{group}: an array of {dtype} is not foreseen")
        flat.setdefault(dtype, []).append(value.ravel())
        lengths[dtype] = start + math.prod(value.shape)
        return {"array": [dtype, list(value.shape), start]}

    stripped = [strip(case) for case in cases]
    names = [case["name"] + str(case.get("arguments", "")) for case in stripped]
    if len(set(names)) < len(names):
        raise ValueError(f"{group}: names that are not unique: {sorted(names)}")
    if not flat:
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in stripped)
        (folder / f"{group}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        return
    text = json.dumps(stripped, separators=(",", ":")).encode()
    arrays = {dtype: np.concatenate(parts) for dtype, parts in flat.items()}
    np.savez_compressed(folder / f"{group}.npz", cases=np.frombuffer(text, "uint8"), **arrays)
