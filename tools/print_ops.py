#!/usr/bin/env python
"""Prints docs/ops.md: which op runs where, from the registry and the tables of kernels.

    python tools/print_ops.py > docs/ops.md

It needs a GPU and its library, or the emulated device (HORNBEAM_CUDA_EMULATED, docs/gpu.md).
"""

import sys
import textwrap

from hornbeam import ops  # noqa: F401  (declares the ops)
from hornbeam.backend import OPS, _core, devices, dtypes, registry

HEAD = """\
# Ops

Printed by `tools/print_ops.py`; a test compares.

- **CPU**, **CUDA**: the dtypes (of the first operand) that have a kernel; *floats* are the four. On the CPU it is there
  at every instruction set level. `elementwise`: a function of the kernel of that name, which runs clusters of such
  functions, in every dtype. *view*: no work. *NumPy*: Python calls NumPy. *its bodies*: where they run (on the CPU if
  one holds what needs the CPU).
- A composition without a kernel for the dtype runs as its body. Any other op runs on the CPU where CUDA has no kernel
  for it, with copies there and back (*CPU*); `HORNBEAM_DEBUG=plan` shows them.
- **Gradient**: *rule*: its own; *body*: of the body; –: none.

| op | CPU | CUDA | gradient |
| :-- | :-- | :-- | :-- |
"""

TAIL = """
## Compositions

These have no kernel of their own anywhere: they are written in the ops above, run wherever those do, and have their
gradients.

"""

VIEWS = ("reshape", "barrier", "stop_gradient", "custom_gradient")
CONTROL = ("cond", "while_loop", "scan")


def names(found):
    found, every = set(found), set(dtypes.ALL)
    if every - found <= {"bool"}:
        return "all" if found == every else "all but bool"
    floats = {d for d in every if dtypes.is_float(d)}
    if found >= floats:
        found = found - floats | {"floats"}
    return ", ".join(d for d in (*dtypes.ALL, "floats") if d in found)


def kernels():
    """{op: {level or "cuda": dtypes}}"""
    table = {}
    for op, found, level in _core.kernels():
        table.setdefault(op, {}).setdefault(level, set()).update(found)
    return table


def on_cpu(op, levels):
    return names(set.union(*(found for level, found in levels.items() if level != "cuda")))


def row(op, levels):
    if op.name in VIEWS:
        where = ["view", "view"]
    elif op.name in CONTROL:
        where = ["its bodies", "its bodies"]
    elif op.name == "copy":
        where = ["all", "all"]
    elif op.host is not None:
        where = ["NumPy", "CPU"]
    elif op.elementwise:
        where = ["`elementwise`"] * 2
    else:
        other = "body" if op.body is not None else "CPU"
        where = [
            on_cpu(op, levels) if levels else "body",
            names(levels["cuda"]) if "cuda" in levels else other,
        ]
    rule = "rule" if op.gradient_rule is not None else "body" if op.body is not None else "–"
    return f"| `{op.name}` | {where[0]} | {where[1]} | {rule} |\n"


def page() -> str:
    table = kernels()
    rows = [
        row(op, table.get(name, {}))
        for name, op in sorted(registry.REGISTRY.items())
        if op not in registry.LEAVES
    ]
    composed = [
        name
        for name, op in sorted(OPS.items())
        if isinstance(op, registry.PublicOp) and op.node_op is None
        if name not in registry.REGISTRY and not name.startswith("_")
    ]
    listed = textwrap.wrap(", ".join(f"`{name}`" for name in composed) + ".", 110)
    return HEAD + "".join(rows) + TAIL + "\n".join(listed) + "\n"


def main():
    problem = devices._load_cuda()
    if problem:
        sys.exit(f"print_ops: no CUDA kernels: {problem}")
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
