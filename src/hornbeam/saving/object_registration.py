"""The closed registry of everything that a saved configuration may name.

Built-in classes are entered by the packages that own them (`register_builtin`); users add their own
with `register_keras_serializable` or for the length of a `CustomObjectScope`. Nothing is ever
imported because a file asks for it: a name which is not in these tables is an error.
"""

from __future__ import annotations

import contextvars
import inspect

_builtin_by_name: dict[tuple[str, str], object] = {}
_builtin_names: dict[object, tuple[str, str]] = {}
_resolvers: dict[str, object] = {}
_custom_objects: dict[str, object] = {}
_custom_names: dict[object, str] = {}
_scope: contextvars.ContextVar[dict] = contextvars.ContextVar("custom_objects", default={})  # noqa: B039


def register_builtin(obj, module, name=None):
    """Enter `obj` under Keras's public name `module`.`name`; the first name is the one written."""
    name = name or obj.__name__
    _builtin_by_name[module, name] = obj
    _builtin_names.setdefault(obj, (module, name))
    return obj


def register_namespace(module, names, base):
    """Enter every subclass of `base` among `names` (a module's `globals()`) under `module`."""
    for name, obj in names.items():
        if isinstance(obj, type) and issubclass(obj, base) and not name.startswith("_"):
            _builtin_by_name[module, name] = obj
    for name, obj in names.items():
        if isinstance(obj, type) and issubclass(obj, base) and not name.startswith("_"):
            # Aliases (`AvgPool2D`) are read, but the class's own name is written.
            if obj.__name__ == name:
                _builtin_names.setdefault(obj, (module, name))


def register_resolver(module, find):
    """`find(name)` gives the built-in `module`.`name`, or None, without a table of names."""
    _resolvers[module] = find


def builtin_name(obj):
    """(module, name) under which Keras knows `obj`, or None."""
    try:
        return _builtin_names.get(obj)
    except TypeError:  # unhashable
        return None


def builtin_object(module, name):
    """The built-in that Keras calls `module`.`name`, or None.

    Private homes such as `keras.src.layers.core.dense` count as their public package.
    """
    found = _builtin_by_name.get((module, name))
    if found is None and module and module.startswith("keras.src."):
        module = "keras." + module.split(".")[2]
        found = _builtin_by_name.get((module, name))
    if found is None and module in _resolvers:
        found = _resolvers[module](name)
    return found


def known_names(module=None):
    """Sorted names of the registry (of one module), for error messages."""
    names = {n for m, n in _builtin_by_name if module is None or m == module}
    return sorted(names) + sorted(_custom_objects) + sorted(_scope.get())


def get_custom_objects():
    """The global dictionary of custom objects, by registered name; may be changed in place."""
    return _custom_objects


def register_keras_serializable(package="Custom", name=None):
    """Decorator: enter a class or function in the registry as `package>name`.

    Args:
        package: namespace that keeps equal names of different projects apart.
        name: name in the namespace; the class's own when None.

    Raises:
        ValueError: a class without `get_config`, or a name that is already taken.

    Example:

    >>> import hornbeam as keras
    >>> @keras.saving.register_keras_serializable(package="docs")
    ... def double(x):
    ...     return 2 * x
    >>> keras.saving.get_registered_name(double)
    'docs>double'
    """

    def decorator(obj):
        registered = f"{package}>{name if name is not None else obj.__name__}"
        if inspect.isclass(obj) and not hasattr(obj, "get_config"):
            raise ValueError(
                f"register_keras_serializable: class {obj.__name__} has no `get_config()` method; "
                "a class that is saved must describe itself by one"
            )
        _custom_objects[registered] = obj
        _custom_names[obj] = registered
        return obj

    return decorator


def get_registered_name(obj):
    """The name under which `obj` was registered, or its own name."""
    try:
        if obj in _custom_names:
            return _custom_names[obj]
    except TypeError:
        pass
    return getattr(obj, "__name__", None)


def is_registered(obj):
    try:
        return obj in _custom_names
    except TypeError:
        return False


def get_registered_object(name, custom_objects=None, module_objects=None):
    """The object registered as `name`: in the scope, globally, in `custom_objects`, in `module_objects`."""  # noqa: E501
    for table in (_scope.get(), _custom_objects, custom_objects or {}, module_objects or {}):
        if name in table:
            return table[name]
    return None


class CustomObjectScope:
    """Context in which the given names are known to deserialisation.

    Args:
        custom_objects: dictionary from names to classes or functions.

    Example:

    >>> import hornbeam as keras
    >>> def double(x):
    ...     return 2 * x
    >>> with keras.saving.CustomObjectScope({"double": double}):
    ...     keras.activations.get("double") is double
    True
    """

    def __init__(self, custom_objects):
        self.custom_objects = custom_objects or {}
        self._tokens = []

    def __enter__(self):
        self._tokens.append(_scope.set({**_scope.get(), **self.custom_objects}))
        return self

    def __exit__(self, *exc):
        _scope.reset(self._tokens.pop())


custom_object_scope = CustomObjectScope
