"""Drives batches through the compiled steps.

In-memory arrays go to the epoch runner of the program, many steps per call; anything else, or
`run_eagerly=True`, goes batch by batch. Either way the metrics live in variables, so nothing has to
come back from a step unless a callback asks for it.
"""

import time
import warnings

from hornbeam.models.training.data_adapters import ArrayAdapter

# Seconds between two returns to Python while a progress bar is shown.
_PROGRESS_SECONDS = 0.15


class Source:
    """A data adapter with the position of the next batch, which may run across epochs.

    Args:
        adapter: where batches come from.
        steps: steps per epoch; None: one pass.
    """

    def __init__(self, adapter, steps=None):
        if steps is not None and steps < 1:
            raise ValueError(f"fit: the number of steps must be positive; got {steps}")
        self.adapter = adapter
        self.steps = steps
        self._iterator = None
        self._order = None
        self._position = 0
        self._exhausted = False

    @property
    def num_batches(self):
        return self.steps or self.adapter.num_batches

    @property
    def is_array(self):
        return isinstance(self.adapter, ArrayAdapter)

    def skip_epochs(self, count):
        """Draw the orders of `count` epochs without using them: those of a run that was resumed."""
        if self.is_array and self.steps is None:
            for _ in range(count):
                self.adapter.order()

    def peek(self):
        """The first batch, which the next epoch still gets."""
        if self.is_array:
            return self.adapter.example(self.adapter.batch_size)
        if self._iterator is None:
            self._iterator = self.adapter.batches()
        first = next(self._iterator, None)
        if first is None:
            raise ValueError("data: the data set is empty; expected at least one batch, got 0")
        self._iterator = _chain(first, self._iterator)
        return first

    def batches(self):
        """The batches of one epoch."""
        limit = self.steps or self.adapter.num_batches
        done = 0
        self.adapter.on_epoch_begin()
        while limit is None or done < limit:
            if self._iterator is None:
                if self._exhausted:
                    break
                self._iterator = self.adapter.batches()
            batch = next(self._iterator, None)
            if batch is None:
                self._iterator = None
                self._exhausted = self.adapter.one_pass
                break
            done += 1
            yield batch
        if done == 0 or (limit is not None and done < limit):
            self._ran_out(done, limit)
        if self.steps is None and self._iterator is not None and not self.adapter.one_pass:
            # the pass is over: the next epoch begins a new one
            close = getattr(self._iterator, "close", None)
            self._iterator = None
            if close is not None:
                close()
        self.adapter.on_epoch_end()

    def _ran_out(self, done, limit):
        text = f"data: the input ran out after {done} batches"
        if limit:
            text += f" of {limit}"
        if self.adapter.one_pass:
            text += (
                "; the training ends here. A generator is used up after one pass: give one that "
                "goes on, a PyDataset, or steps_per_epoch times epochs batches"
            )
        else:
            text += "; the epoch ends early. Give no more steps than there are batches"
        warnings.warn(text, stacklevel=3)

    def spans(self):
        """For arrays: (order, first step, number of steps) of one epoch."""
        total = self.adapter.num_batches
        if self._order is None or self._position >= total:
            self._order, self._position = (self.adapter.order(),), 0
        first = self._position
        count = min(self.steps or total, total - first)
        if self.steps and count < self.steps and first == 0:
            self._ran_out(count, self.steps)
        self._position = first + count
        return self._order[0], first, count


def _chain(first, rest):
    yield first
    yield from rest


class StepRunner:
    """Runs one epoch of training or evaluation.

    Args:
        model: the model.
        mode: "train" or "test".
        callbacks: a CallbackList.
    """

    def __init__(self, model, mode, callbacks):
        self.model = model
        self.mode = mode
        self.callbacks = callbacks
        self._begin = getattr(callbacks, f"on_{mode}_batch_begin")
        self._end = getattr(callbacks, f"on_{mode}_batch_end")
        self._every_batch = callbacks.wants_batches(mode)
        self._shows = any(
            getattr(c, "shows_progress", False) and getattr(c, "verbose", 0) == 1 for c in callbacks
        )

    def run(self, source):
        """One epoch; returns its logs (tensors, or floats)."""
        if source.is_array and not self.model.run_eagerly:
            return self._run_arrays(source)
        return self._run_batches(source)

    def _stopped(self):
        return self.mode == "train" and self.model.stop_training

    def _run_batches(self, source):
        model, logs = self.model, None
        quiet = not self._every_batch and not model.run_eagerly and model._default_steps(self.mode)
        step = model._step_function(self.mode, True) if quiet else model._batch_function(self.mode)
        last_shown, index = time.perf_counter(), -1
        group = max(int(self.model.steps_per_execution), 1)
        for index, batch in enumerate(source.batches()):
            self.model._check_labels(batch)
            if self._every_batch and index % group == 0:
                self._begin(index)
            logs = step(batch)
            if self._every_batch and (index + 1) % group == 0:
                self._end(index, logs)
                self._progress(index, logs)
            elif self._shows and time.perf_counter() - last_shown > _PROGRESS_SECONDS:
                last_shown = time.perf_counter()
                self._progress(index, logs)
            if self._stopped():
                break
        if self._every_batch and index >= 0 and (index + 1) % group:
            self._end(index, logs)
        if index < 0:
            self.model.stop_training = True
            return {}
        self._progress(index, logs)
        return model._metrics_now() if quiet else model._final_logs(logs)

    def _run_arrays(self, source):
        data = source.adapter
        order, first, count = source.spans()
        quiet = not self._every_batch and self.model._default_steps(self.mode)
        function = self.model._step_function(self.mode, quiet)
        end = first + count
        full_end = min(end, data.num_batches - bool(data.remainder))
        logs, done = None, 0
        if full_end > first:
            program = function.concrete(data.example(data.batch_size))
            batches = program.batches(data.arrays, order, data.batch_size, first, full_end)
            for _, size in self._chunks(first, full_end):
                if self._every_batch:
                    self._begin(done)
                logs = batches.run(size)
                done += size
                self._after(done - 1, logs, quiet)
                if self._stopped():
                    break
            del batches
        if end > full_end and not self._stopped():
            program = function.concrete(data.example(data.remainder))
            skipped = full_end_of(data)
            if order is None:
                arrays, rows = [a[skipped:] for a in data.arrays], None
            else:
                arrays, rows = data.arrays, order[skipped:]
            if self._every_batch:
                self._begin(done)
            logs = program.run_batches(arrays, rows, data.remainder, 0, 1)
            done += 1
            self._after(done - 1, logs, quiet)
        if quiet:
            return self.model._metrics_now()
        return self.model._final_logs(logs)

    def _chunks(self, first, end):
        """(first step, number of steps) of every call of the program.

        One call for all, unless callbacks want batches or a bar wants to move: then the size
        follows the time that a step takes.
        """
        if self._every_batch:
            size = max(int(self.model.steps_per_execution), 1)
            while first < end:
                yield first, min(size, end - first)
                first += size
            return
        size = 1 if self._shows else end - first
        while first < end:
            size = min(size, end - first)
            start = time.perf_counter()
            yield first, size
            first += size
            seconds = time.perf_counter() - start
            size = max(1, min(4 * size, int(size * _PROGRESS_SECONDS / max(seconds, 1e-9))))

    def _after(self, index, logs, quiet):
        if self._every_batch:
            self._end(index, logs)
            if self._shows:
                return
        self._progress(index, None if quiet else logs)

    def _progress(self, index, logs):
        if not self._shows:
            # plain displays only want to know how far the epoch came
            self.callbacks.progress(self.mode, index, dict)
            return
        from hornbeam.callbacks.callback import python_logs

        self.callbacks.progress(
            self.mode,
            index,
            lambda: python_logs(self.model._metrics_now() if logs is None else logs),
        )


def full_end_of(data):
    """Number of samples in full batches."""
    return data.num_samples - data.remainder
