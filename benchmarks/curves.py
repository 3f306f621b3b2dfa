#!/usr/bin/env python
"""Losses of the first steps of a workload, by instruction-set level: does a level train as the others?

python benchmarks/curves.py resnet18 --levels avx512 baseline amx --steps 30 --batch 16

Levels round differently, so their losses drift apart as training goes on. A level is as good as the
others if it is no farther from the first than they are. With a build of HORNBEAM_TILES_MODEL=ON, amx
is a software model of the tile registers.
"""

import argparse
import json
import os
import subprocess
import sys


def losses(name, steps, batch, sizes):
    import workloads

    import hornbeam as keras
    from hornbeam.backend import _core

    level = os.environ["HORNBEAM_ISA"]
    if _core.isa_level() != level:
        raise SystemExit(f"level {level} is not to be had here: {_core.isa_level()} would run")
    sizes = {key: int(value) for key, value in (size.split("=") for size in sizes)}
    workload = workloads.training(name, sizes) if sizes else workloads.WORKLOADS[name]
    model = workload.compiled(keras)
    x, y = workload.data(batch)  # one batch, which is learned by heart
    return [float(model.train_on_batch(x, y)) for _ in range(steps)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload")
    parser.add_argument("--levels", nargs="+", default=["avx512", "avx2", "baseline"])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--sizes", nargs="*", default=[], help="such as vocab=1024 layers=2")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        print(json.dumps(losses(a.workload, a.steps, a.batch, a.sizes)))
        return
    runs = {}
    for level in a.levels:
        environment = {**os.environ, "HORNBEAM_ISA": level}
        command = [sys.executable, *sys.argv, "--one"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"{level}: see above")
        runs[level] = json.loads(done.stdout)
    first, *others = a.levels
    print("| step | " + " | ".join([first, *(f"{level}, difference" for level in others)]) + " |")
    print("|---" * (len(a.levels) + 1) + "|")
    for step in sorted({*range(0, a.steps, max(1, a.steps // 10)), a.steps - 1}):
        base = runs[first][step]
        row = [f"{base:.6f}", *(f"{runs[level][step] - base:+.1e}" for level in others)]
        print(f"| {step + 1} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
