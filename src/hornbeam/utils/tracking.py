"""Finding the state (variables, layers, metrics, …) that an object is given as attributes.

A `Tracker` looks at each value on assignment. Containers become tracked containers, so that what
is appended later is found too, in the order in which it was added.
"""

import contextlib
import contextvars
import functools

_enabled: contextvars.ContextVar[bool] = contextvars.ContextVar("tracking", default=True)


class DotNotTrackScope(contextlib.ContextDecorator):
    """In this context, assigned attributes are plain attributes."""

    def __enter__(self):
        self._token = _enabled.set(False)
        return self

    def __exit__(self, *exc):
        _enabled.reset(self._token)


def no_automatic_dependency_tracking(fn):
    """Decorator: what `fn` assigns is not tracked."""

    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        with DotNotTrackScope():
            return fn(*args, **kwargs)

    return wrapper


class Tracker:
    """Sorts values into lists.

    Args:
        config: dictionary from list name to `(predicate, list)`; the first predicate that holds
            takes the value.
    """

    #: How often any tracker's lists changed.
    changes = 0

    def __init__(self, config):
        self.config = config
        self.seen = {name: {id(x) for x in store} for name, (_, store) in config.items()}
        self.lock_message = None

    def lock(self, message):
        """From now on a new value is an error with this message."""
        self.lock_message = message

    def unlock(self):
        self.lock_message = None

    def track(self, value):
        """Enter `value` (or the values in a container); return what to assign in its place."""
        if not _enabled.get():
            return value
        for name, (predicate, _) in self.config.items():
            if predicate(value):
                self.add(name, value)
                return value
        if type(value) is tuple:
            return tuple(self.track(x) for x in value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self.track(x) for x in value))
        kind = {list: TrackedList, dict: TrackedDict, set: TrackedSet}.get(type(value))
        return value if kind is None else kind(value, tracker=self)

    def untrack(self, value):
        for name, (_, store) in self.config.items():
            if id(value) in self.seen[name]:
                Tracker.changes += 1
                self.seen[name].discard(id(value))
                store[:] = [x for x in store if x is not value]

    def add(self, name, value):
        # What is already known under any name (a variable that was frozen since) stays there.
        if any(id(value) in seen for seen in self.seen.values()):
            return
        if self.lock_message is not None:
            raise ValueError(self.lock_message)
        Tracker.changes += 1
        self.seen[name].add(id(value))
        self.config[name][1].append(value)

    def replace(self, name, values):
        """Make `values` the whole content of a list."""
        Tracker.changes += 1
        self.seen[name] = {id(x) for x in values}
        self.config[name][1][:] = values


class TrackedList(list):
    """A list whose items are tracked."""

    def __init__(self, values=(), tracker=None):
        self.tracker = tracker
        super().__init__(self._see(x) for x in values)

    def _see(self, value):
        return self.tracker.track(value) if self.tracker else value

    def _forget(self, value):
        if self.tracker and not any(value is x for x in self):
            self.tracker.untrack(value)

    def append(self, value):
        super().append(self._see(value))

    def insert(self, index, value):
        super().insert(index, self._see(value))

    def extend(self, values):
        super().extend([self._see(x) for x in values])

    def __iadd__(self, values):  # type: ignore[misc]
        self.extend(values)
        return self

    def __setitem__(self, index, value):
        if isinstance(index, slice):
            value = [self._see(x) for x in value]
        else:
            value = self._see(value)
        super().__setitem__(index, value)

    def __delitem__(self, index):
        gone = self[index] if isinstance(index, slice) else [self[index]]
        super().__delitem__(index)
        for value in gone:
            self._forget(value)

    def remove(self, value):
        super().remove(value)
        self._forget(value)

    def pop(self, index=-1):
        value = super().pop(index)
        self._forget(value)
        return value

    def clear(self):
        gone = list(self)
        super().clear()
        for value in gone:
            self._forget(value)

    def __reduce__(self):
        return list, (list(self),)


class TrackedDict(dict):
    """A dictionary whose values are tracked."""

    def __init__(self, values=(), tracker=None):
        self.tracker = tracker
        super().__init__({k: self._see(v) for k, v in dict(values).items()})

    def _see(self, value):
        return self.tracker.track(value) if self.tracker else value

    def __setitem__(self, key, value):
        super().__setitem__(key, self._see(value))

    def setdefault(self, key, default=None):
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args, **kwargs):
        super().update({k: self._see(v) for k, v in dict(*args, **kwargs).items()})

    def __delitem__(self, key):
        value = self[key]
        super().__delitem__(key)
        if self.tracker:
            self.tracker.untrack(value)

    def pop(self, key, *default):
        present = key in self
        value = super().pop(key, *default)
        if present and self.tracker:
            self.tracker.untrack(value)
        return value

    def clear(self):
        gone = list(self.values())
        super().clear()
        for value in gone:
            if self.tracker:
                self.tracker.untrack(value)

    def __reduce__(self):
        return dict, (dict(self),)


class TrackedSet(set):
    """A set whose items are tracked."""

    def __init__(self, values=(), tracker=None):
        self.tracker = tracker
        super().__init__(self._see(x) for x in values)

    def _see(self, value):
        return self.tracker.track(value) if self.tracker else value

    def add(self, value):
        super().add(self._see(value))

    def update(self, values):
        super().update(self._see(x) for x in values)

    def remove(self, value):
        super().remove(value)
        if self.tracker:
            self.tracker.untrack(value)

    def __reduce__(self):
        return set, (set(self),)
