"""Whole models as `.keras` files: a zip of `metadata.json`, `config.json`, `model.weights.h5`."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import tempfile

from hornbeam.backend import scope
from hornbeam.saving import _files, _hdf5, serialization_lib, weights
from hornbeam.saving._files import SavedFileError
from hornbeam.saving._zip import ArchiveWriter
from hornbeam.utils.atomic import atomic_write
from hornbeam.version import __version__

#: The version of Keras whose format is written.
KERAS_VERSION = "3.15.1"
METADATA, CONFIG, WEIGHTS, ASSETS = "metadata.json", "config.json", "model.weights.h5", "assets"


def save(model, path):
    """Writes `model` to `path`: configuration, state, optimizer."""
    with serialization_lib.object_sharing_scope():
        config = serialization_lib.serialize_keras_object(model)
    config = _dump(config, model)
    now = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    metadata = {"keras_version": KERAS_VERSION, "date_saved": now, "hornbeam_version": __version__}
    size = weights.size_of(model) + len(config) + 4096
    with atomic_write(path, size) as file:
        archive = ArchiveWriter(file)
        archive.add(METADATA, json.dumps(metadata).encode())
        archive.add(CONFIG, config)
        with archive.open(WEIGHTS) as out, _hdf5.create(out) as writer:
            weights.write(model, writer)
        _add_assets(model, archive)
        archive.close()


def _dump(config, model):
    try:
        return json.dumps(config).encode()
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"save: the configuration of {type(model).__name__} '{model.name}' is not plain data: "
            f"{error}; `get_config()` must return numbers, strings, lists and dictionaries, or pass "
            "other objects through `saving.serialize_keras_object`"
        ) from error


def open_archive(file, path, limits):
    return _files.Archive(file, path, (METADATA, CONFIG, WEIGHTS), ASSETS, limits)


def load(file, path, compile=True, limits=_files.DEFAULT_LIMITS):
    """The model in an open `.keras` file."""
    archive = open_archive(file, path, limits)
    metadata = {}
    if METADATA in archive:
        text = archive.read(METADATA, 1 << 20)
        metadata = _files.parse_json(text, f"{path}: {METADATA}", limits)
    text = archive.read(CONFIG, limits.json_bytes)
    config = _files.parse_json(text, f"{path}: {CONFIG}", limits)
    if not compile:
        config.pop("compile_config", None)
    with archive.open(WEIGHTS) as source, _hdf5.open_tree(source, path, limits) as tree:
        with errors_named(path, metadata), variables_within(tree):
            with serialization_lib.object_sharing_scope():
                model = serialization_lib.deserialize_keras_object(config)
            check_is_model(model)
        weights.read(model, tree)
    _load_assets(model, archive)
    return model


def load_weights(model, file, path, skip_mismatch, objects_to_skip, limits):
    """Sets the weights of `model` from an open `.keras` file."""
    archive = open_archive(file, path, limits)
    with archive.open(WEIGHTS) as source, _hdf5.open_tree(source, path, limits) as tree:
        weights.read(model, tree, skip_mismatch, objects_to_skip)


def check_is_model(model):
    if not hasattr(model, "load_weights"):
        raise TypeError(f"expected the configuration of a model, got that of {model!r}")


@contextlib.contextmanager
def errors_named(path, metadata):
    """Names the file, and who wrote it, in every error about a configuration."""
    writer = "an unknown version of Keras"
    for key, name in (("keras_version", "Keras"), ("hornbeam_version", "hornbeam")):
        if isinstance(metadata.get(key), str):
            writer = f"{name} {metadata[key][:40]}"
    where = f"load_model: {path}, written by {writer}"
    try:
        yield
    except SavedFileError:
        raise
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from error
    except NotImplementedError as error:
        raise NotImplementedError(f"{where}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    except RecursionError:
        raise SavedFileError(f"{where}: objects too deep inside each other") from None
    except (LookupError, AttributeError, AssertionError, ArithmeticError, RuntimeError) as error:
        raise SavedFileError(
            f"{where}: the configuration could not be understood: {type(error).__name__}: {error}"
        ) from error


@contextlib.contextmanager
def variables_within(tree):
    """Inside, variables may not need much more memory than the file has values for.

    A configuration alone can ask for a layer of a terabyte; the weights beside it cannot.
    """
    budget = (256 << 20) + 8 * tree.nbytes
    left = budget

    def check(path, shape, nbytes):
        nonlocal left
        left -= nbytes
        if left < 0:
            raise SavedFileError(
                f"{tree.path}: the configuration asks for variable '{path}' of shape {shape}, which "
                f"with those before makes more than {budget} bytes; the file holds values for "
                f"{tree.nbytes}"
            )

    with scope.checking_variables(check):
        yield


# --- assets -----------------------------------------------------------------------------------


def _add_assets(model, archive):
    """Adds the files that layers keep beside their weights, such as vocabularies."""
    for path, layer in weights.walk(model):
        if not hasattr(layer, "save_assets"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            for name in sorted(os.listdir(folder)):
                _files.check_name(name, "asset")
                with open(os.path.join(folder, name), "rb") as source:
                    with archive.open("/".join(filter(None, (ASSETS, path, name)))) as out:
                        while chunk := source.read(1 << 20):
                            out.write(chunk)


def _load_assets(model, archive):
    for path, layer in weights.walk(model):
        if not hasattr(layer, "load_assets"):
            continue
        prefix = "/".join(filter(None, (ASSETS, path))) + "/"
        with tempfile.TemporaryDirectory() as folder:
            for name in archive.members:
                rest = name[len(prefix) :]
                if name.startswith(prefix) and "/" not in rest:
                    with open(os.path.join(folder, rest), "xb") as out:
                        archive.copy(name, out)
            if os.listdir(folder):
                layer.load_assets(folder)
