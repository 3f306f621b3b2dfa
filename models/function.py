"""Function: the computation between `KerasTensor`s, to be called on values (`keras.Function`)."""

from __future__ import annotations

from hornbeam import backend
from hornbeam.backend import tree
from hornbeam.layers.operation import Operation
from hornbeam.models.graph import Graph


class Function(Operation):
    """A callable from the (nested) symbolic inputs to the outputs.

    Args:
        inputs: nest of `KerasTensor`s.
        outputs: nest of `KerasTensor`s computed from them.
        name: name.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.Input((2,))
    >>> f = keras.Function(x, keras.ops.sum(x * 2.0, axis=-1))
    >>> f(keras.ops.ones((1, 2))).numpy().tolist()
    [4.0]
    """

    def __init__(self, inputs, outputs, name=None):
        super().__init__(name=name)
        self._set_graph(inputs, outputs)

    def _set_graph(self, inputs, outputs):
        self._inputs_struct = tree.map_structure(lambda x: x, inputs)
        self._outputs_struct = tree.map_structure(lambda x: x, outputs)
        self._inputs = tree.flatten(inputs)
        self._outputs = tree.flatten(outputs)
        for role, tensors in (("inputs", self._inputs), ("outputs", self._outputs)):
            if not tensors:
                raise ValueError(f"{type(self).__name__}: `{role}` must not be empty")
            for x in tensors:
                if not isinstance(x, backend.KerasTensor):
                    raise ValueError(
                        f"{type(self).__name__}: `{role}` must be KerasTensors (made by `Input` or "
                        f"computed from them), got {x!r} of type {type(x).__name__}"
                    )
        self._graph = Graph(self._inputs, self._outputs)

    @property
    def inputs(self):
        """Flat list of the symbolic inputs."""
        return self._inputs

    @property
    def outputs(self):
        """Flat list of the symbolic outputs."""
        return self._outputs

    @property
    def operations(self):
        """Operations of the graph, in order of depth."""
        return list(self._graph.operations)

    def call(self, inputs):
        self._check_structure(inputs)
        return self._run(tree.flatten(inputs), lambda op, *args, **kwargs: op(*args, **kwargs))

    def compute_output_spec(self, inputs):
        self._check_structure(inputs)
        return self._infer(tree.flatten(inputs))

    def _infer(self, inputs):
        if all(
            tuple(x.shape) == tuple(ref.shape)
            for x, ref in zip(inputs, self._inputs, strict=True)
            if x is not None
        ):
            return tree.map_structure(
                lambda t: backend.KerasTensor(t.shape, dtype=t.dtype), self._outputs_struct
            )
        return self._run(inputs, lambda op, *args, **kw: op.compute_output_spec(*args, **kw))

    def compute_output_shape(self, input_shape):
        shapes = [input_shape] if len(self._inputs) == 1 else _flat_shapes(input_shape)
        inputs = [
            backend.KerasTensor(tuple(shape), dtype=ref.dtype)
            for shape, ref in zip(shapes, self._inputs, strict=True)
        ]
        return tree.map_structure(lambda t: tuple(t.shape), self._infer(inputs))

    def _run(self, inputs, call):
        """Outputs for flat `inputs`; every node runs `call(operation, *args, **kwargs)`."""
        values = {id(x): y for x, y in zip(self._inputs, inputs, strict=True)}

        def fill(x):
            return values[id(x)] if isinstance(x, backend.KerasTensor) else x

        for node in self._graph.nodes:
            args, kwargs = tree.map_structure(fill, (tuple(node.args), dict(node.kwargs)))
            outputs = call(node.operation, *args, **kwargs)
            for x, y in zip(node.output_tensors, tree.flatten(outputs), strict=True):
                values[id(x)] = y
        missing = [x for x in self._outputs if id(x) not in values]
        if missing:
            raise ValueError(
                f"{type(self).__name__} '{self.name}': output {missing[0]} does not depend on the "
                "inputs"
            )
        return tree.map_structure(lambda x: values[id(x)], self._outputs_struct)

    def _check_structure(self, inputs):
        try:
            tree.assert_same_structure(inputs, self._inputs_struct)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{type(self).__name__} '{self.name}': expected inputs of the structure "
                f"{self._inputs_struct}, got {inputs}"
            ) from error
        for x, ref in zip(tree.flatten(inputs), self._inputs, strict=True):
            if x is None:
                continue
            fits = len(x.shape) == len(ref.shape) and all(
                a is None or b is None or a == b for a, b in zip(x.shape, ref.shape, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"{type(self).__name__} '{self.name}': input '{ref.name}' is incompatible; "
                    f"expected shape {tuple(ref.shape)}, got shape {tuple(x.shape)}"
                )


def _flat_shapes(shapes):
    """Nest of shapes → flat list of shapes."""
    found = []

    def visit(x):
        if isinstance(x, (list, tuple)) and all(d is None or isinstance(d, int) for d in x):
            found.append(tuple(x))
        elif isinstance(x, dict):
            for key in sorted(x):
                visit(x[key])
        else:
            for y in x:
                visit(y)

    visit(shapes)
    return found
