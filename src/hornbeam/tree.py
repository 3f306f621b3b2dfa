"""Nested structures of lists, tuples and dictionaries (`keras.tree`)."""

from hornbeam.backend import tree as _tree
from hornbeam.backend.tree import assert_same_structure as assert_same_structure
from hornbeam.backend.tree import flatten as flatten
from hornbeam.backend.tree import flatten_with_path as flatten_with_path
from hornbeam.backend.tree import is_nested as is_nested
from hornbeam.backend.tree import lists_to_tuples as lists_to_tuples
from hornbeam.backend.tree import map_structure as map_structure
from hornbeam.backend.tree import map_structure_up_to as map_structure_up_to
from hornbeam.backend.tree import pack_sequence_as as pack_sequence_as


class MAP_TO_NONE:
    """What a function given to `traverse` returns to put None into the result."""


def traverse(func, structure, top_down=True):
    """`structure` with sub-structures replaced by what `func` returns for them, unless None.

    Args:
        func: called with every sub-structure and leaf; None keeps it, `MAP_TO_NONE` puts None.
        structure: nested structure.
        top_down: parents first, and not into what was replaced; else children first.

    Example:

    >>> from hornbeam import tree
    >>> tree.traverse(lambda x: sum(x) if isinstance(x, tuple) else None, [(1, 2), [3]])
    [3, [3]]
    """
    if top_down:
        new = func(structure)
        if new is not None:
            return _value(new)
    if is_nested(structure):
        children = [traverse(func, child, top_down) for child in _tree._children(structure)]
        structure = _tree._rebuild(structure, children)
    if not top_down:
        new = func(structure)
        if new is not None:
            return _value(new)
    return structure


def _value(new):
    return None if new is MAP_TO_NONE or isinstance(new, MAP_TO_NONE) else new


def map_shape_structure(func, structure):
    """`func` of every shape (tuple or list of ints and None) in `structure`.

    Example:

    >>> from hornbeam import tree
    >>> tree.map_shape_structure(len, {"a": (None, 3), "b": [(2,)]})
    {'a': 2, 'b': [1]}
    """
    if isinstance(structure, (list, tuple)) and all(
        d is None or isinstance(d, int) for d in structure
    ):
        return func(tuple(structure))
    if not is_nested(structure):
        raise ValueError(f"map_shape_structure: expected shapes, got {structure!r}")
    children = [map_shape_structure(func, child) for child in _tree._children(structure)]
    return _tree._rebuild(structure, children)


def assert_same_paths(a, b):
    """Raise a ValueError unless `a` and `b` have the same keys and indices at all depths.

    Example:

    >>> from hornbeam import tree
    >>> tree.assert_same_paths([0, 1], (2, 3))
    """
    first, second = ({path for path, _ in flatten_with_path(x)} for x in (a, b))
    if first != second:
        raise ValueError(f"tree: the paths differ: {sorted(first ^ second, key=str)}")
