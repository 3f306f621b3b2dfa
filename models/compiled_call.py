"""`model(x)` on concrete tensors: one compiled program, where nobody can tell the difference.

Layer by layer, a small model spends most of its time between the layers. A model whose layers are
all hornbeam's own has no Python code of the user's to run at each call, so its call is compiled,
once for each shape, and compiled anew when an attribute of a layer changes.
"""

from __future__ import annotations

import types

import numpy as np

from hornbeam import backend
from hornbeam.backend import autodiff, settings, tree
from hornbeam.backend import graph as graphs
from hornbeam.layers.calling import get_keras_mask
from hornbeam.layers.core.lambda_layer import Lambda

_MAX_PROGRAMS = 64
_AS_THEY_ARE = tuple(map(np.dtype, ("float32", "float64", "int32", "int64", "uint8")))


class CompiledCall:
    """The compiled calls of one model.

    Args:
        model: the model.
        call: its call, layer by layer.
    """

    def __init__(self, model, call):
        self._model = model
        self._call = call
        self._layers: list | None = None
        self._attributes: list[dict] = []  # of the layers
        self._changes: list | None = None
        self._suits = False
        self._programs: dict = {}

    def __call__(self, x, training):
        """The model's output for one array, or None if the call must go layer by layer."""
        if graphs.is_tracing() or autodiff.tape_is_open() or not self._model.built:
            return None
        if getattr(x, "_keras_mask", None) is not None or not self._unchanged():
            return None
        key = (x.shape, x.dtype, training, settings.key(x))
        program = self._programs.get(key)
        if program is None:
            program = self._compile(x, training)
            if program is None:
                return None
            if len(self._programs) >= _MAX_PROGRAMS:
                self._programs.clear()
            self._programs[key] = program
        if type(x) is np.ndarray and x.dtype in _AS_THEY_ARE and x.flags.c_contiguous:
            return program.run_arrays([x])
        return program.run([x])

    def _unchanged(self) -> bool:
        """Whether the model suits, as its layers are now."""
        if self._layers is not None:
            if [a["_changes"] for a in self._attributes] == self._changes:
                return self._suits
        self._programs.clear()
        self._layers = self._model._flatten_layers()
        self._attributes = [layer.__dict__ for layer in self._layers]
        self._changes = [a["_changes"] for a in self._attributes]
        self._suits = not self._model.run_eagerly and all(map(_is_ours, self._layers))
        return self._suits

    def _compile(self, x, training):
        def run(x):
            out = self._call(x) if training is None else self._call(x, training=training)
            if any(get_keras_mask(t) is not None for t in tree.flatten(out)):
                raise _Masked
            return out

        try:
            program = backend.function(run).concrete(x)
        except _Masked:  # outputs of a program carry no masks
            self._suits = False
            return None
        # what the first call itself changes (a layer that is built) is no change any more
        self._changes = [a["_changes"] for a in self._attributes]
        return program


class _Masked(Exception):
    pass


def _is_ours(layer) -> bool:
    """Whether calling the layer runs hornbeam's code only, and leaves nothing behind in Python."""
    if not type(layer).__module__.startswith("hornbeam.") or isinstance(layer, Lambda):
        return False
    if getattr(layer, "activity_regularizer", None) is not None:
        return False
    return not any(
        isinstance(value, types.FunctionType) and not value.__module__.startswith("hornbeam.")
        for value in layer.__dict__.values()
    )


def single_array(args, kwargs):
    """(x, training) of a call with one array and perhaps `training`, else None."""
    if len(args) != 1 or not isinstance(args[0], (np.ndarray, backend.Tensor)):
        return None
    if not kwargs:
        return args[0], None
    training = kwargs.get("training")
    if len(kwargs) == 1 and "training" in kwargs and (training is None or type(training) is bool):
        return args[0], training
    return None
