"""Nested structures of lists, tuples, namedtuples and dicts (public as `hornbeam.tree`).

Dicts are walked in the order of their sorted keys, so that two dicts of the same content flatten
to the same list. `None` is a leaf.
"""

from __future__ import annotations

import collections


def is_nested(structure) -> bool:
    """Whether `structure` is a list, tuple or dict."""
    return isinstance(structure, (list, tuple, dict))


def sorted_keys(d: dict) -> list:
    """Keys in the order in which a dict is walked."""
    if isinstance(d, collections.OrderedDict):
        return list(d)
    try:
        return sorted(d)
    except TypeError:
        return list(d)


def _children(structure):
    if isinstance(structure, dict):
        return [structure[k] for k in sorted_keys(structure)]
    return structure


def _rebuild(structure, children):
    if isinstance(structure, dict):
        new = dict(zip(sorted_keys(structure), children, strict=True))
        ordered = ((k, new[k]) for k in structure)
        if isinstance(structure, collections.defaultdict):
            return type(structure)(structure.default_factory, ordered)
        return type(structure)(ordered)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*children)
    if type(structure) in (list, tuple):
        return type(structure)(children)
    return list(children) if isinstance(structure, list) else tuple(children)


def flatten(structure) -> list:
    """Leaves of `structure`, in order."""
    if not is_nested(structure):
        return [structure]
    out: list = []
    for child in _children(structure):
        if isinstance(child, (list, tuple, dict)):
            out.extend(flatten(child))
        else:
            out.append(child)
    return out


def flatten_with_path(structure, _path=()) -> list:
    """(path, leaf) pairs; a path is a tuple of keys and indices."""
    if not is_nested(structure):
        return [(_path, structure)]
    keys = sorted_keys(structure) if isinstance(structure, dict) else range(len(structure))
    out = []
    for key in keys:
        out.extend(flatten_with_path(structure[key], (*_path, key)))
    return out


def map_structure(func, *structures, none_is_leaf: bool = True):
    """`func` applied leaf by leaf to structures of the same form."""
    first = structures[0]
    if not is_nested(first):
        if first is None and not none_is_leaf:
            return None
        return func(*structures)
    for other in structures[1:]:
        _check_same_level(first, other)
    columns = zip(*(_children(s) for s in structures), strict=True)
    return _rebuild(first, [map_structure(func, *c, none_is_leaf=none_is_leaf) for c in columns])


def map_structure_up_to(shallow, func, *structures):
    """As `map_structure`, but stops at the leaves of `shallow`."""
    if not is_nested(shallow):
        return func(*structures)
    for other in structures:
        _check_same_level(shallow, other)
    columns = zip(_children(shallow), *(_children(s) for s in structures), strict=True)
    return _rebuild(shallow, [map_structure_up_to(c[0], func, *c[1:]) for c in columns])


def _check_same_level(a, b):
    if not is_nested(b) or isinstance(a, dict) != isinstance(b, dict) or len(a) != len(b):
        raise ValueError(f"tree: the structures differ; expected one like {a!r}, got {b!r}")
    if isinstance(a, dict) and set(a) != set(b):
        raise ValueError(f"tree: expected the keys {sorted(a)}, got {sorted(b)}")


def assert_same_structure(a, b) -> None:
    """Raises ValueError unless `a` and `b` nest in the same way."""
    if is_nested(a) != is_nested(b):
        raise ValueError(f"tree: the structures differ; expected one like {a!r}, got {b!r}")
    if is_nested(a):
        _check_same_level(a, b)
        for x, y in zip(_children(a), _children(b), strict=True):
            assert_same_structure(x, y)


def pack_sequence_as(structure, flat_sequence):
    """The leaves `flat_sequence` in the form of `structure`."""
    leaves = iter(flat_sequence)

    def pack(s):
        if not is_nested(s):
            try:
                return next(leaves)
            except StopIteration:
                raise ValueError(
                    f"pack_sequence_as: {structure!r} has more leaves than were given"
                ) from None
        return _rebuild(s, [pack(c) for c in _children(s)])

    packed = pack(structure)
    if next(leaves, leaves) is not leaves:
        raise ValueError(f"pack_sequence_as: {structure!r} has fewer leaves than were given")
    return packed


def lists_to_tuples(structure):
    """The same structure with every list replaced by a tuple."""
    if isinstance(structure, dict):
        return _rebuild(structure, [lists_to_tuples(c) for c in _children(structure)])
    if isinstance(structure, (list, tuple)):
        children = [lists_to_tuples(c) for c in structure]
        return _rebuild(structure, children) if hasattr(structure, "_fields") else tuple(children)
    return structure
