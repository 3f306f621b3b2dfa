"""Generators and other iterables of batches (torch's DataLoader, tf.data, a class of one's own)."""

from hornbeam.models.training.data_adapters.batches import as_batch


class IterableAdapter:
    """Batches of anything that can be iterated over.

    Attributes:
        one_pass: whether it is used up after one pass (a generator).
        num_batches: `len()` of it, or None.
    """

    def __init__(self, source, class_weight=None):
        self._source = source
        self._class_weight = class_weight
        self.one_pass = iter(source) is source
        self.num_batches = None
        if hasattr(source, "__len__"):
            try:
                self.num_batches = len(source)
            except TypeError:  # declared, but not known (an IterableDataset's loader)
                pass
        if self.num_batches == 0:
            raise ValueError("data: the data set is empty; expected at least one batch, got 0")
        self.batch_size = None

    def batches(self):
        """All batches of one pass."""
        for batch in self._source:
            yield as_batch(batch, self._class_weight)

    def on_epoch_begin(self):
        pass

    def on_epoch_end(self):
        pass
