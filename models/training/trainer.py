"""Trainer: `compile`, `fit`, `evaluate`, `predict` of a model."""

import inspect
import warnings

import numpy as np

from hornbeam import backend, config, metrics, ops, optimizers
from hornbeam import callbacks as callbacks_module
from hornbeam.backend import tree
from hornbeam.callbacks.callback import python_logs
from hornbeam.models.training import loop
from hornbeam.models.training.compile_utils import CompileLoss, CompileMetrics
from hornbeam.models.training.compiled_steps import CompiledSteps
from hornbeam.models.training.data_adapters import get_data_adapter, train_validation_split
from hornbeam.models.training.data_adapters.batches import as_batch, class_weights
from hornbeam.models.training.predictor import Predictor
from hornbeam.saving import serialization_lib
from hornbeam.utils import tracking
from hornbeam.utils.batches import pack_x_y_sample_weight, unpack_x_y_sample_weight


class Trainer(CompiledSteps):
    """What a `Model` adds to a `Layer`: training, evaluation, prediction."""

    def __init__(self):
        # straight into __dict__: the tracking of layers must not see the optimizer's and the
        # compiled metrics' state as the model's own
        self.__dict__.update(
            compiled=False,
            optimizer=None,
            loss=None,
            history=None,
            stop_training=False,
            steps_per_execution=1,
            jit_compile=True,
            train_function=None,
            test_function=None,
            predict_function=None,
            _run_eagerly=False,
            _initial_epoch=None,
            _compile_loss=None,
            _compile_metrics=None,
            _loss_tracker=None,
            _compile_arguments=None,
            _functions={},
            _functions_key=None,
            _prepared=None,
            _log_names=None,
            _predictor=None,
        )

    # -- compile -----------------------------------------------------------------------------

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
    ):
        """Say how the model is trained.

        Args:
            optimizer: an `Optimizer`, or its name.
            loss: a loss (name, function, `Loss`), or one per output (list, dict by name).
            loss_weights: weights of the losses of several outputs.
            metrics: list of metrics; for several outputs a list or dict of lists.
            weighted_metrics: metrics that take sample weights into account.
            run_eagerly: run the step as plain Python, op by op, for debugging.
            steps_per_execution: batches between two calls of batch hooks.
            jit_compile: accepted as in Keras; steps are always compiled unless run_eagerly.
            auto_scale_loss: with a mixed_float16 policy, scale the loss dynamically.

        Example:

        >>> import hornbeam as keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer="adam", loss="mse", metrics=["mae"])
        """
        optimizer = optimizers.get(optimizer)
        arguments = dict(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
        )
        policy = getattr(getattr(self, "dtype_policy", None), "name", None)
        if auto_scale_loss and policy == "mixed_float16" and optimizer is not None:
            if not isinstance(optimizer, optimizers.LossScaleOptimizer):
                optimizer = optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
        names = getattr(self, "output_names", None)
        compile_metrics = None
        if metrics is not None or weighted_metrics is not None:
            compile_metrics = CompileMetrics(metrics, weighted_metrics, names)
        self.__dict__.update(
            optimizer=optimizer,
            loss=loss,
            steps_per_execution=steps_per_execution,
            jit_compile=not run_eagerly,
            stop_training=False,
            compiled=True,
            _run_eagerly=bool(run_eagerly),
            _compile_loss=None if loss is None else CompileLoss(loss, loss_weights, names),
            _compile_metrics=compile_metrics,
            _loss_tracker=_loss_mean(),
            _compile_arguments=arguments,
        )
        self._reset_functions()

    @property
    def run_eagerly(self):
        return self._run_eagerly

    @run_eagerly.setter
    def run_eagerly(self, value):
        self.__dict__["_run_eagerly"] = bool(value)
        self._reset_functions()

    def get_compile_config(self):
        """Plain data from which `compile_from_config` compiles the model again."""
        if not self.compiled or self._compile_arguments is None:
            return None
        return {
            key: serialization_lib.serialize_keras_object(value)
            for key, value in self._compile_arguments.items()
        }

    def compile_from_config(self, config):
        """Compile from what `get_compile_config` gave, and build the optimizer."""
        if type(self).compile is not Trainer.compile:
            warnings.warn(
                f"{type(self).__name__}: the saved model is not compiled, because its class has "
                "its own compile(); define get_compile_config() and compile_from_config() too, or "
                "call compile()",
                stacklevel=2,
            )
            return
        self.compile(**serialization_lib.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def _assert_compiled(self, method):
        if not self.compiled:
            raise ValueError(
                f"{type(self).__name__}.{method}: the model is not compiled; call "
                "model.compile(optimizer=…, loss=…) before"
            )

    # -- metrics -----------------------------------------------------------------------------

    @property
    def metrics(self):
        """The loss tracker, the compiled metrics, and those of the model and its layers."""
        found = []
        if self.compiled:
            found = [self._loss_tracker]
            if self._compile_metrics is not None:
                found.append(self._compile_metrics)
            if self._compile_loss is not None:
                found.extend(self._compile_loss.metrics)
        for layer in self._flatten_layers():
            found.extend(m for m in layer._metrics if not any(m is other for other in found))
        return found

    @property
    def metrics_names(self):
        return [metric.name for metric in self.metrics]

    @property
    def compiled_metrics(self):
        """The metrics given to `compile`, as one metric."""
        return self._compile_metrics

    def reset_metrics(self):
        """Set all metrics back to their start."""
        for metric in self.metrics:
            metric.reset_state()

    def get_metrics_result(self):
        """{name: value} of all metrics."""
        results = {}
        for metric in self.metrics:
            value = metric.result()
            if isinstance(value, dict):
                results.update(value)
            else:
                results[metric.name] = value
        return results

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Update the compiled metrics with a batch; {name: value} of all metrics."""
        if self._compile_metrics is not None:
            self._compile_metrics.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    # -- one step: may be overridden ---------------------------------------------------------

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The total loss of a batch: compiled losses and what layers added."""
        terms = []
        if self._compile_loss is not None:
            loss = self._compile_loss(y, y_pred, sample_weight)
            if loss is not None:
                terms.append(loss)
        for loss in self.losses:
            terms.append(ops.sum(ops.cast(loss, backend.floatx())))
        if not terms:
            raise ValueError(
                f"{type(self).__name__}: there is no loss to train on; pass loss=… to compile(), "
                "or call add_loss() in a layer"
            )
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def _compute_loss(self, x, y, y_pred, sample_weight, training):
        # older overrides have no `training`
        if "training" in inspect.signature(self.compute_loss).parameters:
            return self.compute_loss(x, y, y_pred, sample_weight, training=training)
        return self.compute_loss(x, y, y_pred, sample_weight)

    def train_step(self, data):
        """One training step on a batch: forward, loss, gradients, update, metrics.

        Args:
            data: x, (x, y) or (x, y, sample_weight).

        Returns:
            {name: value} for the logs.
        """
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        with backend.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self._compute_loss(x, y, y_pred, sample_weight, True)
            scaled = loss if self.optimizer is None else self.optimizer.scale_loss(loss)
        self._loss_tracker.update_state(loss, sample_weight=_batch_size(x))
        variables = self.trainable_variables
        if variables and self.optimizer is not None:
            self.optimizer.apply(tape.gradient(scaled, variables), variables)
        elif not variables:
            warnings.warn(f"{type(self).__name__}: it has no trainable weights", stacklevel=2)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def test_step(self, data):
        """One evaluation step on a batch; arguments and result of `train_step`."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        loss = self._compute_loss(x, y, y_pred, sample_weight, False)
        self._loss_tracker.update_state(loss, sample_weight=_batch_size(x))
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def predict_step(self, data):
        """The outputs for a batch."""
        return self(unpack_x_y_sample_weight(data)[0], training=False)

    # -- before the first step ---------------------------------------------------------------

    def _default_steps(self, mode):
        """Whether the logs of a step are just the results of the metrics."""
        cls = type(self)
        step = f"{mode}_step"
        return (
            getattr(cls, step) is getattr(Trainer, step)
            and cls.compute_metrics is Trainer.compute_metrics
            and step not in self.__dict__
        )

    def _prepare(self, batch, training):
        """Build what is not built yet: layers, losses, metrics, optimizer."""
        if self._prepared == self._prepared_for(training):
            return
        needs_outputs = (
            not self.built
            or not all(layer.built for layer in self._flatten_layers())
            or (self._compile_loss is not None and not self._compile_loss.built)
            or (self._compile_metrics is not None and not self._compile_metrics.built)
        )
        if needs_outputs:
            x, y, _ = unpack_x_y_sample_weight(batch)
            own_step = not self._default_steps("train" if training else "test")
            try:
                self._build_from_batch(x, y)
            except Exception:
                # a step of one's own may call the model in its own way, and build it there
                if not own_step:
                    raise
        variables = self.trainable_variables
        key = tuple(id(v) for v in variables)
        if key != self._functions_key:
            # layers were added, frozen or unfrozen since the steps were compiled
            if self._functions_key is not None:
                self._reset_functions()
            self.__dict__["_functions_key"] = key
        if training and isinstance(self.optimizer, optimizers.Optimizer):
            if not self.optimizer.built and variables:
                self.optimizer.build(variables)
        self._place_state()
        if not needs_outputs:  # else what depends on labels may still be open
            self.__dict__["_prepared"] = self._prepared_for(training)

    @staticmethod
    def _prepared_for(training):
        """What `_prepare` depends on."""
        scope = backend.devices.scope_device() if backend.devices.in_use else None
        return training, backend.Variable.changes, tracking.Tracker.changes, scope

    def _place_state(self):
        """State of the optimizer, of metrics and of random numbers goes to where the weights are.

        Otherwise it would be copied there and back in every step.
        """
        if not backend.devices.in_use:
            return
        places = {w.device for w in self.weights}
        scope = backend.devices.scope_device()
        if len(places) != 1 or scope not in (None, *places):
            return
        state = [*self.variables, *(v for m in self.metrics for v in m.variables)]
        if isinstance(self.optimizer, optimizers.Optimizer):
            state += self.optimizer.variables
        for v in state:
            v.move(*places)

    def _build_from_batch(self, x, y):
        def spec(a):
            return backend.KerasTensor(tuple(a.shape), backend.standardize_dtype(a.dtype))

        if self.run_eagerly:  # the model may look at values
            y_pred = self(tree.map_structure(backend.convert_to_tensor, x), training=False)
        else:
            y_pred = backend.symbolic.infer(
                lambda inputs: self(inputs, training=False), tree.map_structure(spec, x)
            )
        self._clear_losses()
        if y is None:
            return
        y = tree.map_structure(lambda a: None if a is None else spec(a), y)
        if self._compile_loss is not None and not self._compile_loss.built:
            self._compile_loss.build(y, y_pred)
        if self._compile_metrics is not None and not self._compile_metrics.built:
            self._compile_metrics.build(y, y_pred)

    def _check_labels(self, batch):
        """Out-of-range integer labels are found on the host, before they reach a step."""
        if self._compile_loss is not None and self._compile_loss.has_classes():
            y = unpack_x_y_sample_weight(batch)[1]
            if y is not None:
                self._compile_loss.check_labels(y)

    def _source(self, x, y, sample_weight, batch_size, steps, shuffle=False, class_weight=None):
        limit = config.max_steps_per_epoch()
        if limit is not None:
            steps = limit if steps is None else min(steps, limit)
        adapter = get_data_adapter(x, y, sample_weight, batch_size, shuffle, class_weight)
        return loop.Source(adapter, steps)

    def _callback_list(self, callbacks, verbose, steps, epochs=1, history=False):
        if isinstance(callbacks, callbacks_module.CallbackList):
            return callbacks
        return callbacks_module.CallbackList(
            callbacks,
            add_history=history,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=epochs,
            steps=steps,
            model=self,
        )

    # -- fit, evaluate, predict --------------------------------------------------------------

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        """Train the model.

        Args:
            x: inputs: an array, a list or dict of arrays, a `PyDataset`, a generator or another
                iterable of batches (x, y) or (x, y, sample_weight).
            y: targets, in the form of the outputs, if x is arrays.
            batch_size: samples per step, for arrays; default 32.
            epochs: number of the last epoch.
            verbose: 0 silent, 1 progress bar, 2 one line per epoch, "auto".
            callbacks: list of `Callback`s.
            validation_split: share of the samples, from the end, to evaluate on.
            validation_data: what to evaluate on: (x, y), (x, y, sample_weight), or a data set.
            shuffle: a new order of the samples in every epoch; "batch" keeps batches together.
            class_weight: dict from class to weight.
            sample_weight: weights of the samples.
            initial_epoch: number of the first epoch.
            steps_per_epoch: steps after which an epoch ends; the data goes on in the next one.
            validation_steps, validation_batch_size: the same for validation.
            validation_freq: evaluate after every so many epochs, or after those listed (from 1).

        Returns:
            `History`: `.history` lists loss and metrics of every epoch.

        Raises:
            ValueError: not compiled; data that is empty or does not fit together or the model.
        """
        self._assert_compiled("fit")
        if x is None:
            raise ValueError(f"{type(self).__name__}.fit: x is missing; expected data to train on")
        limit = config.max_epochs()
        if limit is not None:
            epochs = min(epochs, limit)
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = train_validation_split(
                (x, y, sample_weight), validation_split
            )
        source = self._source(
            x, y, sample_weight, batch_size, steps_per_epoch, shuffle, class_weight
        )
        validation = None
        if validation_data is not None:
            val_x, val_y, val_weight = _unpack_validation(validation_data)
            size = validation_batch_size or batch_size
            validation = self._source(val_x, val_y, val_weight, size, validation_steps)
        first = source.peek()
        self._prepare(first, training=True)
        for part in (source, validation):
            if part is not None and part.is_array:
                self._check_labels((part.adapter.x, part.adapter.y))
        callbacks = self._callback_list(callbacks, verbose, source.num_batches, epochs, True)
        self.stop_training = False
        self.__dict__["_initial_epoch"] = None
        logs = {}
        try:
            callbacks.on_train_begin()
            source.skip_epochs((self._initial_epoch or initial_epoch) - initial_epoch)
            runner = loop.StepRunner(self, "train", callbacks)
            for epoch in range(self._initial_epoch or initial_epoch, epochs):
                self.reset_metrics()
                callbacks.on_epoch_begin(epoch)
                logs = python_logs(runner.run(source))
                if not logs:
                    break
                if validation is not None and _is_due(epoch, validation_freq):
                    val_logs = self._evaluate(validation, callbacks)
                    logs.update({f"val_{name}": value for name, value in val_logs.items()})
                callbacks.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
            self._finish_training()
            callbacks.on_train_end(logs)
        finally:
            callbacks.close()
        return self.history

    def _finish_training(self):
        if isinstance(self.optimizer, optimizers.Optimizer) and self.optimizer.built:
            self.optimizer.finalize_variable_values(self.trainable_variables)

    def _evaluate(self, source, callbacks):
        callbacks.on_test_begin()
        self.reset_metrics()
        logs = python_logs(loop.StepRunner(self, "test", callbacks).run(source))
        callbacks.on_test_end(logs)
        return logs

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        **kwargs,
    ):
        """Loss and metrics on data.

        Args:
            x, y, batch_size, verbose, sample_weight, callbacks: as in `fit`.
            steps: number of batches; default all.
            return_dict: return {name: value}.

        Returns:
            The loss, or a list of the loss and the metrics, or a dict.
        """
        self._assert_compiled("evaluate")
        if kwargs:
            raise TypeError(f"evaluate: unknown arguments; got {sorted(kwargs)}")
        if x is None:
            raise ValueError(f"{type(self).__name__}.evaluate: x is missing")
        source = self._source(x, y, sample_weight, batch_size, steps)
        self._prepare(source.peek(), training=False)
        if source.is_array:
            self._check_labels((source.adapter.x, source.adapter.y))
        callbacks = self._callback_list(callbacks, verbose, source.num_batches)
        try:
            logs = self._evaluate(source, callbacks)
        finally:
            callbacks.close()
        return logs if return_dict else self._in_order(logs)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """Outputs for inputs, as NumPy arrays.

        Args:
            x: inputs, as in `fit`.
            batch_size, verbose, callbacks: as in `fit`.
            steps: number of batches; default all.
        """
        predictor = self._own_predictor()
        if not verbose and callbacks is None and steps is None:
            outputs = predictor.small(x, batch_size)
            if outputs is not None:
                return outputs
        if x is None:
            raise ValueError(f"{type(self).__name__}.predict: x is missing")
        return predictor.predict(x, batch_size, verbose, steps, callbacks)

    def _own_predictor(self):
        if self._predictor is None:
            self.__dict__["_predictor"] = Predictor(self)
        return self._predictor

    # -- single batches ----------------------------------------------------------------------

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """One training step on a batch; loss and metrics (means since the last reset)."""
        self._assert_compiled("train_on_batch")
        data = as_batch((x, y, sample_weight))
        if class_weight is not None:
            x, y, sample_weight = unpack_x_y_sample_weight(data)
            data = (x, y, class_weights(y, sample_weight, class_weight))
        self._prepare(data, training=True)
        self._check_labels(data)
        logs = python_logs(self.make_train_function()(data))
        return logs if return_dict else self._in_order(logs)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """One evaluation step on a batch; loss and metrics (means since the last reset)."""
        self._assert_compiled("test_on_batch")
        data = as_batch((x, y, sample_weight))
        self._prepare(data, training=False)
        self._check_labels(data)
        logs = python_logs(self.make_test_function()(data))
        return logs if return_dict else self._in_order(logs)

    def predict_on_batch(self, x):
        """Outputs for one batch, as NumPy arrays."""
        function = self.make_predict_function()
        if function is self._functions.get(("predict", False)) and isinstance(x, np.ndarray):
            outputs = self._own_predictor().small(x, len(x) if x.ndim else None)
            if outputs is not None:
                return outputs
        data = pack_x_y_sample_weight(unpack_x_y_sample_weight(as_batch((x,)))[0])
        return tree.map_structure(backend.convert_to_numpy, function(data))

    def _in_order(self, logs):
        """Values of logs: metrics in their order, others by name; a single one as it is."""
        now = (backend.Variable.changes, tracking.Tracker.changes)
        if self._log_names is None or self._log_names[0] != now:
            names = []
            for metric in self.metrics:
                inner = metric.metrics if isinstance(metric, CompileMetrics) else [metric]
                names.extend(m.name for m in inner)
            self.__dict__["_log_names"] = (now, list(dict.fromkeys(names)))
        names = self._log_names[1]
        values = [logs[name] for name in names if name in logs]
        values += [logs[name] for name in sorted(logs) if name not in names]
        return values[0] if len(values) == 1 else values


def _loss_mean():
    return metrics.Mean(name="loss")


def _batch_size(x):
    return float(tree.flatten(x)[0].shape[0])


def _unpack_validation(data):
    from hornbeam.utils.py_dataset import PyDataset

    if isinstance(data, (tuple, list)) and not isinstance(data, PyDataset):
        return unpack_x_y_sample_weight(tuple(data))
    return data, None, None


def _is_due(epoch, validation_freq):
    if isinstance(validation_freq, (int, np.integer)):
        return (epoch + 1) % validation_freq == 0
    if isinstance(validation_freq, (list, tuple, set, range)):
        return epoch + 1 in validation_freq
    raise ValueError(
        f"fit: validation_freq must be an integer or a list of epochs; got {validation_freq!r}"
    )
