"""The compiled forms of a model's steps, and the results of its metrics."""

from hornbeam import backend
from hornbeam.backend import tree


class CompiledSteps:
    """What `Trainer` keeps compiled: its steps, per mode, and the reading of its metrics."""

    def _reset_functions(self):
        """Forget compiled steps: the model, or what is done with it, changed."""
        self.__dict__.update(
            train_function=None,
            test_function=None,
            predict_function=None,
            _predictor=None,
            _prepared=None,
            _log_names=None,
        )
        self._functions.clear()

    def _step_function(self, mode, quiet):
        """The compiled step of `mode`; a quiet one returns nothing: no result is computed."""
        function = self._functions.get((mode, quiet))
        if function is None:
            step = getattr(self, f"{mode}_step")

            def run(data):
                logs = step(data)
                self._clear_losses()  # they are symbolic and belong to this trace
                return None if quiet else logs

            function = self._functions[mode, quiet] = backend.function(run)
        return function

    def make_train_function(self, force=False):
        if force or self.train_function is None:
            self.__dict__["train_function"] = self._batch_function("train")
        return self.train_function

    def make_test_function(self, force=False):
        if force or self.test_function is None:
            self.__dict__["test_function"] = self._batch_function("test")
        return self.test_function

    def make_predict_function(self, force=False):
        if force or self.predict_function is None:
            self.__dict__["predict_function"] = self._batch_function("predict")
        return self.predict_function

    def _batch_function(self, mode):
        """Function of one batch: the compiled step, or the plain one."""
        if not self.run_eagerly:
            return self._step_function(mode, False)
        step = getattr(self, f"{mode}_step")

        def run(data):
            return step(tree.map_structure(_to_tensor, data))

        return run

    def _metrics_now(self):
        """`get_metrics_result` as one program, to be read between steps."""
        if self.run_eagerly or not self._default_steps("train"):
            return self.get_metrics_result()
        key = ("metrics", *(id(m) for m in self.metrics))
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = backend.function(lambda: self.get_metrics_result())
        return function()

    def _final_logs(self, logs):
        """Logs of an epoch: the metrics if that is what the step returned, else its last result."""
        results = self._metrics_now()
        if isinstance(logs, dict) and set(logs) != set(results):
            return logs
        tracker = self._loss_tracker
        if isinstance(logs, dict) and tracker is not None and not float(tracker.count):
            return logs  # a step of one's own that does not keep the mean of the loss
        return results


def _to_tensor(x):
    return x if x is None else backend.convert_to_tensor(x)
