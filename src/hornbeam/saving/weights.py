"""State of a model in the layout of Keras 3's `.weights.h5`: one group per object.

A group's path says how the object is reached from the model: `layers/<class>[_k]` for the layers of
a Sequential or Functional model, the attribute's name for anything else; arrays are numbered in
`<path>/vars`. Names that users give play no role.
"""

from __future__ import annotations

import collections.abc
import functools
import warnings

import numpy as np

from hornbeam import backend
from hornbeam.layers.layer import Layer
from hornbeam.models.functional import Functional
from hornbeam.models.sequential import Sequential
from hornbeam.optimizers.optimizer import Optimizer
from hornbeam.random import SeedGenerator
from hornbeam.saving._files import SavedFileError, check_name
from hornbeam.utils import naming

_CONTAINERS = (list, tuple, dict, set)
_STATEFUL = (Layer, Optimizer, SeedGenerator)


def walk(root):
    """(path, object) for every object below `root` that has state, each once, in Keras's order."""
    seen = set()

    def visit(obj, path):
        if id(obj) in seen:
            return
        seen.add(id(obj))
        yield path, obj
        for name, child in _children(obj):
            inner = f"{path}/{name}" if path else name
            if isinstance(child, _STATEFUL):
                yield from visit(child, inner)
            elif isinstance(child, _CONTAINERS):
                yield from visit_container(child, inner)

    def visit_container(container, path):
        if id(container) in seen:
            return
        seen.add(id(container))
        used = {}
        for item in container.values() if isinstance(container, dict) else container:
            if isinstance(item, _STATEFUL):
                name, enter = naming.to_snake_case(type(item).__name__), visit
            elif isinstance(item, _CONTAINERS):
                name, enter = "container", visit_container
            else:
                continue
            count = used[name] = used.get(name, -1) + 1
            yield from enter(item, f"{path}/{name}_{count}" if count else f"{path}/{name}")

    return visit(root, "")


def _children(obj):
    if isinstance(obj, SeedGenerator):
        return
    skipped = _base_attributes(Optimizer if isinstance(obj, Optimizer) else Layer)
    if isinstance(obj, (Functional, Sequential)):
        yield "layers", obj.layers
    for name in sorted(dir(obj), key=lambda name: (name.startswith("_"), name)):
        if name.startswith("__") or name in skipped or name in ("_functional", "_graph"):
            continue
        try:
            child = getattr(obj, name)
        except Exception:  # a property that is not ready
            continue
        yield name, child


@functools.cache
def _base_attributes(base):
    made = base(name="base") if base is Layer else base(0.0, name="base")
    return frozenset(dir(made))


# --- writing ----------------------------------------------------------------------------------


class _Put:
    """What `save_own_variables` fills: numbers by name."""

    def __init__(self, writer, group):
        self._writer, self._group = writer, group

    def __setitem__(self, key, value):
        dtype = getattr(value, "dtype", None)
        if backend.is_tensor(value) or isinstance(value, backend.Variable):
            value = backend.convert_to_numpy(value)  # bfloat16 comes as float32
        check_name(str(key), self._group)
        self._writer.array(f"{self._group}/{key}", value, dtype)


def write(root, writer):
    """Writes the state of everything below `root` to an HDF5 `Writer`."""
    for path, obj in walk(root):
        group = f"{path}/vars" if path else "vars"
        writer.group(group)
        name = getattr(obj, "name", None)
        if isinstance(name, str):
            writer.attribute(group, "name", name)
        store = _Put(writer, group)
        if isinstance(obj, SeedGenerator):
            store["0"] = obj.state
        else:
            obj.save_own_variables(store)


def size_of(root):
    """About how many bytes `write` will produce."""
    total = 4096
    for _, obj in walk(root):
        total += 1024
        total += sum(_nbytes(variable) + 512 for variable in _own_variables(obj))
    return total


def _own_variables(obj):
    if isinstance(obj, SeedGenerator):
        return [obj.state]
    return obj.variables if isinstance(obj, Optimizer) else obj._stored_variables()


def _nbytes(variable):
    return int(np.prod(variable.shape)) * backend.dtypes.item_bytes(variable.dtype)


# --- reading ----------------------------------------------------------------------------------


class Values(collections.abc.Mapping):
    """What `load_own_variables` reads: NumPy arrays by name."""

    def __init__(self, arrays):
        self._arrays = arrays

    def __getitem__(self, key):
        return self._arrays[str(key)].read()

    def __iter__(self):
        return iter(self._arrays)

    def __len__(self):
        return len(self._arrays)

    def shape(self, key):
        return self._arrays[key].shape


def read(root, tree, skip_mismatch=False, objects_to_skip=()):
    """Sets the state of everything below `root` from an HDF5 `Tree`.

    Counts and shapes of all objects are compared first; with a difference nothing is changed,
    unless `skip_mismatch`.

    Raises:
        ValueError: arrays that do not fit the objects; the message names them.
    """
    skipped = {id(obj) for obj in objects_to_skip or ()}
    old = "_layer_checkpoint_dependencies"  # what Keras 2.13 called `layers`
    plan, failed = [], []
    for path, obj in walk(root):
        if id(obj) in skipped:
            continue
        group = f"{path}/vars" if path else "vars"
        if old in tree.groups:
            group = group.replace("layers/", f"{old}/", 1)
        values = Values(tree.below(group))
        problem = _difference(obj, values)
        if problem is None:
            plan.append((path, obj, values))
        elif problem:
            failed.append((path, obj, problem))
    if failed and not skip_mismatch:
        raise _mismatch(tree, failed)
    for path, obj, values in plan:
        try:
            if isinstance(obj, SeedGenerator):
                obj.state.assign(values["0"])
            else:
                obj.load_own_variables(values)
        except (ValueError, KeyError) as error:
            if isinstance(error, SavedFileError):
                raise
            failed.append((path, obj, f"{type(error).__name__}: {error}"))
    if failed and not skip_mismatch:
        raise _mismatch(tree, failed)
    if failed:
        warnings.warn(str(_mismatch(tree, failed)), stacklevel=4)


def _difference(obj, values):
    """None if `values` may be loaded into `obj`, "" if there is nothing to load, else why not."""
    if isinstance(obj, SeedGenerator):
        # Keras 3.15 writes none, earlier versions do
        return None if len(values) == 1 and values.shape("0") == tuple(obj.state.shape) else ""
    if isinstance(obj, Optimizer):
        # A file from before the first step holds the step and the rate alone, as they are made.
        if not len(values) or (len(values) <= 2 < len(obj.variables) and not values["0"]):
            return ""
        if len(values) != len(obj.variables):
            return None  # the optimizer warns and stays as it is
    elif type(obj).load_own_variables is not Layer.load_own_variables:
        return None
    variables = _own_variables(obj)
    if len(values) != len(variables):
        hint = "" if getattr(obj, "built", True) else "; the object is not built yet"
        return f"expected {len(variables)} arrays, got {len(values)}{hint}"
    for index, variable in enumerate(variables):
        key = str(index)
        if key not in values:
            return f"array '{key}' is missing; there are {sorted(values)}"
        if values.shape(key) != tuple(variable.shape):
            return (
                f"'{variable.path}': expected shape {tuple(variable.shape)}, got "
                f"{values.shape(key)}"
            )
    return None


def _mismatch(tree, failed):
    lines = [
        f"  {path or 'the model itself'} ({type(obj).__name__} "
        f"'{getattr(obj, 'name', '')}'): {problem}"
        for path, obj, problem in failed[:20]
    ]
    if len(failed) > 20:
        lines.append(f"  … and {len(failed) - 20} more")
    return ValueError(
        f"{tree.path}: {len(failed)} objects could not be loaded, because the file holds another "
        "architecture; build the model that was saved, or pass skip_mismatch=True:\n"
        + "\n".join(lines)
    )
