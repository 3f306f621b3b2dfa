"""Input and InputLayer: where a functional model begins."""

from hornbeam import backend
from hornbeam.backend import symbolic
from hornbeam.layers.layer import Layer


class InputLayer(Layer):
    """The node that stands for an input of a model; made by `Input`.

    Args:
        shape: shape without the batch axis.
        batch_size: size of the batch axis, None for any.
        dtype: dtype; `floatx()` by default.
        sparse, ragged: must be None or False.
        batch_shape: shape with the batch axis, instead of `shape`.
        input_tensor: a `KerasTensor` to stand for.
        optional: the model also takes None here.
        name: name.
    """

    def __init__(
        self,
        shape=None,
        batch_size=None,
        dtype=None,
        sparse=None,
        ragged=None,
        batch_shape=None,
        input_tensor=None,
        optional=False,
        name=None,
        **kwargs,
    ):
        super().__init__(name=name)
        if "input_shape" in kwargs:
            shape = kwargs.pop("input_shape")
        if "batch_input_shape" in kwargs:
            batch_shape = kwargs.pop("batch_input_shape")
        if kwargs:
            raise ValueError(f"InputLayer: unknown arguments {sorted(kwargs)}")
        if sparse or ragged:
            raise ValueError("InputLayer: sparse and ragged inputs are not supported")
        if input_tensor is not None:
            if not isinstance(input_tensor, backend.KerasTensor):
                raise ValueError(
                    f"InputLayer: `input_tensor` must be a KerasTensor, got {input_tensor!r}"
                )
            batch_shape = tuple(input_tensor.shape)
            dtype = input_tensor.dtype
        if shape is not None and batch_shape is not None:
            raise ValueError(
                f"InputLayer: `shape` {shape} and `batch_shape` {batch_shape} exclude each other"
            )
        if batch_size is not None and shape is None:
            raise ValueError("InputLayer: `batch_size` needs `shape`")
        if batch_shape is None:
            if shape is None:
                raise ValueError("InputLayer: `shape` is missing; expected a tuple of sizes")
            shape = (shape,) if isinstance(shape, int) else tuple(shape)
            batch_shape = (batch_size, *shape)
        self._batch_shape = tuple(batch_shape)
        self._input_dtype = backend.standardize_dtype(dtype or backend.floatx())
        self.optional = optional
        self.sparse = self.ragged = False
        if input_tensor is None:
            input_tensor = backend.KerasTensor(
                self._batch_shape, dtype=self._input_dtype, name=self.name
            )
        symbolic.CallNode(self, (), {}, input_tensor)
        self.built = True

    def call(self):
        return None

    @property
    def batch_shape(self):
        return self._batch_shape

    @property
    def dtype(self):
        return self._input_dtype

    @property
    def compute_dtype(self):
        return self._input_dtype

    def get_config(self):
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.dtype,
            "sparse": self.sparse,
            "ragged": self.ragged,
            "name": self.name,
            "optional": self.optional,
        }


def Input(
    shape=None,
    batch_size=None,
    dtype=None,
    sparse=None,
    ragged=None,
    batch_shape=None,
    name=None,
    tensor=None,
    optional=False,
):
    """A symbolic tensor that stands for an input of a model.

    Args:
        shape: shape without the batch axis; None for sizes that vary.
        batch_size: size of the batch axis, None for any.
        dtype: dtype; `floatx()` by default.
        sparse, ragged: must be None or False.
        batch_shape: shape with the batch axis, instead of `shape`.
        name: name.
        tensor: a `KerasTensor` to stand for.
        optional: the model also takes None here.

    Returns:
        A `KerasTensor`.

    Example:

    >>> import hornbeam as keras
    >>> x = keras.Input(shape=(32,))
    >>> keras.Model(x, keras.layers.Dense(4)(x)).output_shape
    (None, 4)
    """
    layer = InputLayer(
        shape=shape,
        batch_size=batch_size,
        dtype=dtype,
        sparse=sparse,
        ragged=ragged,
        batch_shape=batch_shape,
        input_tensor=tensor,
        optional=optional,
        name=name,
    )
    return layer.output
