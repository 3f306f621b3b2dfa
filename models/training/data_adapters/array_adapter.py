"""Arrays in memory: they feed the program's epoch runner directly."""

import numpy as np

from hornbeam import backend
from hornbeam.backend import tree
from hornbeam.models.training.data_adapters.batches import as_array, class_weights
from hornbeam.utils.batches import pack_x_y_sample_weight


def _is_array(x):
    return (
        isinstance(x, (np.ndarray, backend.Tensor, backend.Variable))
        or hasattr(x, "__array__")
        or hasattr(x, "to_numpy")
        or hasattr(x, "toarray")
    )


def can_be_array(x):
    """Whether `x` is an array, or a list, tuple or dict of arrays."""
    if hasattr(x, "__next__"):
        return False
    leaves = tree.flatten(x)
    return bool(leaves) and all(_is_array(leaf) for leaf in leaves if leaf is not None)


def _one_length(parts):
    """The number of rows that all arrays of {name: nest of arrays} have."""
    lengths = {}
    for name, part in parts.items():
        for leaf in tree.flatten(part):
            if leaf is None:
                continue
            if leaf.ndim == 0:
                raise ValueError(
                    f"data: {name} holds a scalar; expected arrays with the samples along the "
                    "first axis"
                )
            lengths.setdefault(name, []).append(leaf.shape[0])
    counts = {count for found in lengths.values() for count in found}
    if len(counts) > 1:
        text = ", ".join(f"{name} {'/'.join(map(str, n))}" for name, n in lengths.items())
        raise ValueError(
            f"data: the arrays differ in their number of samples (first axis); got {text}"
        )
    count = counts.pop()
    if count == 0:
        raise ValueError("data: the data set is empty; expected at least one sample, got 0")
    return count


class ArrayAdapter:
    """Batches of arrays in memory.

    Attributes:
        arrays: flat list of the arrays (x, then y, then weights).
        num_samples, batch_size, num_batches: sizes; the last batch may be smaller.
        remainder: size of the last batch, 0 if it is full.
    """

    one_pass = False

    def __init__(
        self,
        x,
        y=None,
        sample_weight=None,
        batch_size=None,
        shuffle=False,
        class_weight=None,
    ):
        x, y, sample_weight = tree.map_structure(
            lambda a: None if a is None else as_array(a), (x, y, sample_weight)
        )
        self.num_samples = _one_length({"x": x, "y": y, "sample_weight": sample_weight})
        if class_weight is not None:
            sample_weight = class_weights(y, sample_weight, class_weight)
        self.x, self.y, self.sample_weight = x, y, sample_weight
        self.structure = pack_x_y_sample_weight(x, y, sample_weight)
        if y is None and sample_weight is not None:
            self.structure = (x, None, sample_weight)
        self.arrays = [a for a in tree.flatten(self.structure) if a is not None]
        batch_size = 32 if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f"data: batch_size must be positive; got {batch_size}")
        self.batch_size = min(int(batch_size), self.num_samples)
        self.remainder = self.num_samples % self.batch_size
        self.num_batches = -(-self.num_samples // self.batch_size)
        self.shuffle = shuffle
        if shuffle not in (True, False, "batch"):
            raise ValueError(f"data: shuffle must be True, False or 'batch'; got {shuffle!r}")
        # one stream of orders, fixed by set_random_seed through NumPy's global state
        self._rng = np.random.default_rng(np.random.randint(2**31)) if shuffle else None

    def order(self):
        """Order of the samples for one pass: int64 indices, or None for as they are."""
        if not self.shuffle:
            return None
        if self.shuffle == "batch":
            # whole batches change places; the partial one stays last
            full = self.num_samples // self.batch_size
            rows = np.arange(full * self.batch_size).reshape(full, self.batch_size)
            tail = np.arange(full * self.batch_size, self.num_samples)
            return np.concatenate([self._rng.permutation(rows).reshape(-1), tail])
        return self._rng.permutation(self.num_samples)

    def batch(self, order, step):
        """The batch of one step, in the structure that the user gave."""
        rows = slice(step * self.batch_size, (step + 1) * self.batch_size)
        if order is not None:
            rows = order[rows]
        return tree.map_structure(lambda a: None if a is None else a[rows], self.structure)

    def batches(self):
        """All batches of one pass."""
        order = self.order()
        for step in range(self.num_batches):
            yield self.batch(order, step)

    def example(self, size):
        """A batch of `size` samples, for its shapes and dtypes."""
        return tree.map_structure(lambda a: None if a is None else a[:size], self.structure)

    def on_epoch_begin(self):
        pass

    def on_epoch_end(self):
        pass


def train_validation_split(arrays, validation_split):
    """((first part of each array), (rest)): the last share of the samples is for validation.

    Args:
        arrays: tuple of nests of arrays, or None.
        validation_split: share in (0, 1).

    Raises:
        ValueError: no arrays, or one of the parts would be empty.
    """
    for leaf in tree.flatten(arrays):
        if leaf is not None and not _is_array(leaf):
            raise ValueError(
                "fit: validation_split needs arrays; got "
                f"{type(leaf).__name__}. Use validation_data"
            )
    if not 0 < validation_split < 1:
        raise ValueError(f"fit: validation_split must lie in (0, 1); got {validation_split}")
    arrays = tree.map_structure(lambda a: None if a is None else as_array(a), arrays)
    count = _one_length(dict(zip(("x", "y", "sample_weight"), arrays, strict=False)))
    split = int(count * (1.0 - validation_split))
    if split in (0, count):
        raise ValueError(
            f"fit: validation_split={validation_split} of {count} samples leaves nothing for "
            f"{'training' if split == 0 else 'validation'}"
        )
    first = tree.map_structure(lambda a: None if a is None else a[:split], arrays)
    rest = tree.map_structure(lambda a: None if a is None else a[split:], arrays)
    return first, rest
