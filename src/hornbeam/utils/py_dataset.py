"""PyDataset: a data set of numbered batches, made in worker threads."""


class PyDataset:
    """Base class: define `__len__` (number of batches) and `__getitem__(index)` (one batch).

    A batch is `x`, `(x, y)` or `(x, y, sample_weight)`. With more than one worker, batches are made
    ahead of time, and arrive in order.

    Args:
        workers: number of workers; 1 or 0: batches are made when they are needed.
        use_multiprocessing: processes (spawned) instead of threads; the object must be picklable.
        max_queue_size: how many batches are made ahead.

    Example:

    >>> import numpy as np
    >>> class Squares(PyDataset):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, index):
    ...         x = np.arange(4.0) + 4 * index
    ...         return x, x * x
    >>> Squares(workers=2)[2][0].tolist()
    [8.0, 9.0, 10.0, 11.0]
    """

    def __init__(self, workers=1, use_multiprocessing=False, max_queue_size=10):
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index):
        raise NotImplementedError(f"{type(self).__name__}: a PyDataset must define __getitem__")

    def __len__(self):
        if type(self).num_batches is PyDataset.num_batches:
            raise NotImplementedError(f"{type(self).__name__}: a PyDataset must define __len__")
        return self.num_batches

    @property
    def num_batches(self):
        """Number of batches in an epoch; None for a data set without end."""
        return len(self)

    def on_epoch_begin(self):
        """Called before every epoch."""

    def on_epoch_end(self):
        """Called after every epoch; a place to shuffle."""


Sequence = PyDataset
