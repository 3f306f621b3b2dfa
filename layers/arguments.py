"""Checks and conversions of the arguments that many layers share."""

from hornbeam import backend, constraints, initializers, regularizers

_GET = {
    "initializer": initializers.get,
    "regularizer": regularizers.get,
    "constraint": constraints.get,
}


def store_weight_arguments(layer, **arguments):
    """Set `layer.kernel_initializer` and the like from names, configs or objects."""
    for name, value in arguments.items():
        setattr(layer, name, _GET[name.rpartition("_")[2]](value))


def add_named_weight(layer, name, shape, **kwargs):
    """Create the variable `name` with the layer's `<name>_initializer`, `<name>_regularizer`, …"""
    for kind in _GET:
        kwargs.setdefault(kind, getattr(layer, f"{name}_{kind}", None))
    return layer.add_weight(name=name, shape=shape, **kwargs)


def refuse(layer, **arguments):
    """Raise for arguments of features that do not exist here."""
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"{type(layer).__name__}: `{name}` is not supported; expected None, got {value!r}"
            )


def standardize_data_format(data_format):
    """`"channels_last"` or `"channels_first"`; the global setting for None."""
    if data_format is None:
        return backend.image_data_format()
    data_format = str(data_format).lower()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            f"data_format: expected 'channels_last' or 'channels_first', got {data_format!r}"
        )
    return data_format


def standardize_tuple(value, n, name, allow_zero=False):
    """`value` n times, or the n values of a sequence, as positive integers."""
    values = (value,) * n if isinstance(value, int) else value
    least = 0 if allow_zero else 1
    try:
        values = tuple(int(v) for v in values)
        good = len(values) == n and all(v >= least for v in values)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(
            f"{name}: expected an integer >= {least} or a tuple of {n} of them, got {value!r}"
        )
    return values


def standardize_padding(padding, *, causal=False):
    """`"valid"`, `"same"` or, if allowed, `"causal"`."""
    padding = str(padding).lower()
    allowed = ("valid", "same", "causal") if causal else ("valid", "same")
    if padding not in allowed:
        raise ValueError(f"padding: expected one of {allowed}, got {padding!r}")
    return padding


def positive_int(layer, name, value):
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(
            f"{type(layer).__name__}: `{name}` must be a positive integer, got {value!r}"
        )
    return value
