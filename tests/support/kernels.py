"""One kernel as a program of its own."""

import contextlib

import numpy as np

from hornbeam.backend import _core

_device = ""


@contextlib.contextmanager
def on(device):
    """Kernels run there, not on the CPU."""
    global _device
    before, _device = _device, device
    try:
        yield
    finally:
        _device = before


def run(op, inputs, dtypes, outputs, constants=(), **attrs):
    """The arrays that a kernel makes of arrays.

    Args:
        op: name of the kernel.
        inputs: arrays (bfloat16: its bits).
        dtypes: those of the inputs.
        outputs: (dtype, shape) of each.
        constants: which inputs the program owns.
        **attrs: attributes.
    """
    n = len(inputs)
    slots = [(d, x.shape) for d, x in zip(dtypes, inputs, strict=True)] + list(outputs)
    tensors = [_core.Tensor.from_numpy(x, d, True) for x, d in zip(inputs, dtypes, strict=True)]
    if _device:
        tensors = [t.to(_device) for t in tensors]
    free = [i for i in range(n) if i not in constants]
    owned = [(i, tensors[i]) for i in constants]
    made = list(range(n, len(slots)))
    instruction = (op, list(range(n)), made, attrs, [], None, "")
    places = [_device] * len(slots) if _device else []
    program = _core.Program(slots, free, owned, [], [instruction], made, [], places)
    args = [tensors[i] for i in free]
    program.run(args)
    results = program.run(args)
    return [np.array((t.to("cpu:0") if _device else t).array()) for t in results]
