"""Keras 2's HDF5 files, as Keras 3 still writes them: whole models and weights, by layer name."""

from __future__ import annotations

import json
import warnings

from hornbeam import backend
from hornbeam.saving import _files, _hdf5, keras_file, serialization_lib
from hornbeam.saving import object_registration as registration
from hornbeam.saving._files import SavedFileError
from hornbeam.utils.atomic import atomic_write

_TOP = "top_level_model_weights"
_FUNCTIONAL = ("keras.src.models.functional", "Functional")


# --- writing ----------------------------------------------------------------------------------


def save(model, path):
    """Writes `model` to `path`."""
    config = serialization_lib.serialize_keras_object(model)
    if "layers" not in config["config"]:
        raise NotImplementedError(
            f"save: {type(model).__name__} '{model.name}' is neither Sequential nor Functional, and "
            "only these fit into an HDF5 file; use a path that ends in `.keras`"
        )
    training = config.pop("compile_config", None)
    texts = {
        "backend": "hornbeam",
        "keras_version": keras_file.KERAS_VERSION,
        "model_config": json.dumps(_old_form(config)),
    }
    if training:
        texts["training_config"] = json.dumps(_old_training(training))
    optimizer = model.optimizer if training else None
    size = sum(len(text) for text in texts.values()) + 65536
    variables = [*model.weights, *(optimizer.variables if optimizer is not None else [])]
    size += sum(keras_file.weights._nbytes(v) + 1024 for v in variables)
    with atomic_write(path, size) as file, _hdf5.create(file) as writer:
        for name, text in texts.items():
            writer.attribute("", name, text)
        _write_weights(model, writer)
        if optimizer is not None:
            _write_variables(writer, "optimizer_weights", optimizer.variables)


def _old_form(config):
    """A layer's or model's configuration without the keys that Keras 3 added."""
    inner = dict(config["config"])
    if isinstance(inner.get("layers"), (list, tuple)):
        inner["layers"] = [_old_form(layer) for layer in inner["layers"]]
    old = {"class_name": config["registered_name"] or config["class_name"], "config": inner}
    return old | {key: config[key] for key in ("name", "inbound_nodes") if key in config}


def _old_training(config):
    def old(x):
        if isinstance(x, (list, tuple)):
            return [old(y) for y in x]
        if not isinstance(x, dict):
            return x
        if "class_name" not in x or "config" not in x:
            return {key: old(value) for key, value in x.items()}
        if x["class_name"] == "function":
            return x["config"]
        return {"class_name": x.get("registered_name") or x["class_name"], "config": x["config"]}

    config = dict(config)
    optimizer = config.pop("optimizer", None)
    return old(config) | {"optimizer_config": old(optimizer)}


def _weights_of(layer):
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _write_weights(model, writer):
    group = "model_weights"
    writer.group(group)
    writer.attribute(group, "layer_names", [layer.name for layer in model.layers])
    writer.attribute(group, "backend", "hornbeam")
    writer.attribute(group, "keras_version", keras_file.KERAS_VERSION)
    for layer in sorted(model.layers, key=lambda layer: layer.name):
        _write_variables(writer, f"{group}/{layer.name}", _weights_of(layer))
    _write_variables(writer, f"{group}/{_TOP}", model._own_variables())


def _write_variables(writer, group, variables):
    names, used = [], set()
    for variable in variables:
        name = variable.path or variable.name
        while name in used:
            name += "_"
        used.add(name)
        names.append(name)
    writer.group(group)
    writer.attribute(group, "weight_names", names)
    for name, variable in zip(names, variables, strict=True):
        value = backend.convert_to_numpy(variable.value)
        writer.array(f"{group}/{name}", value, variable.dtype)


# --- reading ----------------------------------------------------------------------------------


def load(file, path, compile=True, limits=_files.DEFAULT_LIMITS):
    """The model in an open HDF5 file."""
    with _hdf5.open_tree(file, path, limits) as tree:
        text = tree.attribute("", "model_config")
        if not isinstance(text, str):
            raise SavedFileError(
                f"{path}: holds no model, only weights perhaps; build the model and call "
                "`load_weights`"
            )
        metadata = {"keras_version": tree.attribute("", "keras_version")}
        config = _files.parse_json(text, f"{path}: model_config", limits)
        training = tree.attribute("", "training_config") if compile else None
        if training is not None:
            training = _files.parse_json(training, f"{path}: training_config", limits)
        with keras_file.errors_named(path, metadata), keras_file.variables_within(tree):
            model = serialization_lib.deserialize_keras_object(_new_form(config))
            keras_file.check_is_model(model)
        _read_weights(model, tree, "model_weights")
        if training is not None:
            with keras_file.errors_named(path, metadata), keras_file.variables_within(tree):
                model.compile_from_config(_new_training(training))
            if "optimizer_weights" in tree.groups and model.optimizer is not None:
                _read_optimizer(model.optimizer, tree)
    return model


def load_weights(model, tree, skip_mismatch=False, by_name=False):
    """Sets the weights of `model` from the `Tree` of a file in this format."""
    group = "model_weights" if "model_weights" in tree.groups else ""
    _read_weights(model, tree, group, skip_mismatch, by_name)


def is_legacy(tree):
    return "model_weights" in tree.groups or tree.texts("", "layer_names") is not None


def _read_weights(model, tree, group, skip_mismatch=False, by_name=False):
    """Sets weights by the order of the layers that have some, or by the names of all layers."""
    names = tree.texts(group, "layer_names") if group in tree.groups else None
    if names is None:
        raise SavedFileError(f"{tree.path}: the list of layers, 'layer_names', is missing")
    stored = {name: _arrays(tree, f"{group}/{name}".lstrip("/")) for name in names}
    if by_name:
        pairs = [(layer, layer.name) for layer in model.layers if layer.name in stored]
    else:
        layers = [layer for layer in model.layers if _weights_of(layer)]
        filled = [name for name in names if stored[name]]
        if len(layers) != len(filled):
            raise ValueError(
                f"{tree.path}: holds weights for {len(filled)} layers {filled[:20]}, the model "
                f"'{model.name}' has {len(layers)} layers with weights "
                f"{[layer.name for layer in layers][:20]}; build the model that was saved"
            )
        pairs = list(zip(layers, filled, strict=True))
    plan = [(f"layer '{layer.name}'", _weights_of(layer), stored[name]) for layer, name in pairs]
    top = f"{group}/{_TOP}".lstrip("/")
    if top in tree.groups:
        plan.append((f"model '{model.name}'", model._own_variables(), _arrays(tree, top)))
    problems, good = [], []
    for who, variables, arrays in plan:
        problem = _difference(who, variables, arrays)
        if problem:
            problems.append(problem)
        else:
            good.append((variables, arrays))
    if problems:
        text = f"{tree.path}: the weights do not fit the model:\n  " + "\n  ".join(problems[:20])
        if not skip_mismatch:
            raise ValueError(f"{text}\nBuild the model that was saved, or pass skip_mismatch=True")
        warnings.warn(text, stacklevel=4)
    for variables, arrays in good:
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array.read())


def _difference(who, variables, arrays):
    if len(variables) != len(arrays):
        return f"{who}: expected {len(variables)} arrays, got {len(arrays)}"
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape:
            return (
                f"{who}: expected shape {tuple(variable.shape)} for '{variable.path}', got "
                f"{array.shape}"
            )
    return None


def _arrays(tree, group):
    if group not in tree.groups:
        raise SavedFileError(f"{tree.path}: group '{group}' is missing")
    names = tree.texts(group, "weight_names") or []
    missing = [name for name in names if f"{group}/{name}" not in tree.arrays]
    if missing:
        raise SavedFileError(f"{tree.path}: array '{missing[0]}' of group '{group}' is missing")
    return [tree.arrays[f"{group}/{name}"] for name in names]


def _read_optimizer(optimizer, tree):
    arrays = _arrays(tree, "optimizer_weights")
    problem = _difference(optimizer.name, optimizer.variables, arrays)
    if problem is None:
        for variable, array in zip(optimizer.variables, arrays, strict=True):
            variable.assign(array.read())
    elif len(arrays) > 2:  # else it was saved before its first step
        warnings.warn(
            f"{tree.path}: the state of the optimizer was not loaded, training starts anew: "
            f"{problem}",
            stacklevel=4,
        )


# --- configurations of older versions ---------------------------------------------------------


def _new_form(entry):
    """A layer's or model's configuration with the home of its class."""
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise ValueError(f"expected the configuration of a layer, got {entry!r}")
    name, config = entry["class_name"], entry.get("config")
    if isinstance(config, list):  # a Sequential model of Keras 1 and early 2
        config = {"name": "sequential", "layers": config}
    config = dict(config or {})
    if isinstance(config.get("layers"), list):
        config["layers"] = _with_input([_new_form(layer) for layer in config["layers"]], name)
    for key in ("layer", "cell", "backward_layer"):
        if isinstance(config.get(key), dict) and "module" not in config[key]:
            config[key] = _new_form(config[key])
    shape = config.pop("batch_input_shape", None)
    if name == "InputLayer":
        if shape is not None:
            config["batch_shape"] = shape
    elif shape is not None:
        entry = {**entry, "batch_input_shape": shape}
    new = {**entry, "config": config, "registered_name": None}
    if registration.get_registered_object(name) is not None:
        new |= {"module": None, "registered_name": name}
    elif name in ("Functional", "Model"):
        new |= {"module": _FUNCTIONAL[0], "class_name": _FUNCTIONAL[1]}
    elif "module" not in entry:
        new["module"] = _home(name, config)
    return new


def _with_input(layers, kind):
    """Older Sequential models kept the input's shape in their first layer."""
    first = layers[0].pop("batch_input_shape", None) if layers else None
    for layer in layers:
        layer.pop("batch_input_shape", None)
    if kind == "Sequential" and first is not None and layers[0]["class_name"] != "InputLayer":
        dtype = layers[0]["config"].get("dtype")
        config = {"batch_shape": first, "dtype": dtype if isinstance(dtype, str) else None}
        if layers[0]["class_name"] == "Embedding":
            config["dtype"] = None
        entry = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None}
        layers.insert(0, entry | {"config": config})
    return layers


def _home(name, config):
    if name == "Sequential":
        return "keras"
    if "trainable" not in config and "dtype" not in config:
        if registration.builtin_object("keras.src.ops.numpy", name) is not None:
            return "keras.src.ops.numpy"  # a call of an op, which has a name and nothing else
    return "keras.layers"


def _new_training(config):
    def new(x, module):
        if isinstance(x, (list, tuple)):
            return [new(y, module) for y in x]
        if not isinstance(x, dict):
            return x
        if "class_name" in x and "config" in x:
            if "module" in x:
                return x
            name = x["class_name"]
            if registration.get_registered_object(name) is not None:
                return {**x, "module": None, "registered_name": name}
            return {**x, "module": module, "registered_name": None}
        return {key: new(value, module) for key, value in x.items()}

    config = dict(config)
    optimizer = config.pop("optimizer_config", None)
    if isinstance(optimizer, dict) and isinstance(optimizer.get("config"), dict):
        inner = dict(optimizer["config"])
        if "lr" in inner:
            inner["learning_rate"] = inner.pop("lr")
        if isinstance(inner.get("learning_rate"), dict):
            inner["learning_rate"] = new(inner["learning_rate"], "keras.optimizers.schedules")
        for key in ("decay", "is_legacy_optimizer", "jit_compile"):
            inner.pop(key, None)
        optimizer = new({**optimizer, "config": inner}, "keras.optimizers")
    homes = {
        "loss": "keras.losses",
        "metrics": "keras.metrics",
        "weighted_metrics": "keras.metrics",
    }
    found = {key: new(value, homes.get(key)) for key, value in config.items()}
    found.pop("sample_weight_mode", None)
    return found | {"optimizer": optimizer or "rmsprop"}
