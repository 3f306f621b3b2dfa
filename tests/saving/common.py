"""The models of the fixtures, trained a little, and the record of what they then give."""

import pathlib
import sys

import numpy as np

import hornbeam as keras

FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"
sys.path.insert(0, str(FIXTURES))

import architectures  # noqa: E402


def flat(arrays):
    arrays = [np.ravel(np.asarray(a, "float32")) for a in arrays]
    return np.concatenate(arrays) if arrays else np.zeros(0, "float32")


def data(name):
    """Inputs and targets as `fit` takes them."""
    return tuple(architectures.as_arguments(arrays) for arrays in architectures.data(name))


def outputs(model, x):
    out = model.predict(x, verbose=0)
    if isinstance(out, dict):
        return out
    return {str(i): o for i, o in enumerate(out if isinstance(out, list) else [out])}


def trained(name, steps=2):
    keras.utils.set_random_seed(len(name))
    model = architectures.build(keras, name)
    model.compile(**architectures.compile_arguments(keras, name))
    x, y = data(name)
    for _ in range(steps):
        model.train_on_batch(x, y)
    return model


def optimizer_state(model):
    return flat(v.numpy() for v in model.optimizer.variables)


def write_all(folder, name):
    """`name` in the three formats with the record that `check_with_keras.py` reads."""
    model = trained(name)
    inputs, targets = architectures.data(name)
    model.save_weights(folder / f"{name}.weights.h5")
    write(folder, name, model, inputs, targets, name in architectures.DETERMINISTIC)


def write(folder, name, model, inputs, targets, deterministic=True):
    """A compiled model as `.keras` and `.h5`, with its record."""
    x, y = architectures.as_arguments(inputs), architectures.as_arguments(targets)
    record = {f"in:{k}": v for k, v in inputs.items()}
    record |= {f"target:{k}": v for k, v in targets.items()}
    record |= {f"out:{k}": v for k, v in outputs(model, x).items()}
    record |= {"weights": flat(model.get_weights()), "optimizer": optimizer_state(model)}
    model.save(folder / f"{name}.keras")
    model.save(folder / f"{name}.h5")
    if deterministic:
        again = keras.models.load_model(folder / f"{name}.keras")
        loss = again.train_on_batch(x, y)
        record["next:loss"] = np.asarray(loss[0] if isinstance(loss, list) else loss)
        record["next:weights"] = flat(again.get_weights())
    np.savez(folder / f"{name}.npz", **record)
