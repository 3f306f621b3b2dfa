#!/usr/bin/env python3
"""Re-create `datasets/_bundled/*.csv.gz` from the copies that scikit-learn ships.

    pip install scikit-learn
    python tools/make_bundled_data.py            # writes the five files
    python tools/make_bundled_data.py --check    # compares instead of writing

One row per sample, the target in the last column, no header. Numbers are written in their
shortest exact decimal form. Members carry no name and no time, so that equal data give equal
bytes with the same zlib; `--check` compares the decompressed text, whatever the zlib.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
from pathlib import Path

import numpy as np
from sklearn import datasets

FOLDER = Path(__file__).resolve().parent.parent / "datasets" / "_bundled"

LOADERS = {
    "digits": datasets.load_digits,
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    # original units: scikit-learn's default scaling uses the statistics of all samples
    "diabetes": lambda: datasets.load_diabetes(scaled=False),
}


def number(value: float) -> str:
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text


def as_csv(data: np.ndarray, target: np.ndarray) -> bytes:
    rows = np.column_stack([data.reshape(len(data), -1), target])
    return "".join(",".join(map(number, row)) + "\n" for row in rows).encode("ascii")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    wrong = []
    for name, loader in LOADERS.items():
        bunch = loader()
        text = as_csv(bunch.data, bunch.target)
        path = FOLDER / f"{name}.csv.gz"
        if check:
            if gzip.decompress(path.read_bytes()) != text:
                wrong.append(path.name)
            continue
        buffer = io.BytesIO()
        with gzip.GzipFile(fileobj=buffer, filename="", mode="wb", compresslevel=9, mtime=0) as f:
            f.write(text)
        path.write_bytes(buffer.getvalue())
        print(f"{path.name}: {len(bunch.data)} rows, {len(buffer.getvalue())} bytes")
    if wrong:
        print("differ from scikit-learn's copies:", ", ".join(wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
