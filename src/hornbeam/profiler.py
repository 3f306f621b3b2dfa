"""Where the time goes: a table by op, and a trace for Chrome or Perfetto.

`HORNBEAM_PROFILE=trace.json python script.py` writes the trace of the whole run and prints the
table to standard error; in a script, `with hornbeam.profiler.profile() as p: …` does it for a part.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from typing import NamedTuple

from hornbeam.backend import _core


class Row(NamedTuple):
    """One op of the table. Times in seconds; rates are 0 where the costs are not known."""

    name: str
    calls: int
    seconds: float
    share: float
    gflops: float
    gbytes: float


class Profile:
    """The instructions that ran, with times and costs.

    Attributes:
        events: (name, user's line, start ns, end ns, thread, flops, bytes), in order. Bodies of
            control flow come before the instruction that they belong to, and count in its time.
    """

    def __init__(self, events=()):
        self.events = list(events)

    def __enter__(self):
        _core.start_profile()
        return self

    def __exit__(self, *exc):
        self.events = _core.stop_profile()

    def rows(self) -> list[Row]:
        """One row for each kind of instruction, longest total first."""
        totals: dict[str, list[float]] = {}
        for name, _, start, end, _, flops, nbytes in self.events:
            t = totals.setdefault(name, [0, 0.0, 0.0, 0.0])
            t[0] += 1
            t[1] += (end - start) * 1e-9
            t[2] += flops
            t[3] += nbytes
        containers = ("cond", "while_loop", "scan")
        whole = sum(t[1] for n, t in totals.items() if n not in containers) or 1.0
        return [
            Row(name, int(n), s, s / whole, 1e-9 * f / max(s, 1e-12), 1e-9 * b / max(s, 1e-12))
            for name, (n, s, f, b) in sorted(totals.items(), key=lambda kv: -kv[1][1])
        ]

    def table(self, most: int = 40) -> str:
        """The rows as text: time, share, calls, GFLOP/s, GB/s."""
        lines = [f"{'ms':>10} {'share':>6} {'calls':>7} {'GFLOP/s':>8} {'GB/s':>7}  op"]
        for r in self.rows()[:most]:
            lines.append(
                f"{r.seconds * 1e3:10.3f} {r.share:6.1%} {r.calls:7d} "
                f"{r.gflops:8.1f} {r.gbytes:7.1f}  {r.name[:100]}"
            )
        return "\n".join(lines)

    def save(self, path) -> None:
        """Writes the events in Chrome's trace format (open it in Perfetto or chrome://tracing)."""
        start = min((e[2] for e in self.events), default=0)
        trace = [
            {
                "name": name,
                "ph": "X",
                "ts": (begin - start) / 1e3,
                "dur": (end - begin) / 1e3,
                "pid": os.getpid(),
                "tid": thread,
                "args": {"line": where, "gflop": flops * 1e-9, "bytes": nbytes},
            }
            for name, where, begin, end, thread, flops, nbytes in self.events
        ]
        with open(path, "w") as f:
            json.dump({"traceEvents": trace, "displayTimeUnit": "ms"}, f)


def profile() -> Profile:
    """A context that records every instruction that runs inside.

    Example:

    >>> import hornbeam
    >>> with hornbeam.profiler.profile() as p:
    ...     _ = hornbeam.ops.matmul(hornbeam.ops.ones((8, 8)), hornbeam.ops.ones((8, 8)))
    >>> any("matmul" in row.name for row in p.rows())
    True
    """
    return Profile()


def _profile_the_process(path: str) -> None:
    recording = Profile().__enter__()

    def finish():
        recording.__exit__()
        recording.save(path)
        print(recording.table(), file=sys.stderr)

    atexit.register(finish)


if os.environ.get("HORNBEAM_PROFILE"):
    _profile_the_process(os.environ["HORNBEAM_PROFILE"])
