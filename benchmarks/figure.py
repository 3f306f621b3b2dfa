#!/usr/bin/env python
"""Draw hornbeam's speed over that of each peer, from the raw results of compare.py.

    python benchmarks/figure.py results.jsonl docs/performance.png

Needs matplotlib.  One group per workload, one bar per peer: how many times faster hornbeam is,
by the medians of samples/s; on a logarithmic axis, so that 2x and 0.5x are equally far from 1x.
"""

import argparse
import json
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

COLORS = {
    "torch": "#c44e52", "torch-tuned": "#dd8452", "torch-compile": "#937860", "keras-jax": "#4c72b0",
    "keras-tf": "#55a868", "keras-torch": "#8172b3", "onnxruntime": "#64b5cd",
}  # fmt: skip


def medians(path):
    """{workload: {implementation: median samples/s}}"""
    found = {}
    with open(path) as f:
        for row in map(json.loads, f):
            if row.get("samples_per_s") is not None:
                by_impl = found.setdefault(row["workload"], {})
                by_impl.setdefault(row["impl"], []).append(row["samples_per_s"])
    return {w: {i: statistics.median(v) for i, v in by.items()} for w, by in found.items()}


def draw(speeds, candidate, out):
    workloads = [w for w, by in speeds.items() if candidate in by and len(by) > 1]
    peers = [i for i in COLORS if any(i in speeds[w] for w in workloads)]
    fig, ax = plt.subplots(figsize=(10, 0.62 * len(workloads) + 1.2), layout="constrained")
    height = 0.84 / len(peers)
    for k, peer in enumerate(peers):
        at = [i + (k - (len(peers) - 1) / 2) * height for i in range(len(workloads))]
        ratio = [
            speeds[w][candidate] / speeds[w][peer] if peer in speeds[w] else 1.0 for w in workloads
        ]
        ax.barh(at, [r - 1 for r in ratio], height, left=1, color=COLORS[peer], label=peer)
    ax.axvline(1, color="black", linewidth=1)
    ax.set_xscale("log")
    ticks = [0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200]
    ax.set_xticks(ticks, [f"{t:g}x" for t in ticks])
    ax.minorticks_off()
    ax.set_yticks(range(len(workloads)), workloads)
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    ax.set_xlabel(f"speed of {candidate} / speed of the peer, same machine, same run, 2 threads")
    ax.legend(loc="lower right", fontsize="small")
    fig.savefig(out, dpi=110)


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("results")
    ap.add_argument("out")
    ap.add_argument("--candidate", default="hornbeam")
    a = ap.parse_args()
    draw(medians(a.results), a.candidate, a.out)
