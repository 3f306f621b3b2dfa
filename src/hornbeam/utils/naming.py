"""Automatic names: `Dense` → `dense`, `dense_1`, … counted per session."""

import collections
import re

_uids: collections.Counter = collections.Counter()


def to_snake_case(name):
    """`"LayerNormalization"` → `"layer_normalization"`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def uniquify(name):
    """`name` the first time, then `name_1`, `name_2`, …"""
    count = _uids[name]
    _uids[name] += 1
    return f"{name}_{count}" if count else name


def auto_name(prefix):
    """A name that this session has not given yet, from a class name or other prefix."""
    return uniquify(to_snake_case(prefix))


def get_uid(prefix=""):
    """1, 2, 3, … for each prefix."""
    _uids["uid>" + prefix] += 1
    return _uids["uid>" + prefix]


def reset_uids():
    """Start all names and counters again."""
    _uids.clear()


def clear_session(free_memory=True):
    """Start the automatic names again, as in a new process."""
    reset_uids()


def by_name(namespace, base, **aliases):
    """Name and snake-case name → class, for the subclasses of `base` in a module's globals."""
    table = {}
    for name, obj in list(namespace.items()):
        if isinstance(obj, type) and issubclass(obj, base) and not name.startswith("_"):
            table[name] = table[to_snake_case(obj.__name__)] = obj
    return {**table, **aliases}
