"""Graphs of functional models as plain data and back, and cut at intermediate tensors."""

from __future__ import annotations

import collections

from hornbeam import backend
from hornbeam.backend import symbolic, tree
from hornbeam.layers.core.input_layer import Input, InputLayer
from hornbeam.layers.operation import Operation
from hornbeam.models import graph
from hornbeam.saving import serialization_lib


def describe(model):
    """Keras 3's config of a functional model."""
    keys = model._graph.keys

    def own_nodes(operation):
        """(index among all calls of the operation, node) of the nodes of this model."""
        nodes = enumerate(operation._inbound_nodes)
        return [(i, node) for i, node in nodes if (operation, i) in keys]

    def own_index(operation, index):
        return sum(i < index for i, _ in own_nodes(operation))

    def describe_argument(x):
        if not isinstance(x, backend.KerasTensor):
            return serialization_lib.serialize_keras_object(x)
        operation, index, position = x._keras_history
        history = [operation.name, own_index(operation, index), position]
        config = {"shape": list(x.shape), "dtype": x.dtype, "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}

    def describe_reference(x):
        operation, index, position = x._keras_history
        # Functional models count from one, as if their own construction were their first call.
        first = 1 if _is_functional(operation) else 0
        return [operation.name, own_index(operation, index) + first, position]

    layers = []
    for operation in model._graph.operations:
        config = serialization_lib.serialize_keras_object(operation)
        config["name"] = operation.name
        config["inbound_nodes"] = [
            {
                "args": list(tree.map_structure(describe_argument, tuple(node.args))),
                "kwargs": tree.map_structure(describe_argument, dict(node.kwargs)),
            }
            for _, node in own_nodes(operation)
            if not node.is_input
        ]
        layers.append(config)
    return {
        "name": model.name,
        "trainable": model.trainable,
        "layers": layers,
        "input_layers": tree.map_structure(describe_reference, model._inputs_struct),
        "output_layers": tree.map_structure(describe_reference, model._outputs_struct),
    }


def rebuild(cls, config):
    """A model of class `cls` from what `describe` returned."""
    config = dict(config)
    layers = config.pop("layers")
    inputs, outputs = config.pop("input_layers"), config.pop("output_layers")
    made, waiting = {}, {}
    first = {}  # a layer that another model shares has nodes there already
    for data in layers:
        operation = serialization_lib.deserialize_keras_object(
            {k: v for k, v in data.items() if k not in ("name", "inbound_nodes")}
        )
        if not isinstance(operation, Operation):
            raise ValueError(f"Functional: expected a layer or op, got {operation!r}")
        made[data["name"]] = operation
        is_input = isinstance(operation, InputLayer)
        first[data["name"]] = 0 if is_input else len(operation._inbound_nodes)
        if data["inbound_nodes"]:
            waiting[data["name"]] = collections.deque(data["inbound_nodes"])
    # A call waits for one tensor at a time, so that any order of the layers takes linear time.
    pending, blocked = collections.deque(waiting), {}
    while pending:
        name = pending.popleft()
        nodes = waiting[name]
        try:
            while nodes:
                args, kwargs = _arguments(nodes[0], made, first)
                index = len(made[name]._inbound_nodes) - first[name]
                made[name](*args, **kwargs)
                nodes.popleft()
                pending.extend(blocked.pop((name, index), ()))
            del waiting[name]
        except _NotMade as missing:
            blocked.setdefault(missing.args, []).append(name)
    if waiting:
        raise ValueError(
            "Functional: the config has nodes whose inputs are never made (a loop, or a "
            f"disconnected graph): {sorted(waiting)[:20]}"
        )

    def find(reference):
        name, index, position = reference
        if name not in made:
            raise ValueError(f"Functional: the config refers to the unknown layer '{name}'")
        operation = made[name]
        if _is_functional(operation):
            index -= 1
        return operation._inbound_nodes[first[name] + index].output_tensors[position]

    return cls(
        inputs=_map_references(find, inputs),
        outputs=_map_references(find, outputs),
        name=config.pop("name", None),
        trainable=config.pop("trainable", None),
        **config,
    )


def _is_functional(operation):
    from hornbeam.models.functional import Functional

    return isinstance(operation, Functional)


def _map_references(find, x):
    if isinstance(x, (list, tuple)) and len(x) == 3 and isinstance(x[0], str):
        return find(x)
    if isinstance(x, dict):
        return {key: _map_references(find, value) for key, value in x.items()}
    return type(x)(_map_references(find, value) for value in x)


class _NotMade(Exception):
    """A call needs the tensor of a call (name, index) that was not made yet."""


def _arguments(data, made, first):
    """Arguments of a call with the tensors put in; `_NotMade` while one of them is missing."""
    if isinstance(data, list):  # the layout of Keras 1 and 2: [[name, node, tensor, kwargs], …]
        kwargs = data[0][3] if len(data[0]) > 3 else {}
        tensors = [_tensor(entry[:3], made, first) for entry in data]
        return [tensors[0] if len(tensors) == 1 else tensors], kwargs

    def revive(x):
        history = getattr(x, "_pre_serialization_keras_history", None)
        if not isinstance(x, backend.KerasTensor) or history is None:
            return x
        return _tensor(history, made, first)

    args = serialization_lib.deserialize_keras_object(data["args"])
    kwargs = serialization_lib.deserialize_keras_object(data["kwargs"])
    args, kwargs = tree.map_structure(revive, (list(args), dict(kwargs)))
    if not symbolic.any_symbolic((args, kwargs)):
        # it would run at once, with whatever sizes the file asks for
        raise ValueError(f"Functional: the config has a call without any tensor: {data!r:.200}")
    return args, kwargs


def _tensor(history, made, first):
    name, index, position = history
    if name not in made:
        raise ValueError(f"Functional: the config refers to the unknown layer '{name}'")
    nodes = made[name]._inbound_nodes
    if first[name] + index >= len(nodes):
        raise _NotMade(name, index)
    return nodes[first[name] + index].output_tensors[position]


def cut(inputs, outputs):
    """Copies of the nodes between intermediate `inputs` and `outputs`, behind new `Input`s."""
    nodes, _ = graph.between(tree.flatten(inputs), tree.flatten(outputs))
    copies = {}

    def new_input(x):
        if graph.is_input(x):
            copies[id(x)] = x
        else:
            copies[id(x)] = Input(batch_shape=x.shape, dtype=x.dtype, name=f"{x.name}CLONE")
        return copies[id(x)]

    def copied(x):
        return copies[id(x)] if isinstance(x, backend.KerasTensor) else x

    inputs = tree.map_structure(new_input, inputs)
    for node in nodes:
        if node.is_input:
            for x in node.output_tensors:
                copies.setdefault(id(x), x)
            continue
        args, kwargs = tree.map_structure(copied, (tuple(node.args), dict(node.kwargs)))

        def new_output(x):
            if not isinstance(x, backend.KerasTensor):
                return x
            copies.setdefault(
                id(x), backend.KerasTensor(x.shape, dtype=x.dtype, name=f"{x.name}_clone")
            )
            return copies[id(x)]

        symbolic.CallNode(
            node.operation, args, kwargs, tree.map_structure(new_output, node.outputs)
        )
    return inputs, tree.map_structure(copied, outputs)
