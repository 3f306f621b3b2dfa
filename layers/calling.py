"""What happens around `build` and `call`: arguments by name, shapes, masks, `training`."""

from __future__ import annotations

import contextlib
import functools
import inspect

from hornbeam import backend, tree
from hornbeam.backend import graph as graphs
from hornbeam.backend import scope


def get_keras_mask(x):
    """The mask that a layer attached to its output, or None."""
    return getattr(x, "_keras_mask", None)


@contextlib.contextmanager
def masks_hidden(*tensors):
    """Inside, the tensors carry no masks: for layers that use the masks in a way of their own."""
    masks = [(t, get_keras_mask(t)) for t in tensors]
    for t, _ in masks:
        if get_keras_mask(t) is not None:
            set_keras_mask(t, None)
    try:
        yield
    finally:
        for t, mask in masks:
            if mask is not None:
                set_keras_mask(t, mask)


def set_keras_mask(x, mask):
    """Attach a mask to a tensor."""
    x._keras_mask = mask


def is_concrete(x):
    """Whether `x` has (or, in a traced function, will have) values."""
    return isinstance(x, (backend.Tensor, backend.Value))


def is_tensor_or_symbolic(x):
    return isinstance(x, (backend.Tensor, backend.Value, backend.KerasTensor))


@functools.cache
def signature(function):
    """Parameters of a method without `self`."""
    whole = inspect.signature(function)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


@functools.cache
def init_parameters(cls):
    """Names of the arguments of `cls(…)`, following `**kwargs` to the classes above."""
    names = []
    for c in cls.__mro__:
        if "__init__" not in c.__dict__ or c is object:
            continue
        parameters = signature(c.__init__).parameters.values()
        names += [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(dict.fromkeys(names))


class Call:
    """The arguments of one call of a layer, by name.

    Attributes:
        args, kwargs: what `layer.call` gets.
        arguments: all arguments by name, defaults included.
        tensors: those that are tensors or nests of tensors.
        first: the first argument.
    """

    def __init__(self, layer, args, kwargs):
        self.args = args
        self.kwargs = dict(kwargs)
        self.signature = signature(type(layer).call)
        self.takes_training = "training" in self.signature.parameters
        self.given_training = self.kwargs.get("training")
        if not self.takes_training:
            self.kwargs.pop("training", None)
        try:
            bound = self.signature.bind(*args, **self.kwargs)
        except TypeError as error:
            raise TypeError(
                f"{type(layer).__name__} '{layer.name}': {error}; expected the arguments "
                f"{self.signature}"
            ) from None
        bound.apply_defaults()
        self.arguments = bound.arguments
        self.tensors = {}
        for name, value in self.arguments.items():
            if is_tensor_or_symbolic(value):
                self.tensors[name] = value
            elif tree.is_nested(value):
                flat = tree.flatten(value)
                known = [is_tensor_or_symbolic(x) for x in flat]
                if any(known):
                    if not all(k or x is None for k, x in zip(known, flat, strict=True)):
                        raise ValueError(
                            f"{type(layer).__name__} '{layer.name}': argument `{name}` mixes "
                            f"tensors and other values: {value}"
                        )
                    self.tensors[name] = value
        self.first = next(iter(self.arguments.values()), None)

    @property
    def eager(self):
        return all(is_concrete(x) for x in tree.flatten(self.tensors) if x is not None)

    def shapes(self):
        """`{"<argument>_shape": shape}` of the tensor arguments."""
        return {
            f"{name}_shape": tree.map_structure(known_shape, value)
            for name, value in self.tensors.items()
            if name not in ("mask", "args", "kwargs")
        }

    def training(self, outer):
        """`training` of this call: given, else the outer layer's, else the default of `call`."""
        value = self.given_training
        if value is None and outer is not None:
            value = outer[0]
        if value is None:
            value = self.arguments.get("training")
        if self.takes_training and value is not None:
            self._set("training", value)
        return value

    def fill_masks(self):
        """Give `call` the masks of its inputs that the caller did not; return the inputs' mask."""
        names = self.signature.parameters
        if len(self.tensors) == 1:
            if "mask" in names and self.arguments["mask"] is None:
                (tensor,) = self.tensors.values()
                self._set("mask", tree.map_structure(get_keras_mask, tensor))
        else:
            for name, tensor in self.tensors.items():
                mask_name = f"{name}_mask"
                if mask_name in names and self.arguments[mask_name] is None:
                    self._set(mask_name, tree.map_structure(get_keras_mask, tensor))
        mask = self.kwargs.get("mask")
        if mask is not None:
            return mask
        return tree.map_structure(get_keras_mask, self.first)

    def _set(self, name, value):
        # A parameter that was passed by position cannot be passed by name as well.
        index = list(self.signature.parameters).index(name)
        if index < len(self.args):
            self.args = (*self.args[:index], value, *self.args[index + 1 :])
        else:
            self.kwargs[name] = value


def known_shape(x):
    """Shape of `x`; a size that only stands for an unknown one (`symbolic.infer`) is None again."""
    if x is None:
        return None
    graph = graphs.current_graph()
    fill = graph.fill if graph is not None else None
    if fill is None:
        return tuple(x.shape)
    return tuple(None if d and d % fill == 0 else d for d in x.shape)


def align_shapes(cls, method, shapes, call):
    """Arguments for `build` or `compute_output_shape` from the shapes of a call's tensors.

    A method with one argument gets the first shape; one with several gets each by name:
    `foo_shape` is the shape of `call`'s argument `foo`.
    """
    function = getattr(cls, method)
    parameters = [
        p
        for p in signature(inspect.unwrap(function)).parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(parameters) == 1:
        return {parameters[0].name: next(iter(shapes.values()), None)}
    for p in parameters:
        known = call is None or p.name.removesuffix("_shape") in call.arguments
        if not p.name.endswith("_shape") or not known:
            raise ValueError(
                f"{cls.__name__}.{method}: argument `{p.name}` does not belong to an argument of "
                f"`call()`; with more than one, each must be named `<argument>_shape`"
            )
    return {p.name: shapes[p.name] for p in parameters if p.name in shapes}


def recording_build(build):
    """`build` with name scope, recorded shapes, and `built = True` at the end."""

    @functools.wraps(build)
    def wrapper(self, *args, **kwargs):
        if self.__dict__.get("_building", False):  # `super().build()`
            return build(self, *args, **kwargs)
        self._check_super_called()
        self.__dict__["_building"] = True
        try:
            with self._open_name_scope():
                self._path = scope.current_path()
                build(self, *args, **kwargs)
        finally:
            self.__dict__["_building"] = False
        bound = inspect.signature(build).bind(self, *args, **kwargs).arguments
        shapes = dict(list(bound.items())[1:])
        with_args = {k: v for k, v in shapes.items() if k not in ("args", "kwargs")}
        object.__setattr__(self, "_build_shapes_dict", with_args)
        self.built = True
        self._post_build()
        self._lock_state()
        return None

    return wrapper


def map_shapes(fn, shapes):
    """`fn` of every shape in a nest of shapes; None is none."""
    return None if shapes is None else tree.map_shape_structure(fn, shapes)


def as_shape(shapes):
    """Shapes as tuples (JSON has only lists)."""
    return map_shapes(tuple, shapes)


def strip_shape(kwargs):
    """`{"x_shape": …}` → `{"x": …}`."""
    return {name.removesuffix("_shape"): value for name, value in kwargs.items()}
