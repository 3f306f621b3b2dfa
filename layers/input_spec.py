"""What a layer expects of its inputs (`keras.InputSpec`)."""

from hornbeam import backend
from hornbeam.backend import tree


class InputSpec:
    """Rank, shape and dtype that a layer's input must have; None means anything.

    Args:
        dtype: dtype.
        shape: shape, with None for free dimensions.
        ndim: rank.
        max_ndim: largest rank.
        min_ndim: smallest rank.
        axes: dictionary from axis to its size.
        allow_last_axis_squeeze: a last axis of size 1 may be missing or added.
        name: key of the input when inputs come as a dictionary.
        optional: the input may be None.
    """

    def __init__(
        self,
        dtype=None,
        shape=None,
        ndim=None,
        max_ndim=None,
        min_ndim=None,
        axes=None,
        allow_last_axis_squeeze=False,
        name=None,
        optional=False,
    ):
        self.dtype = backend.standardize_dtype(dtype) if dtype is not None else None
        self.shape = None if shape is None else tuple(shape)
        self.ndim = len(self.shape) if shape is not None else ndim
        self.max_ndim = max_ndim
        self.min_ndim = min_ndim
        self.name = name
        self.optional = optional
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        self.axes = {int(k): v for k, v in (axes or {}).items()}
        limit = self.ndim if self.ndim is not None else self.max_ndim
        if limit is not None and self.axes and max(self.axes) >= limit:
            raise ValueError(
                f"InputSpec: axis {max(self.axes)} does not exist in an input of rank {limit}"
            )

    def __repr__(self):
        shown = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        parts = (f"{k}={getattr(self, k)}" for k in shown if getattr(self, k))
        return f"InputSpec({', '.join(parts)})"

    def get_config(self):
        return {
            "dtype": self.dtype,
            "shape": self.shape,
            "ndim": self.ndim,
            "max_ndim": self.max_ndim,
            "min_ndim": self.min_ndim,
            "axes": self.axes,
            "optional": self.optional,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def mismatch(self, shape, dtype):
        """What is wrong with an input, as text, or None."""
        ndim = len(shape)
        if self.ndim is not None and not self.allow_last_axis_squeeze and ndim != self.ndim:
            return f"expected rank {self.ndim}" + (f" (shape {self.shape})" if self.shape else "")
        if self.max_ndim is not None and ndim > self.max_ndim:
            return f"expected a rank of at most {self.max_ndim}"
        if self.min_ndim is not None and ndim < self.min_ndim:
            return f"expected a rank of at least {self.min_ndim}"
        if self.dtype is not None and dtype != self.dtype:
            return f"expected dtype {self.dtype}"
        for axis, size in self.axes.items():
            if size is not None and shape[axis] not in (size, None):
                wanted = ["…"] * max(ndim, axis + 1)
                wanted[axis] = str(size)
                return f"expected size {size} on axis {axis}, that is shape ({', '.join(wanted)})"
        if self.shape is not None:
            wanted, given = self.shape, tuple(shape)
            if self.allow_last_axis_squeeze:
                wanted = wanted[:-1] if wanted and wanted[-1] == 1 else wanted
                given = given[:-1] if given and given[-1] == 1 else given
            same = all(
                a is None or b is None or a == b for a, b in zip(wanted, given, strict=False)
            )
            if not same or (len(wanted) != len(given) and not self.allow_last_axis_squeeze):
                return f"expected shape {self.shape}"
        return None


def assert_input_compatibility(spec, inputs, layer):
    """Raise a ValueError that names the layer and both shapes if `inputs` do not fit `spec`."""
    if not spec:
        return
    specs = tree.flatten(spec)
    if isinstance(inputs, dict) and all(s is not None and s.name for s in specs):
        missing = [s.name for s in specs if s.name not in inputs]
        if missing:
            raise ValueError(
                f"{layer}: missing input {missing}; expected the keys {[s.name for s in specs]}, "
                f"got {list(inputs)}"
            )
        inputs = [inputs[s.name] for s in specs]
    inputs = tree.flatten(inputs)
    if len(inputs) != len(specs):
        raise ValueError(f"{layer}: expected {len(specs)} input(s), got {len(inputs)}")
    for index, (x, s) in enumerate(zip(inputs, specs, strict=True)):
        if s is None or (x is None and s.optional):
            continue
        if not hasattr(x, "shape"):
            raise ValueError(
                f"{layer}: expected tensors as inputs, got {x!r} of type {type(x).__name__}"
                + ("; call the layer on a tensor, not on a layer" if hasattr(x, "call") else "")
            )
        wrong = s.mismatch(tuple(x.shape), x.dtype)
        if wrong is not None:
            which = f"input {index}" if len(specs) > 1 else "input"
            raise ValueError(
                f"{layer}: {which} is incompatible with the layer; {wrong}, "
                f"got shape {tuple(x.shape)} and dtype {x.dtype}"
            )
