"""Normalization."""

import numpy as np

from hornbeam import backend, ops
from hornbeam.layers.layer import Layer


class Normalization(Layer):
    """`(inputs - mean) / sqrt(variance)`, with mean and variance given or measured by `adapt`.

    Args:
        axis: axis, or axes, with a mean and variance of their own for each index; None for one of
            all.
        mean, variance: given values; both or neither.
        invert: compute `inputs * sqrt(variance) + mean` instead.

    Example:

    >>> import hornbeam as keras
    >>> import numpy as np
    >>> layer = keras.layers.Normalization(axis=None)
    >>> layer.adapt(np.array([1.0, 3.0]))
    >>> layer(np.array([1.0, 3.0])).numpy().tolist()
    [-1.0, 1.0]
    """

    def __init__(self, axis=-1, mean=None, variance=None, invert=False, **kwargs):
        super().__init__(**kwargs)
        if axis is None:
            axis = ()
        self.axis = (axis,) if isinstance(axis, int) else tuple(axis)
        if (mean is None) != (variance is None):
            raise ValueError(
                f"Normalization: `mean` and `variance` must be given both or not at all, got "
                f"mean={mean}, variance={variance}"
            )
        self.input_mean = mean
        self.input_variance = variance
        self.invert = invert
        self.supports_masking = True

    def build(self, input_shape):
        rank = len(input_shape)
        if any(not -rank <= a < rank for a in self.axis):
            raise ValueError(
                f"Normalization '{self.name}': axes {self.axis} do not exist in an input of shape "
                f"{tuple(input_shape)}"
            )
        kept = sorted(a % rank for a in self.axis)
        if any(input_shape[a] is None for a in kept):
            raise ValueError(
                f"Normalization '{self.name}': the sizes of the axes {self.axis} must be known, "
                f"got shape {tuple(input_shape)}"
            )
        self._reduced = tuple(a for a in range(rank) if a not in kept)
        self._broadcast = tuple(input_shape[a] if a in kept else 1 for a in range(rank))
        if self.input_mean is None:
            shape = tuple(input_shape[a] for a in kept)
            self.adapt_mean = self.add_weight(
                name="mean", shape=shape, initializer="zeros", trainable=False
            )
            self.adapt_variance = self.add_weight(
                name="variance", shape=shape, initializer="ones", trainable=False
            )
            # Part of Keras's files.
            self.count = self.add_weight(
                name="count", shape=(), dtype="int32", initializer="zeros", trainable=False
            )

    def adapt(self, data):
        """Measure mean and variance.

        Args:
            data: an array, or an iterable of batches (arrays, or tuples that begin with one).
        """
        if hasattr(data, "shape"):
            batches = [data]
        elif hasattr(data, "__getitem__") and hasattr(data, "num_batches"):  # a PyDataset
            batches = (data[i] for i in range(len(data)))
        else:
            batches = iter(data)
        count, mean, squares = 0, 0.0, 0.0
        for batch in batches:
            batch = batch[0] if isinstance(batch, (tuple, list)) else batch
            x = np.asarray(backend.convert_to_numpy(batch), dtype="float64")
            if not self.built:
                self.build(x.shape)
            n = int(np.prod([x.shape[a] for a in self._reduced]))
            if n == 0:
                continue
            # Chan's update: means and sums of squared differences of two parts make the whole's.
            new_mean = x.mean(axis=self._reduced)
            new_squares = ((x - np.expand_dims(new_mean, self._reduced)) ** 2).sum(self._reduced)
            delta = new_mean - mean
            total = count + n
            squares = squares + new_squares + delta**2 * (count * n / total)
            mean = mean + delta * (n / total)
            count = total
        if not count:
            raise ValueError(f"Normalization '{self.name}': adapt() got no data")
        if self.input_mean is None:
            self.adapt_mean.assign(mean)
            self.adapt_variance.assign(squares / count)

    def finalize_state(self):
        """Nothing to do: mean and variance are read at every call."""

    def _statistic(self, given, variable):
        if given is None:
            return ops.reshape(ops.cast(variable, self.compute_dtype), self._broadcast)
        value = np.asarray(given, dtype="float64")
        if value.ndim:  # aligned with the kept axes from the right
            shape = [1] * len(self._broadcast)
            kept = [a for a in range(len(shape)) if a not in self._reduced]
            for i in range(1, value.ndim + 1):
                shape[kept[-i]] = value.shape[-i]
            value = value.reshape(shape)
        return ops.convert_to_tensor(
            np.broadcast_to(value, self._broadcast).copy(), dtype=self.compute_dtype
        )

    @property
    def mean(self):
        """The mean in use, broadcastable to the inputs."""
        return self._statistic(self.input_mean, getattr(self, "adapt_mean", None))

    @property
    def variance(self):
        """The variance in use, broadcastable to the inputs."""
        return self._statistic(self.input_variance, getattr(self, "adapt_variance", None))

    def call(self, inputs):
        inputs = ops.cast(inputs, self.compute_dtype)
        deviation = ops.maximum(ops.sqrt(self.variance), backend.epsilon())
        if self.invert:
            return inputs * deviation + self.mean
        return (inputs - self.mean) / deviation

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = super().get_config()
        config["mean"] = _plain(self.input_mean)
        config["variance"] = _plain(self.input_variance)
        return config

    _config_omit = (*Layer._config_omit, "mean", "variance")

    def load_own_variables(self, store):
        super().load_own_variables(store)

    def build_from_config(self, config):
        if config:
            self.build(tuple(config["input_shape"]))


def _plain(value):
    return None if value is None else np.asarray(value).tolist()
