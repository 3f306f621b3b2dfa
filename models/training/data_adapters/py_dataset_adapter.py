"""PyDataset: batches by number, made ahead of time by workers."""

import collections
import itertools

import numpy as np

from hornbeam.models.training.data_adapters.batches import as_batch

_dataset = None  # in a worker process: the data set


def _start_process(dataset):
    global _dataset
    _dataset = dataset


def _item_in_process(index):
    return _dataset[index]


class PyDatasetAdapter:
    """Batches of a `PyDataset`.

    Attributes:
        num_batches: `num_batches` (or `len()`) of the data set; None if it has no end.
    """

    one_pass = False

    def __init__(self, dataset, shuffle=False, class_weight=None):
        self.dataset = dataset
        self._class_weight = class_weight
        self.batch_size = None
        self._rng = np.random.default_rng(np.random.randint(2**31)) if shuffle else None
        self.num_batches = self._count()
        if self.num_batches == 0:
            raise ValueError("data: the PyDataset is empty; expected at least one batch, got 0")

    def _count(self):
        if hasattr(self.dataset, "num_batches"):
            return self.dataset.num_batches
        return len(self.dataset)

    def _numbers(self):
        if self.num_batches is None:
            return itertools.count()
        if self._rng is not None:
            return iter(self._rng.permutation(self.num_batches).tolist())
        return iter(range(self.num_batches))

    def batches(self):
        """All batches of one pass, in order."""
        workers = getattr(self.dataset, "workers", 1)
        if workers <= 1:
            for number in self._numbers():
                yield as_batch(self.dataset[number], self._class_weight)
            return
        # loaded only here: they are slow to import
        import concurrent.futures
        import multiprocessing

        ahead = max(int(getattr(self.dataset, "max_queue_size", 10)), 1)
        if getattr(self.dataset, "use_multiprocessing", False):
            pool = concurrent.futures.ProcessPoolExecutor(
                workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_process,
                initargs=(self.dataset,),
            )
            item = _item_in_process
        else:
            pool = concurrent.futures.ThreadPoolExecutor(workers, "hornbeam-data")
            item = self.dataset.__getitem__
        pending = collections.deque()
        try:
            for number in self._numbers():
                pending.append(pool.submit(item, number))
                if len(pending) > ahead:
                    yield as_batch(pending.popleft().result(), self._class_weight)
            while pending:
                yield as_batch(pending.popleft().result(), self._class_weight)
        finally:
            # an epoch that ends early must not wait for batches nobody wants
            pool.shutdown(wait=False, cancel_futures=True)

    def on_epoch_begin(self):
        if hasattr(self.dataset, "on_epoch_begin"):
            self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        if hasattr(self.dataset, "on_epoch_end"):
            self.dataset.on_epoch_end()
        self.num_batches = self._count()
