"""Prediction: small requests without detours, large ones by the epoch runner."""

import numpy as np

from hornbeam import backend
from hornbeam.backend import settings, tree
from hornbeam.models.training import loop
from hornbeam.utils.batches import unpack_x_y_sample_weight


class Predictor:
    """Compiled prediction of one model; forgotten when the model is compiled again.

    Args:
        model: the model.
    """

    def __init__(self, model):
        self._model = model
        # (shape, dtype) of a single small input, settings → (program, dtype or None)
        self._programs = {}

    def small(self, x, batch_size):
        """Outputs for one NumPy array that fits in one batch, or None if it is not such a case.

        The way of a request in a service: one dictionary look-up, one call of the program.
        """
        if type(x) is not np.ndarray or self._model.run_eagerly:
            return None
        known = self._programs.get((x.shape, x.dtype, settings.key()))
        if known is None:
            known = self._compile_small(x, batch_size)
            if known is None:
                return None
        program, dtype = known
        if dtype is not None:
            x = x.astype(dtype)
        elif not x.flags.c_contiguous:
            x = np.ascontiguousarray(x)
        return program.run_numpy([x])

    def _compile_small(self, x, batch_size):
        if not x.ndim or not 0 < x.shape[0] <= (batch_size or 32) or x.dtype.kind not in "fiub":
            return None
        model, dtype = self._model, None
        if x.dtype == np.float64 and backend.floatx() != "float64":
            dtype = np.dtype("float32")
        elif not x.dtype.isnative:
            dtype = x.dtype.newbyteorder("=")
        example = x if dtype is None else x.astype(dtype)
        self._build((example,))
        program = model._step_function("predict", False).concrete(example)
        if any(v.dtype == "bfloat16" for v in program.graph.outputs):
            return None
        if len(self._programs) >= 64:
            self._programs.clear()
        self._programs[x.shape, x.dtype, settings.key()] = known = (program, dtype)
        return known

    def _build(self, batch):
        model = self._model
        if not model.built or not all(layer.built for layer in model._flatten_layers()):
            model._build_from_batch(unpack_x_y_sample_weight(batch)[0], None)

    def predict(self, x, batch_size, verbose, steps, callbacks):
        """The general case: any data, callbacks, progress."""
        model = self._model
        source = model._source(x, None, None, batch_size, steps)
        self._build(source.peek())
        callbacks = model._callback_list(callbacks, verbose, source.num_batches)
        try:
            callbacks.on_predict_begin()
            if source.is_array and not model.run_eagerly and not steps:
                outputs = self._predict_arrays(source.adapter, callbacks)
            else:
                outputs = self._predict_batches(source, callbacks)
            callbacks.on_predict_end()
        finally:
            callbacks.close()
        return outputs

    def _predict_batches(self, source, callbacks):
        step, parts = self._model._batch_function("predict"), []
        for index, batch in enumerate(source.batches()):
            callbacks.on_predict_batch_begin(index)
            outputs = tree.map_structure(backend.convert_to_numpy, step(batch))
            parts.append(outputs)
            callbacks.on_predict_batch_end(index, {"outputs": outputs})
        if not parts:
            raise ValueError("predict: the data set is empty; expected at least one batch, got 0")
        return tree.map_structure(lambda *columns: _concatenate(columns), *parts)

    def _predict_arrays(self, data, callbacks):
        function = self._model._step_function("predict", False)
        full = data.num_samples - data.remainder
        program = function.concrete(data.example(data.batch_size))
        values = program.graph.outputs
        rows_first = all(v.shape[:1] == (data.batch_size,) for v in values)
        if not rows_first or any(v.dtype == "bfloat16" for v in values):
            return self._predict_batches(loop.Source(data), callbacks)
        outputs = [np.empty((data.num_samples, *v.shape[1:]), v.dtype) for v in values]
        runner = loop.StepRunner(self._model, "predict", callbacks)
        steps = full // data.batch_size
        if steps:
            batches = program.batches(data.arrays, None, data.batch_size, 0, steps, outputs)
            for start, count in runner._chunks(0, steps):
                rows = slice(start * data.batch_size, (start + count) * data.batch_size)
                self._run(runner, program, batches, [o[rows] for o in outputs], start, count)
            del batches
        if data.remainder:
            program = function.concrete(data.example(data.remainder))
            rest = [a[full:] for a in data.arrays]
            tails = [o[full:] for o in outputs]
            batches = program.batches(rest, None, data.remainder, 0, 1, tails)
            self._run(runner, program, batches, tails, steps, 1)
        return program.pack(outputs)

    @staticmethod
    def _run(runner, program, batches, outputs, first, count):
        if runner._every_batch:
            runner._begin(first)
        batches.run(count)
        last = first + count - 1
        if runner._every_batch:
            runner._end(last, {"outputs": program.pack(outputs)})
        else:
            runner.callbacks.progress("predict", last, dict)


def _concatenate(columns):
    if columns[0].ndim == 0:
        return np.stack(columns)
    return np.concatenate(columns)
