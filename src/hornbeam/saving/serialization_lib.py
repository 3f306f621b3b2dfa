"""Objects to plain data and back, in the shape of Keras 3's `config.json`.

`{"module": "keras.layers", "class_name": "Dense", "config": {…}, "registered_name": None}`. Reading
is data-only: classes come from the closed registry, from the caller's `custom_objects`, or not at
all; functions are known by registered name, and code stored in a file is never run.
"""

from __future__ import annotations

import contextlib
import contextvars
import difflib
import types

import numpy as np

from hornbeam import backend
from hornbeam.saving import object_registration as registration

_PLAIN = (str, int, float, bool)
_safe_mode: contextvars.ContextVar[bool] = contextvars.ContextVar("safe_mode", default=True)
_seen_configs: contextvars.ContextVar[dict | None] = contextvars.ContextVar("seen", default=None)
_seen_objects: contextvars.ContextVar[dict | None] = contextvars.ContextVar("made", default=None)


@contextlib.contextmanager
def object_sharing_scope():
    """In this context an object that occurs twice is written and made once."""
    a, b = _seen_configs.set({}), _seen_objects.set({})
    try:
        yield
    finally:
        _seen_configs.reset(a)
        _seen_objects.reset(b)


def serialize_keras_object(obj):
    """Plain data (numbers, strings, lists, dictionaries) that describes `obj`.

    Args:
        obj: anything with `get_config()`, a registered function, arrays, tensors, or nests of them.

    Raises:
        TypeError: an object that cannot describe itself.

    Example:

    >>> import hornbeam as keras
    >>> keras.saving.serialize_keras_object(keras.initializers.Zeros())["class_name"]
    'Zeros'
    """
    if obj is None or type(obj) in _PLAIN:
        return obj
    if isinstance(obj, tuple):
        return tuple(serialize_keras_object(x) for x in obj)
    if isinstance(obj, list):
        return [serialize_keras_object(x) for x in obj]
    if isinstance(obj, dict):
        return {key: serialize_keras_object(value) for key, value in obj.items()}
    if isinstance(obj, bytes):
        return {"class_name": "__bytes__", "config": {"value": obj.decode("utf-8")}}
    if isinstance(obj, slice):
        parts = {k: serialize_keras_object(getattr(obj, k)) for k in ("start", "stop", "step")}
        return {"class_name": "__slice__", "config": parts}
    if obj is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(obj, backend.KerasTensor):
        history = getattr(obj, "_keras_history", None)
        if history is not None:
            history = [history[0].name, history[1], history[2]]
        config = {"shape": list(obj.shape), "dtype": obj.dtype, "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}
    if isinstance(obj, np.generic) or (isinstance(obj, np.ndarray) and obj.ndim == 0):
        return obj.item()
    if isinstance(obj, np.dtype):
        return obj.name
    if isinstance(obj, np.ndarray):
        config = {"value": obj.tolist(), "dtype": backend.standardize_dtype(obj.dtype)}
        return {"class_name": "__numpy__", "config": config}
    if backend.is_tensor(obj):
        value = backend.convert_to_numpy(obj)
        config = {"value": value.tolist(), "dtype": backend.standardize_dtype(obj.dtype)}
        return {"class_name": "__tensor__", "config": config}
    if isinstance(obj, _PLAIN):  # subclasses of str, int, float
        return next(t(obj) for t in (str, int, float) if isinstance(obj, t))
    if isinstance(obj, types.FunctionType | types.BuiltinFunctionType) or (
        isinstance(obj, type) and not hasattr(obj, "get_config")
    ):
        return _serialize_function(obj)
    return _serialize_instance(obj)


def _serialize_function(fn):
    if fn.__name__ == "<lambda>":
        raise ValueError(
            "serialize_keras_object: a lambda has no name under which it could be found again; "
            "expected a named function registered with `register_keras_serializable`"
        )
    known = registration.builtin_name(fn)
    name = registration.get_registered_name(fn)
    module = known[0] if known else fn.__module__
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def _serialize_instance(obj):
    cls = type(obj)
    if not hasattr(obj, "get_config"):
        raise TypeError(
            f"serialize_keras_object: {obj!r} of type {cls.__name__} cannot be serialised; "
            "expected an object with a `get_config()` method"
        )
    inner = obj.get_config()
    if not isinstance(inner, dict):
        raise TypeError(
            f"{cls.__name__}.get_config: expected a dict, got {inner!r} of type "
            f"{type(inner).__name__}"
        )
    name = obj.serialized_name() if hasattr(obj, "serialized_name") else None
    name = name or registration.builtin_name(cls)
    if name is not None:
        module, class_name = name
        # Keras looks private homes up by their registered name.
        registered = class_name if module.startswith("keras.src.") else None
    else:
        module, class_name = cls.__module__, cls.__name__
        registered = registration.get_registered_name(cls)
        if module == "__main__":
            module = None
    config = {
        "module": module,
        "class_name": class_name,
        "config": serialize_keras_object(inner),
        "registered_name": registered,
    }
    for key, getter in (
        ("build_config", "get_build_config"),
        ("compile_config", "get_compile_config"),
    ):
        if hasattr(obj, getter):
            extra = getattr(obj, getter)()
            if extra is not None:
                config[key] = serialize_keras_object(extra)
    seen = _seen_configs.get()
    if seen is not None:
        if id(obj) in seen:
            config["shared_object_id"] = seen[id(obj)]["shared_object_id"] = id(obj)
        else:
            seen[id(obj)] = config
            seen.setdefault("alive", []).append(obj)  # an id is only unique among the living
            if hasattr(obj, "_inbound_nodes"):
                # models copy the configs of their layers, so that a later mark would be lost
                config["shared_object_id"] = id(obj)
    return config


def deserialize_keras_object(config, custom_objects=None, safe_mode=True, **kwargs):
    """The object that `serialize_keras_object` described.

    Args:
        config: the description.
        custom_objects: dictionary from names to classes or functions known besides the registry.
        safe_mode: accepted as in Keras; stored code is refused in either mode.

    Raises:
        TypeError: a class that is not in the registry; the message lists what is.
        ValueError: stored code (`__lambda__`).
    """
    if custom_objects:
        with registration.CustomObjectScope(custom_objects):
            return _deserialize(config, kwargs.get("module_objects"))
    return _deserialize(config, kwargs.get("module_objects"))


def _deserialize(config, module_objects=None):
    if config is None or isinstance(config, (int, float, bool)):
        return config
    if isinstance(config, str):
        found = registration.get_registered_object(config, module_objects=module_objects)
        return config if found is None else found
    if isinstance(config, (list, tuple)):
        return type(config)(_deserialize(x) for x in config)
    if not isinstance(config, dict):
        raise TypeError(
            f"deserialize_keras_object: expected plain data, got {config!r} of type "
            f"{type(config).__name__}"
        )
    if "class_name" not in config or "config" not in config:
        return {key: _deserialize(value) for key, value in config.items()}

    class_name = config["class_name"]
    inner = config["config"] if config["config"] is not None else {}
    special = _SPECIAL.get(class_name)
    if special is not None:
        return special(inner)
    if "module" not in config and not _is_known(class_name, module_objects):
        return {key: _deserialize(value) for key, value in config.items()}
    module, registered = config.get("module"), config.get("registered_name")

    if class_name == "function":
        return _find_function(module, registered or inner, inner)

    shared_id, made = config.get("shared_object_id"), _seen_objects.get()
    if made is not None and shared_id is not None and shared_id in made:
        return made[shared_id]

    cls = _find_class(module, class_name, registered, module_objects)
    if isinstance(cls, types.FunctionType):
        return cls
    if not hasattr(cls, "from_config"):
        raise TypeError(f"{class_name}: the class has no `from_config()` method to be made with")
    try:
        instance = cls.from_config(inner)
    except (TypeError, ValueError) as error:
        # Said once, of the innermost object: the models around it have nothing to add.
        if type(error) not in (TypeError, ValueError) or hasattr(error, "says_which"):
            raise
        name = inner.get("name") if isinstance(inner, dict) else None
        which = f"{class_name} '{name}'" if isinstance(name, str) else f"{class_name}"
        shown = repr(inner)
        shown = shown if len(shown) < 600 else f"{shown[:600]}…"
        new = type(error)(f"{which}: could not be made from its config: {error}; config: {shown}")
        new.says_which = True
        raise new from error
    if config.get("build_config") and hasattr(instance, "build_from_config"):
        instance.build_from_config(_deserialize(config["build_config"]))
        instance.built = True
    if config.get("compile_config") and hasattr(instance, "compile_from_config"):
        instance.compile_from_config(config["compile_config"])
    if made is not None and shared_id is not None:
        made[shared_id] = instance
    return instance


def _find_module(class_name):
    """Configs of older formats name no module: the one public home of the class, if any."""
    for (module, name), _ in registration._builtin_by_name.items():
        if name == class_name:
            return module
    return None


def _is_known(class_name, module_objects):
    return (
        registration.get_registered_object(class_name, module_objects=module_objects) is not None
        or _find_module(class_name) is not None
    )


def _find_class(module, class_name, registered, module_objects):
    for name in (registered, class_name):
        found = registration.get_registered_object(name) if name else None
        if found is not None:
            return found
    found = registration.builtin_object(module, class_name)
    if found is None and module is None:
        found = (module_objects or {}).get(class_name)
        found = found or registration.builtin_object(_find_module(class_name), class_name)
    if found is None:
        raise _unknown("class", module, class_name, registered)
    return found


def _unknown(kind, module, name, registered):
    """The error for a name that is not in the registry: what is, and how to enter it."""
    home = module if isinstance(module, str) and module.startswith("keras.") else None
    known = registration.known_names(home) or registration.known_names()
    close = difflib.get_close_matches(str(name)[:100], known, n=3)
    hint = f"; closest: {', '.join(close)}" if close else ""
    error = TypeError(
        f"unknown {kind} {str(name)[:200]!r} of module {str(module)[:200]!r} "
        f"(registered_name={str(registered)[:200]!r}){hint}. If it is your own, pass it as "
        f"custom_objects={{{str(registered or name)[:100]!r}: …}}, use it inside of a "
        "CustomObjectScope, or decorate it with `register_keras_serializable`. Registered are: "
        f"{', '.join(known)}"
    )
    error.says_which = True
    return error


def _find_function(module, registered, name):
    for key in (registered, name):
        found = registration.get_registered_object(key)
        if found is not None:
            return found
    found = registration.builtin_object(module, name)
    if found is None:
        raise _unknown("function", module, name, registered)
    return found


def _keras_tensor(inner):
    shape = tuple(inner["shape"])
    tensor = backend.KerasTensor(shape, dtype=inner["dtype"])
    tensor._pre_serialization_keras_history = inner["keras_history"]
    return tensor


def _refuse_lambda(inner):
    raise ValueError(
        "deserialize_keras_object: the config holds the code of a Python lambda, which is never "
        "run; replace it in the model by a named function given in `custom_objects`"
    )


def _array(inner):
    # a dtype from a file, such as "U1000000000", may be a request for memory
    dtype = backend.standardize_dtype(inner["dtype"])
    return np.array(inner["value"], dtype="float32" if dtype == "bfloat16" else dtype)


def _slice(inner):
    return slice(*(_deserialize(inner[key]) for key in ("start", "stop", "step")))


_SPECIAL = {
    "__bytes__": lambda inner: inner["value"].encode("utf-8"),
    "__ellipsis__": lambda inner: Ellipsis,
    "__keras_tensor__": _keras_tensor,
    "__lambda__": _refuse_lambda,
    "__numpy__": _array,
    "__slice__": _slice,
    "__tensor__": lambda inner: backend.convert_to_tensor(inner["value"], dtype=inner["dtype"]),
}
