"""Eager execution: one op on concrete tensors, through a cached program of one node."""

from __future__ import annotations

from hornbeam.backend import autodiff, devices, settings
from hornbeam.backend.tensor import Tensor

_MAX_PROGRAMS = 4096
_programs: dict = {}


def execute(op, inputs, attrs) -> tuple:
    """Outputs of `op` on concrete tensors; recorded by the tapes that watch an input."""
    recording = autodiff.recording(inputs)
    if op.body is not None and not op.has_kernel(inputs, attrs):
        outputs = _run_body(op, inputs, attrs, pause=op.gradient_rule is not None)
    elif op.body is not None and recording and op.gradient_rule is None:
        return _run_body(op, inputs, attrs, pause=False)  # the tape needs what is inside
    else:
        outputs = run(op, inputs, attrs)
    if recording:
        autodiff.record(op, inputs, attrs, outputs)
    return outputs


def _run_body(op, inputs, attrs, pause):
    if pause:
        with autodiff.pause():
            out = op.body(inputs, attrs)
    else:
        out = op.body(inputs, attrs)
    return tuple(out) if isinstance(out, (tuple, list)) else (out,)


def run(op, inputs, attrs) -> tuple:
    name, place = op.name, None
    if devices.in_use:
        place, inputs = devices.gather(inputs, name)
    key: tuple | None = (
        settings.current.matmul_precision,
        name,
        place,
        tuple(attrs.items()),
        *[(t.shape, t.dtype) for t in inputs],
    )
    try:
        program = _programs.get(key)
    except TypeError:  # an attribute that does not hash (a graph): compiled anew
        program, key = None, None
    if program is None:
        from hornbeam.backend import executor
        from hornbeam.backend.graph import Graph

        with Graph() as g:
            values = [g.input(t.shape, t.dtype, place) for t in inputs]
            g.outputs = list(g.add(op, values, attrs).outputs)
        program = executor.compile_graph(g)
        if key is not None:
            if len(_programs) >= _MAX_PROGRAMS:
                del _programs[next(iter(_programs))]
            _programs[key] = program
    return tuple(Tensor(c) for c in program.run([t.core for t in inputs]))
