"""`save_model`, `load_model`, `save_weights`, `load_weights`: which file is which."""

from __future__ import annotations

import os
import warnings

from hornbeam.saving import object_registration

_LEGACY = (".h5", ".hdf5")


def save_model(model, filepath, overwrite=True, zipped=None, **kwargs):
    """Saves a model with its weights and the state of its optimizer.

    The file appears whole, or stays as it was: it is written beside the target, brought to disk,
    and renamed.

    Args:
        model: the model.
        filepath: path that ends in `.keras`, or `.h5` for the older format.
        overwrite: replace a file that is there; False makes that an error.
        zipped: None or True; folders are not written.

    Raises:
        OSError: the disk refused; the message says what was needed and what is free.
        TypeError, NotImplementedError: something in the model cannot describe itself.

    Example:

    >>> import os, tempfile
    >>> import hornbeam as keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> path = os.path.join(tempfile.mkdtemp(), "m.keras")
    >>> model.save(path)
    >>> keras.saving.load_model(path).count_params()
    3
    """
    path = os.fspath(filepath)
    kwargs.pop("include_optimizer", None)
    if kwargs:
        raise ValueError(f"save_model: unknown arguments {sorted(kwargs)}")
    if zipped is False:
        raise ValueError("save_model: zipped=False (a folder) is not supported; use zipped=None")
    if path.endswith(".weights.h5"):
        raise ValueError(f"save_model: {path!r} names a weights file; use `save_weights`")
    _check_overwrite(path, overwrite)
    if not model.built:
        warnings.warn(
            f"save_model: '{model.name}' is not built, so it has few or no weights yet; call it on "
            "data, or begin it with an `Input`, before it is saved",
            stacklevel=3,
        )
    if path.endswith(".keras"):
        from hornbeam.saving import keras_file

        keras_file.save(model, path)
    elif path.endswith(_LEGACY):
        from hornbeam.saving import legacy_file

        legacy_file.save(model, path)
    else:
        raise ValueError(
            f"save_model: expected a path that ends in `.keras` (or `.h5`, the older format), got "
            f"{path!r}"
        )


def load_model(filepath, custom_objects=None, compile=True, safe_mode=True, limits=None):
    """Loads a model that `save_model`, or Keras, wrote.

    A file is data: classes come from the registry and from `custom_objects`, never from a module
    that the file names; stored Python code is refused whatever `safe_mode` is.

    Args:
        filepath: a `.keras` or `.h5` file.
        custom_objects: dictionary from names to your classes and functions.
        compile: compile the model as it was, with the state of the optimizer.
        safe_mode: accepted as in Keras.
        limits: `saving.Limits`, for files that are rightly larger than the default allows.

    Returns:
        The model.

    Raises:
        SavedFileError: (a `ValueError`) a damaged or foreign file, or one that asks for what it must
            not have.
        TypeError: a class that is not known; the message lists those that are.
    """
    from hornbeam.saving import _files, _hdf5, keras_file, legacy_file

    path = os.fspath(filepath)
    limits = limits or _files.DEFAULT_LIMITS
    with _files.open_file(path) as file:
        load = legacy_file.load if _hdf5.is_hdf5(file) else keras_file.load
        with object_registration.CustomObjectScope(custom_objects or {}):
            return load(file, path, compile=compile, limits=limits)


def save_weights(model, filepath, overwrite=True, max_shard_size=None, **kwargs):
    """Saves the weights of a model, and the state of its optimizer, to a `.weights.h5` file.

    Args:
        model: the model.
        filepath: path that ends in `.weights.h5`.
        overwrite: replace a file that is there; False makes that an error.
        max_shard_size: must be None; weights are one file.

    Raises:
        OSError: the disk refused; an older file is still whole.
        ValueError: the model is not built, or the path has another ending.
    """
    path = os.fspath(filepath)
    if not path.endswith(".weights.h5"):
        raise ValueError(f"save_weights: expected a path that ends in `.weights.h5`, got {path!r}")
    if max_shard_size is not None or kwargs:
        raise ValueError(
            f"save_weights: expected max_shard_size=None and no other arguments, got "
            f"{max_shard_size!r} and {sorted(kwargs)}"
        )
    _check_overwrite(path, overwrite)
    if not model.built:
        raise ValueError(
            f"save_weights: '{model.name}' is not built, so it has no weights yet; call it on data, "
            "or begin it with an `Input`, first"
        )
    from hornbeam.saving import _hdf5, weights
    from hornbeam.utils.atomic import atomic_write

    with atomic_write(path, weights.size_of(model)) as file, _hdf5.create(file) as writer:
        weights.write(model, writer)


def load_weights(
    model, filepath, skip_mismatch=False, by_name=False, objects_to_skip=None, limits=None, **kwargs
):
    """Loads weights that `save_weights`, `save_model` or Keras wrote into a built model.

    Args:
        model: the model.
        filepath: a `.weights.h5`, `.keras` or older `.h5` file.
        skip_mismatch: leave out objects that do not fit, with a warning.
        by_name: match layers by name (older `.h5` files only).
        objects_to_skip: objects of the model to leave as they are.
        limits: `saving.Limits`, for files that are rightly larger than the default allows.

    Raises:
        ValueError: the file does not fit the model; nothing was changed then.
    """
    from hornbeam.saving import _files, _hdf5, keras_file, legacy_file, weights

    path = os.fspath(filepath)
    limits = limits or _files.DEFAULT_LIMITS
    if kwargs:
        raise ValueError(f"load_weights: unknown arguments {sorted(kwargs)}")
    with _files.open_file(path) as file:
        if not _hdf5.is_hdf5(file):
            _refuse_by_name(path, by_name)
            keras_file.load_weights(model, file, path, skip_mismatch, objects_to_skip, limits)
            return
        with _hdf5.open_tree(file, path, limits) as tree:
            if legacy_file.is_legacy(tree):
                legacy_file.load_weights(model, tree, skip_mismatch, by_name)
            else:
                _refuse_by_name(path, by_name)
                weights.read(model, tree, skip_mismatch, objects_to_skip)


def _refuse_by_name(path, by_name):
    if by_name:
        raise ValueError(
            f"load_weights: by_name=True needs the older HDF5 format; {path} knows no layer names"
        )


def _check_overwrite(path, overwrite):
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
