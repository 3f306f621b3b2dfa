"""A configuration is data: whatever it names or asks for, nothing is imported, run or allocated."""

import builtins
import copy
import json
import os
import re
import socket
import subprocess
import sys

import hostile
import numpy as np
import pytest

import hornbeam as keras
from hornbeam import layers

GADGETS = [  # H04, H05
    {"module": "os", "class_name": "system", "config": "touch owned", "registered_name": None},
    {"module": "builtins", "class_name": "eval", "config": "1", "registered_name": "eval"},
    {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", "owned"]}},
    {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "function"},
    {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
    {"module": "keras.utils", "class_name": "function", "config": "get_file"},
    {"module": "keras.src.utils.file_utils", "class_name": "function", "config": "get_file"},
    {"module": "keras.saving", "class_name": "function", "config": "load_model"},
    {"module": "hornbeam.saving", "class_name": "function", "config": "load_model"},
    {"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"},
    {"module": "keras.src.backend", "class_name": "Variable", "config": {"initializer": 1}},
    {"module": "keras.utils", "class_name": "TorchModuleWrapper", "config": {"module": "gASV"}},
    {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "gASV"}},
    {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/etc"}},
    {"module": "keras.layers", "class_name": "JaxLayer", "config": {"call_fn": "x"}},
    {"module": "numpy", "class_name": "load", "config": {"file": "/etc/passwd"}},
    {"class_name": "__lambda__", "config": {"value": "4wAAAA=="}},
    {"module": ["os"], "class_name": {"a": 1}, "config": [1], "registered_name": 7},
]  # fmt: skip

#: Where a configuration may name an object, from the configuration of `mlp`.
PLACES = {
    "model": [],
    "layer": ["config", "layers", 1],
    "activation": ["config", "layers", 1, "config", "activation"],
    "initializer": ["config", "layers", 1, "config", "kernel_initializer"],
    "regularizer": ["config", "layers", 1, "config", "kernel_regularizer"],
    "constraint": ["config", "layers", 1, "config", "kernel_constraint"],
    "dtype": ["config", "layers", 1, "config", "dtype"],
    "build": ["config", "layers", 1, "build_config", "input_shape"],
    "optimizer": ["compile_config", "optimizer"],
    "rate": ["compile_config", "optimizer", "config", "learning_rate"],
    "loss": ["compile_config", "loss"],
    "metric": ["compile_config", "metrics", 0],
}
ERRORS = (ValueError, TypeError, NotImplementedError)


def put(config, place, value):
    if not place:
        return value
    config = copy.deepcopy(config)
    item = config
    for key in place[:-1]:
        item = item[key]
    item[place[-1]] = value
    return config


@pytest.fixture
def guarded(monkeypatch):
    """Nothing is imported, executed, started, connected, or opened but the file itself."""

    def forbid(name):
        def refuse(*args, **kwargs):
            raise AssertionError(f"{name} was called with {args}")

        return refuse

    for name in ("mlp.keras", "mlp.h5"):  # what loading itself needs is imported then
        keras.models.load_model(hostile.FIXTURES / name)
    monkeypatch.setattr(os, "system", forbid("os.system"))
    monkeypatch.setattr(subprocess, "Popen", forbid("Popen"))
    monkeypatch.setattr(builtins, "eval", forbid("eval"))
    monkeypatch.setattr(builtins, "exec", forbid("exec"))
    monkeypatch.setattr(socket, "socket", forbid("socket"))
    opened = []
    real_open = builtins.open

    def watched(path, *args, **kwargs):
        opened.append(path)
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", watched)
    before = set(sys.modules)
    yield opened
    monkeypatch.undo()
    assert set(sys.modules) == before


def write(path, config):
    data = json.dumps(config).encode() if not isinstance(config, bytes) else config
    hostile.write_zip(path, hostile.replaced(config=data))


def load_keras(tmp_path, config):
    path = tmp_path / "m.keras"
    write(path, config)
    return keras.models.load_model(path)


def load_h5(tmp_path, config):
    """The same configuration in the older format."""
    import h5py

    path = tmp_path / "m.h5"
    path.write_bytes((hostile.FIXTURES / "mlp.h5").read_bytes())
    with h5py.File(path, "r+") as f:
        compiled = config.pop("compile_config", None) if isinstance(config, dict) else None
        f.attrs["model_config"] = json.dumps(config)
        if compiled is not None:
            optimizer = compiled.pop("optimizer")
            f.attrs["training_config"] = json.dumps({**compiled, "optimizer_config": optimizer})
    return keras.models.load_model(path)


def from_json(tmp_path, config):
    return keras.models.model_from_json(json.dumps(config))


def from_config(tmp_path, config):
    return keras.Sequential.from_config(config.get("config", config))


def deserialize(tmp_path, config):
    return keras.saving.deserialize_keras_object(config)


ENTRIES = [load_keras, load_h5, from_json, from_config, deserialize]


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("place", PLACES)
def test_names_of_code(tmp_path, monkeypatch, guarded, place, entry):
    monkeypatch.chdir(tmp_path)
    if entry is from_config and place in ("model", "optimizer", "rate", "loss", "metric"):
        pytest.skip("not part of the configuration of the class")
    for gadget in GADGETS:
        config = put(hostile.config_of(), PLACES[place], gadget)
        try:
            found = entry(tmp_path, config)
        except ERRORS:
            pass
        else:  # where a plain dictionary is as good as any other, nothing was made of it
            assert isinstance(found, (keras.Model, dict)), (gadget, found)
        assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("entry", [load_keras, load_h5, from_json, deserialize])
def test_lambda_layers(tmp_path, guarded, entry):  # H01, H02, H03, H06
    import base64
    import marshal

    def payload(x):
        open("/tmp/owned", "w")
        return x

    code = base64.b64encode(marshal.dumps(payload.__code__)).decode()
    for function in (
        {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}},
        [code, None, None],
        code,
        "os.system",
    ):
        config = hostile.config_of()
        config["config"]["layers"][1] = {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": {"name": "l", "trainable": True, "function": function, "arguments": {}},
            "registered_name": None,
        }
        with pytest.raises(ERRORS, match="(?i)lambda"):
            entry(tmp_path, config)


def test_the_caller_may_give_the_function(tmp_path):
    def halve(x):
        return x / 2

    model = keras.Sequential([layers.Input((4,)), layers.Lambda(halve), layers.Dense(2)])
    model.save(tmp_path / "m.keras")
    with pytest.raises(TypeError, match="unknown function 'halve'"):
        keras.models.load_model(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras", custom_objects={"halve": halve})
    x = np.ones((1, 4), "f4")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_an_unknown_class_says_what_is_known(tmp_path):
    config = hostile.config_of()
    config["config"]["layers"][1]["class_name"] = "Dens"
    with pytest.raises(TypeError) as info:
        load_keras(tmp_path, config)
    text = str(info.value)
    for part in (
        str(tmp_path / "m.keras"), "written by Keras 3.15.1", "unknown class 'Dens'",
        "closest: Dense", "custom_objects", "register_keras_serializable", "LSTM",
    ):  # fmt: skip
        assert part in text, text


def test_an_unknown_key_names_layer_key_and_writer(tmp_path):
    config = hostile.config_of()
    config["config"]["layers"][1]["config"]["groups"] = 1
    with pytest.raises(ERRORS, match=r"written by Keras 3\.15\.1: Dense 'hidden': .*groups"):
        load_keras(tmp_path, config)


RESOURCES = {  # H37: what the file's own weights contradict
    "units": lambda c: c["config"]["layers"][1]["config"].update(units=10**12),
    "input": lambda c: (
        c["config"]["layers"][0]["config"].update(batch_shape=[None, 10**12]),
        c["config"].pop("build_input_shape"),
        [layer.pop("build_config", None) for layer in c["config"]["layers"]],
    ),
    "build": lambda c: c["config"]["layers"][1]["build_config"].update(input_shape=[None, 10**12]),
    "embedding": lambda c: c["config"]["layers"].__setitem__(
        1,
        {
            "module": "keras.layers",
            "class_name": "Embedding",
            "config": {"name": "e", "input_dim": 10**11, "output_dim": 10},
            "registered_name": None,
        },
    ),
    "many": lambda c: c["config"]["layers"].extend(
        {
            "module": "keras.layers",
            "class_name": "Dense",
            "config": {"name": f"d{i}", "units": 4000},
            "registered_name": None,
        }
        for i in range(40)
    ),
}


@pytest.mark.parametrize("name", RESOURCES)
@pytest.mark.parametrize("entry", [load_keras, load_h5])
def test_more_memory_than_the_file_has_values_for(tmp_path, entry, name):
    config = hostile.config_of()
    if entry is load_h5 and name == "build":
        pytest.skip("the older format has no build_config")
    RESOURCES[name](config)
    with pytest.raises(keras.saving.SavedFileError, match="the configuration asks for variable"):
        entry(tmp_path, config)


@pytest.mark.parametrize("value", [-3, 0, 2.5, "8", None, [8], {}, float("nan"), 1e400, True, ""])
def test_wrong_numbers(tmp_path, value):  # H36
    config = hostile.config_of()
    config["config"]["layers"][1]["config"]["units"] = value
    with pytest.raises(ERRORS):
        load_keras(tmp_path, config)


@pytest.mark.filterwarnings("ignore")
def test_wrong_types_everywhere(tmp_path):  # H36
    """Every value of a configuration in turn is something else: a named error, or a model."""
    good = hostile.config_of("nested")
    data = hostile.members("nested")
    path = tmp_path / "m.keras"
    places = []

    def collect(item, place):
        places.append(place)
        pairs = item.items() if isinstance(item, dict) else enumerate(item)
        for key, value in pairs:
            if isinstance(value, (dict, list)):
                collect(value, (*place, key))
            else:
                places.append((*place, key))

    collect(good, ())
    rng = np.random.default_rng(0)
    loaded = 0
    for i in rng.permutation(len(places))[:100]:
        for junk in (None, 7, [], {}, "x/../y", [[None]]):
            data["config.json"] = json.dumps(put(good, places[i], junk)).encode()
            hostile.write_zip(path, data)
            try:
                keras.models.load_model(path)
                loaded += 1
            except ERRORS as error:
                assert str(path) in str(error), (places[i], junk, error)
    assert loaded < 600 * 0.7


def test_graphs_that_are_none(tmp_path):  # H36
    good = hostile.config_of("nested")
    data = hostile.members("nested")
    names = [layer["name"] for layer in good["config"]["layers"]]
    at = {name: i for i, name in enumerate(names)}

    def node(name):
        return ["config", "layers", at[name], "inbound_nodes", 0, "args"]

    tensor = {"class_name": "__keras_tensor__"}
    shape = {"shape": [None, 4], "dtype": "float32"}
    for place, value, text in (
        (
            node("tower"),
            [{**tensor, "config": {**shape, "keras_history": ["shared", 0, 0]}}],
            "loop",
        ),
        (node("tower"), [{**tensor, "config": {**shape, "keras_history": ["x", 0, 0]}}], "unknown"),
        (node("tower"), [{**tensor, "config": {**shape, "keras_history": ["left", 9, 0]}}], "loop"),
        (
            node("tower"),
            [{**tensor, "config": {**shape, "keras_history": ["left", 0, 9]}}],
            "index",
        ),
        (["config", "output_layers"], ["tower", 99, 0], "index"),
        (["config", "output_layers"], ["nothing", 0, 0], "unknown layer 'nothing'"),
        (["config", "input_layers"], [], "empty"),
    ):
        data["config.json"] = json.dumps(put(good, place, value)).encode()
        hostile.write_zip(tmp_path / "m.keras", data)
        with pytest.raises(ERRORS, match=text) as info:
            keras.models.load_model(tmp_path / "m.keras")
        assert re.search("m.keras", str(info.value))


def test_layers_in_the_worst_order(monkeypatch):
    """The time to put a graph together does not grow with the square of its size."""
    from hornbeam.models import functional_config

    x = y = keras.Input((2,))
    for _ in range(300):
        y = layers.ReLU()(y)
    model = keras.Model(x, y)
    config = model.get_config()
    config["layers"].reverse()
    calls = []
    real = functional_config._arguments
    monkeypatch.setattr(functional_config, "_arguments", lambda *a: (calls.append(1), real(*a))[1])
    again = keras.Model.from_config(config)
    assert again.count_params() == 0 and len(again.layers) == 301
    assert len(calls) < 700


def test_a_call_without_tensors_does_not_run(tmp_path):
    """An op of constants would run while the model is built, with sizes from the file."""
    good = hostile.config_of("nested")
    data = hostile.members("nested")
    good["config"]["layers"].append(
        {
            "module": "keras.src.ops.numpy",
            "class_name": "Full",
            "config": {"name": "full"},
            "registered_name": "Full",
            "name": "full",
            "inbound_nodes": [{"args": [[10**12], 1.0], "kwargs": {}}],
        }
    )
    data["config.json"] = json.dumps(good).encode()
    hostile.write_zip(tmp_path / "m.keras", data)
    with pytest.raises(ERRORS, match="without any tensor"):
        keras.models.load_model(tmp_path / "m.keras")


@pytest.mark.parametrize(
    "value",
    [
        {"class_name": "__numpy__", "config": {"value": [""], "dtype": "U1000000000"}},
        {"class_name": "__numpy__", "config": {"value": [1], "dtype": "object"}},
        {"class_name": "__tensor__", "config": {"value": [1], "dtype": "V1000000000"}},
        {"class_name": "__numpy__", "config": {"value": {"a": 1}, "dtype": "float32"}},
        {"class_name": "__slice__", "config": {}},
        {"class_name": "__bytes__", "config": {"value": 3}},
    ],
)
def test_special_values(tmp_path, value):
    config = hostile.config_of()
    config["config"]["layers"][1]["config"]["kernel_initializer"] = {
        "module": "keras.initializers",
        "class_name": "Constant",
        "config": {"value": value},
        "registered_name": None,
    }
    with pytest.raises(ERRORS, match="m.keras"):
        load_keras(tmp_path, config)


@pytest.mark.parametrize(
    "text", ['{"a":' * 10**5 + "1" + "}" * 10**5, '{"a": 1, "a": 2}', "[]", "", '{"a": "\\ud800"}']
)
def test_json_by_itself(text):  # H36
    with pytest.raises(keras.saving.SavedFileError, match="model_from_json"):
        keras.models.model_from_json(text)


@pytest.mark.parametrize("name", ["..", "a/b", "../../x", "a\\b", "", "n" * 100_000, "vars", "\0"])
def test_names_of_layers(tmp_path, name):  # H35
    """A name is never a path: it is refused, or does no harm in a file written afterwards."""
    config = hostile.config_of()
    config["config"]["layers"][1]["config"]["name"] = name
    (tmp_path / "in").mkdir()
    try:
        model = load_keras(tmp_path / "in", config)
    except ERRORS:
        return
    for ending in (".keras", ".h5", ".weights.h5"):
        save = model.save_weights if "weights" in ending else model.save
        try:
            save(tmp_path / "in" / f"again{ending}")
        except ERRORS:
            continue
    assert os.listdir(tmp_path) == ["in"]
    assert set(os.listdir(tmp_path / "in")) <= {
        "m.keras", "again.keras", "again.h5", "again.weights.h5",
    }  # fmt: skip


def test_models_inside_models(tmp_path):  # H37
    config = hostile.config_of()
    for _ in range(90):
        config = {
            "module": "keras",
            "class_name": "Sequential",
            "config": {"name": "s", "layers": [config]},
            "registered_name": None,
        }
    try:
        load_keras(tmp_path, config)
    except ERRORS as error:
        assert "m.keras" in str(error)


def test_only_the_file_is_opened(tmp_path, guarded):  # H09, H10
    for key, value in (("vocabulary", "/etc/passwd"), ("vocabulary", "http://127.0.0.1:9/x")):
        config = hostile.config_of()
        config["config"]["layers"].insert(
            1,
            {
                "module": "keras.layers",
                "class_name": "StringLookup",
                "config": {"name": "s", key: value},
                "registered_name": None,
            },
        )
        with pytest.raises(ERRORS):
            load_keras(tmp_path, config)
    read = {str(path) for path in guarded if not isinstance(path, int)}
    assert {p for p in read if not p.endswith((".py", ".pyc", ".so"))} <= {
        str(tmp_path / "m.keras")
    }
