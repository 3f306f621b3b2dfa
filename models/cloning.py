"""clone_model: the same architecture with new layers."""

from __future__ import annotations

from hornbeam import backend
from hornbeam.backend import tree
from hornbeam.layers.core.input_layer import Input, InputLayer
from hornbeam.layers.layer import Layer
from hornbeam.models.functional import Functional, _like_functional
from hornbeam.models.sequential import Sequential


def clone_model(
    model, input_tensors=None, clone_function=None, call_function=None, recursive=False, **kwargs
):
    """A model of the same architecture with new layers, hence new weights.

    Args:
        model: functional or Sequential model, or any with `get_config()`.
        input_tensors: symbolic tensors to build on; new inputs by default.
        clone_function: layer → layer to use in its place (not for inputs); by default a new layer
            with the same configuration.
        call_function: `(layer, *args, **kwargs)` → outputs, how the new layers are called.
        recursive: clone the layers of models inside one by one too.

    Raises:
        ValueError: arguments that do not fit the kind of model.

    Example:

    >>> import hornbeam as keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> keras.models.clone_model(model).count_params()
    3
    """
    if kwargs:
        raise ValueError(f"clone_model: unknown arguments {sorted(kwargs)}")
    if isinstance(model, Sequential):
        if call_function is not None:
            raise ValueError(
                "clone_model: `call_function` is for functional models; the layers of a Sequential "
                "are not called one by one"
            )
        clone = _cloner(clone_function, None, recursive)
        return _copy_compilation(model, _clone_sequential(model, clone, input_tensors))
    if isinstance(model, Functional):
        clone = _cloner(clone_function, call_function, recursive)
        return _copy_compilation(
            model, _clone_functional(model, clone, input_tensors, call_function)
        )
    if clone_function is not None or input_tensors is not None or call_function is not None:
        raise ValueError(
            "clone_model: `clone_function`, `call_function` and `input_tensors` are for functional "
            f"and Sequential models, got a {type(model).__name__}"
        )
    return type(model).from_config(model.get_config())


def _cloner(clone_function, call_function, recursive):
    """Operation → its copy; equal operations get the same copy."""
    copies = {}

    def copy(operation):
        if isinstance(operation, InputLayer) or not isinstance(operation, Layer):
            return operation
        if recursive and isinstance(operation, Sequential):
            return clone_model(operation, clone_function=clone_function, recursive=True)
        if recursive and isinstance(operation, Functional):
            return clone_model(
                operation,
                clone_function=clone_function,
                call_function=call_function,
                recursive=True,
            )
        if clone_function is not None:
            return clone_function(operation)
        return type(operation).from_config(operation.get_config())

    def cached(operation):
        if id(operation) not in copies:
            copies[id(operation)] = copy(operation)
        return copies[id(operation)]

    return cached


def _clone_sequential(model, clone, input_tensors):
    layers = [clone(layer) for layer in model.layers]
    first = model._layers[0] if model._layers else None
    if input_tensors is not None:
        flat = tree.flatten(input_tensors)
        if len(flat) != 1 or not isinstance(flat[0], backend.KerasTensor):
            raise ValueError(
                f"clone_model: `input_tensors` must be one KerasTensor, got {input_tensors}"
            )
        layers.insert(0, Input(tensor=flat[0], name=first.name if first else None))
    elif isinstance(first, InputLayer):
        shape, dtype = first.batch_shape, first.dtype
        layers.insert(0, Input(batch_shape=shape, dtype=dtype, name=first.name))
    return Sequential(layers, name=model.name, trainable=model.trainable)


def _clone_functional(model, clone, input_tensors, call_function):
    if input_tensors is None:
        input_tensors = tree.map_structure(
            lambda x: Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
        )
    else:
        for x in tree.flatten(input_tensors):
            if not isinstance(x, backend.KerasTensor):
                raise ValueError(f"clone_model: `input_tensors` must be KerasTensors, got {x!r}")
        try:
            tree.assert_same_structure(input_tensors, model.input)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"clone_model: `input_tensors` must have the structure {model.input}, "
                f"got {input_tensors}"
            ) from error
    call = call_function or (lambda layer, *args, **kwargs: layer(*args, **kwargs))
    outputs = model._run(
        tree.flatten(input_tensors),
        lambda operation, *args, **kwargs: call(clone(operation), *args, **kwargs),
    )
    cls = type(model) if _like_functional(type(model)) else Functional
    return cls(input_tensors, outputs, name=model.name)


def _copy_compilation(model, clone):
    if getattr(model, "compiled", False):
        clone.compile_from_config(model.get_compile_config())
    return clone
