"""Real Keras reads a folder of saved models and compares what they predict.

    pip install keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 h5py
    KERAS_BACKEND=jax python tests/saving/check_with_keras.py FOLDER

Every `NAME.keras`, `NAME.h5` and `NAME.weights.h5` in FOLDER is loaded, and needs a `NAME.npz`:

- `in:KEY` the inputs (one alone, or by input name), `out:KEY` the predictions (`out:0` for a single
  output, `out:0`, `out:1` … for a list, else by name): required;
- `weights`: the elements of `get_weights()` in order, as one flat array: optional;
- `optimizer`: the same for `optimizer.variables` (not for weights files): optional;
- `target:KEY` with `next:loss` and `next:weights`: the loss and the weights after one more
  `train_on_batch` on these data, which tell whether the optimizer's state came back: optional.

A weights file also needs its architecture: `NAME.json`, either `model.to_json()` or
`{"fixture": "mlp"}`, a model of `fixtures/architectures.py`; a NAME from there needs no JSON.

Prints a line per file. Exit code 0: every file was read and agrees; 1: some did not; 2: no file.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "fixtures"))

import architectures  # noqa: E402

RTOL, ATOL = 1e-5, 1e-6


def flat(arrays):
    arrays = [np.ravel(np.asarray(a, "float32")) for a in arrays]
    return np.concatenate(arrays) if arrays else np.zeros(0, "float32")


def named_outputs(out):
    if isinstance(out, dict):
        return {k: np.asarray(v) for k, v in out.items()}
    if isinstance(out, list | tuple):
        return {str(i): np.asarray(v) for i, v in enumerate(out)}
    return {"0": np.asarray(out)}


def compare(what, got, expected):
    if np.shape(got) != np.shape(expected):
        raise AssertionError(f"{what}: shape {np.shape(got)}, expected {np.shape(expected)}")
    np.testing.assert_allclose(got, expected, rtol=RTOL, atol=ATOL, err_msg=what)


def architecture(path, name):
    recipe = path.with_name(f"{name}.json")
    if recipe.exists():
        text = recipe.read_text()
        fixture = json.loads(text).get("fixture")
        return (
            architectures.build(keras, fixture) if fixture else keras.models.model_from_json(text)
        )
    if name in architectures.NAMES:
        return architectures.build(keras, name)
    raise FileNotFoundError(f"{recipe.name}: a weights file needs its architecture")


def load_legacy(path, name):
    """A whole model from an `.h5` file, with the optimizer state that Keras itself leaves behind.

    Keras 3.15.1 writes the state and does not restore it: it builds the optimizer for the variables
    that the model owns outside of its layers. It also cannot read the loss "mse" back from the
    training configuration it wrote. Both are done here in its place, from what the file holds.
    """
    try:
        model = keras.models.load_model(path)
    except ValueError:
        if name not in architectures.NAMES:
            raise
        model = keras.models.load_model(path, compile=False)
        model.compile(**architectures.compile_arguments(keras, name))
    with h5py.File(path) as file:
        if "optimizer_weights" in file:
            group = file["optimizer_weights"]
            values = [group[path][()] for path in group.attrs["weight_names"]]
            model.compile(
                optimizer=model.optimizer.from_config(model.optimizer.get_config()),
                loss=model._compile_config.config["loss"],
                loss_weights=model._compile_config.config["loss_weights"],
            )
            model.optimizer.build(model.trainable_variables)
            if len(values) != len(model.optimizer.variables):
                raise AssertionError(
                    f"optimizer_weights: {len(values)} arrays, "
                    f"expected {len(model.optimizer.variables)}"
                )
            model.optimizer.set_weights(values)
    return model


def check(path):
    """Load `path`, compare all that its npz holds; returns the names of the things compared."""
    name = path.name.split(".")[0]
    expected = np.load(path.with_name(f"{name}.npz"))
    groups = {kind: {} for kind in ("in", "out", "target")}
    for key in expected.files:
        kind, _, rest = key.partition(":")
        if kind in groups:
            groups[kind][rest] = expected[key]
    if not groups["in"] or not groups["out"]:
        raise AssertionError(f"{name}.npz: holds no inputs or no predictions")

    weights_only = path.name.endswith(".weights.h5")
    if weights_only:
        model = architecture(path, name)
        model.load_weights(path)
    elif path.suffix == ".h5":
        model = load_legacy(path, name)
    else:
        model = keras.models.load_model(path)

    x = architectures.as_arguments(groups["in"])
    outputs = named_outputs(model.predict(x, verbose=0))
    if outputs.keys() != groups["out"].keys():
        raise AssertionError(f"outputs {sorted(outputs)}, expected {sorted(groups['out'])}")
    for key, value in groups["out"].items():
        compare(f"prediction {key}", outputs[key], value)
    done = ["predictions"]
    if "weights" in expected:
        compare("weights", flat(model.get_weights()), expected["weights"])
        done.append("weights")
    if weights_only:
        return done
    if "optimizer" in expected:
        compare("optimizer", flat(model.optimizer.variables), expected["optimizer"])
        done.append("optimizer")
    if "next:loss" in expected:
        loss = model.train_on_batch(x, architectures.as_arguments(groups["target"]))
        compare("next loss", loss[0] if isinstance(loss, list) else loss, expected["next:loss"])
        compare("next weights", flat(model.get_weights()), expected["next:weights"])
        done.append("one more step")
    return done


def main(folder):
    files = sorted(p for p in folder.iterdir() if p.suffix in (".keras", ".h5"))
    failed = 0
    for path in files:
        keras.utils.clear_session()
        try:
            print(f"ok    {path.name}: {', '.join(check(path))}")
        except Exception as error:
            failed += 1
            print(f"FAIL  {path.name}: {type(error).__name__}: {error}")
    print(f"{len(files)} files, {failed} failed")
    return 2 if not files else 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(pathlib.Path(sys.argv[1])))
