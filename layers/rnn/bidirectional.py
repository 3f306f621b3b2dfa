"""Bidirectional."""

from hornbeam import ops
from hornbeam.backend import tree
from hornbeam.layers.calling import signature
from hornbeam.layers.layer import Layer
from hornbeam.saving import serialization_lib


class Bidirectional(Layer):
    """A recurrent layer and a copy that runs from the last step to the first (Schuster, 1997).

    Args:
        layer: an `RNN`, or another layer with `go_backwards`, `return_sequences`, `return_state`.
        merge_mode: how the two outputs are combined: `"sum"`, `"mul"`, `"concat"`, `"ave"`, or None
            for both.
        weights: first values of the weights of both.
        backward_layer: the layer for the other direction, if not a copy.

    Call arguments: those of the layer.

    Example:

    >>> import hornbeam as keras
    >>> keras.layers.Bidirectional(keras.layers.LSTM(4))(keras.ops.ones((2, 5, 3))).shape
    (2, 8)
    """

    def __init__(self, layer, merge_mode="concat", weights=None, backward_layer=None, **kwargs):
        for given in (layer, backward_layer):
            if given is not None and not isinstance(given, Layer):
                raise ValueError(f"Bidirectional: expected a layer, got {given!r}")
        if merge_mode not in ("sum", "mul", "ave", "concat", None):
            raise ValueError(
                "Bidirectional: `merge_mode` must be 'sum', 'mul', 'ave', 'concat' or None, got "
                f"{merge_mode!r}"
            )
        super().__init__(**kwargs)
        # A copy, so that the layer given keeps its own variables.
        self.forward_layer = _copy(layer, "forward_")
        if backward_layer is None:
            backward_layer = _copy(layer, "backward_", go_backwards=True)
        self.backward_layer = backward_layer
        if self.forward_layer.go_backwards == self.backward_layer.go_backwards:
            raise ValueError(
                "Bidirectional: the two layers must run in different directions, got go_backwards="
                f"{self.forward_layer.go_backwards} for both"
            )
        for name in ("stateful", "return_sequences", "return_state"):
            a, b = getattr(self.forward_layer, name), getattr(self.backward_layer, name)
            if a != b:
                raise ValueError(
                    f"Bidirectional: the two layers must agree on `{name}`, got {a} and {b}"
                )
        for made in (self.forward_layer, self.backward_layer):
            if getattr(made, "zero_output_for_mask", None) is not None:
                made.zero_output_for_mask = made.return_sequences
        self.merge_mode = merge_mode
        self.stateful = layer.stateful
        self.return_sequences = layer.return_sequences
        self.return_state = layer.return_state
        self.supports_masking = True
        self.input_spec = layer.input_spec
        self._initial_weights = weights

    def build(self, sequences_shape, initial_state_shape=None):
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(sequences_shape)
        if self._initial_weights is not None:
            self.set_weights(self._initial_weights)

    def call(self, sequences, initial_state=None, mask=None, training=None):
        parameters = signature(type(self.forward_layer).call).parameters
        extra = {"training": training} if "training" in parameters else {}
        if "mask" in parameters:
            extra["mask"] = mask
        forward_state = backward_state = None
        if initial_state is not None:
            half = len(initial_state) // 2
            forward_state, backward_state = initial_state[:half], initial_state[half:]
        y = self.forward_layer(sequences, initial_state=forward_state, **extra)
        z = self.backward_layer(sequences, initial_state=backward_state, **extra)
        states = ()
        if self.return_state:
            states = (*y[1:], *z[1:])
            y, z = y[0], z[0]
        y, z = ops.cast(y, self.compute_dtype), ops.cast(z, self.compute_dtype)
        if self.return_sequences:
            z = ops.flip(z, axis=1)
        if self.merge_mode == "concat":
            merged = ops.concatenate([y, z], axis=-1)
        elif self.merge_mode == "sum":
            merged = y + z
        elif self.merge_mode == "ave":
            merged = (y + z) / 2
        elif self.merge_mode == "mul":
            merged = y * z
        else:
            return (y, z, *states)
        return (merged, *states) if self.return_state else merged

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        shape = self.forward_layer.compute_output_shape(sequences_shape)
        states = ()
        if self.return_state:
            shape, states = shape[0], tuple(shape[1:])
        if self.merge_mode is None:
            return (shape, shape, *states, *states)
        if self.merge_mode == "concat":
            shape = (*shape[:-1], shape[-1] * 2)
        return (shape, *states, *states) if self.return_state else shape

    def compute_mask(self, inputs, previous_mask):
        mask = tree.flatten(previous_mask)[0] if self.return_sequences else None
        masks = [mask, mask] if self.merge_mode is None else [mask]
        if self.return_state:
            masks += [None] * (2 * len(self.forward_layer.state_size))
        return masks if len(masks) > 1 else mask

    def reset_state(self):
        """Set the states of stateful layers to zero."""
        if not self.stateful:
            raise AttributeError("Bidirectional.reset_state: the layer is not stateful")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    @property
    def states(self):
        forward, backward = self.forward_layer.states, self.backward_layer.states
        return (*forward, *backward) if forward and backward else None

    _config_omit = (*Layer._config_omit, "layer", "weights")

    def get_config(self):
        layer = serialization_lib.serialize_keras_object(self.forward_layer)
        return {**super().get_config(), "layer": layer}


def _copy(layer, prefix, **changes):
    config = serialization_lib.serialize_keras_object(layer)
    name = prefix + layer.name.removeprefix(prefix)
    config = {**config, "config": {**config["config"], "name": name, **changes}}
    config.pop("build_config", None)
    with_classes = {type(layer).__name__: type(layer)}
    return serialization_lib.deserialize_keras_object(config, custom_objects=with_classes)
