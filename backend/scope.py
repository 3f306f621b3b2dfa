"""What holds for the code inside of a `with`: name scopes, autocast, eager islands."""

from __future__ import annotations

import contextlib
import threading


class _State(threading.local):
    def __init__(self):
        self.names: list[str] = []
        self.autocast: list[str | None] = []
        self.variable_check = None


_state = _State()


def current_path() -> str:
    """The open name scopes, joined by "/"."""
    return "/".join(_state.names)


class name_scope(contextlib.AbstractContextManager):
    """Prefixes the paths of variables made inside: `with name_scope("encoder"): …`."""

    def __init__(self, name, caller=None, **kwargs):
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"name_scope: expected a name without '/', got {name!r}")
        self.name = name
        self.caller = caller

    def __enter__(self):
        _state.names.append(self.name)
        return self

    def __exit__(self, *exc):
        _state.names.pop()


@contextlib.contextmanager
def autocast(dtype: str | None):
    """Float variables with `autocast` are read in this dtype (None: as they are)."""
    _state.autocast.append(dtype)
    try:
        yield
    finally:
        _state.autocast.pop()


def autocast_dtype() -> str | None:
    return _state.autocast[-1] if _state.autocast else None


@contextlib.contextmanager
def checking_variables(check):
    """`check(path, shape, nbytes)` is called before a variable made inside gets its memory."""
    outer, _state.variable_check = _state.variable_check, check
    try:
        yield
    finally:
        _state.variable_check = outer


def check_variable(path, shape, nbytes):
    if _state.variable_check is not None:
        _state.variable_check(path, shape, nbytes)


@contextlib.contextmanager
def eager():
    """Ops inside run at once, even while a function is traced."""
    from hornbeam.backend import autodiff, graph

    outer = graph._state.graph
    graph._state.graph = None
    try:
        with autodiff.pause(), autocast(None):
            yield
    finally:
        graph._state.graph = outer
