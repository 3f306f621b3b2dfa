"""What the callbacks that watch one value have in common."""

import warnings

from hornbeam.callbacks.callback import Callback


class MonitorCallback(Callback):
    """Knows whether the monitored value improved.

    Args:
        monitor: key of the logs.
        mode: "min", "max" or "auto" (by the metric's own direction; the loss is minimised).
        baseline: first value to improve on.
        min_delta: least change that counts as an improvement.
    """

    def __init__(self, monitor="val_loss", mode="auto", baseline=None, min_delta=0):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            warnings.warn(
                f"{type(self).__name__}: unknown mode {mode!r}; 'auto' is used", stacklevel=3
            )
            mode = "auto"
        self.monitor = monitor
        self.mode = mode
        self.best = baseline
        self.min_delta = abs(min_delta)
        self._sign = {"min": -1, "max": 1}.get(mode)

    def _resolve_mode(self):
        """Find out, at the first epoch's end, which way is better."""
        if self._sign is not None:
            return
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            self._sign = -1
            return
        for metric in _leaf_metrics(getattr(self.model, "metrics", [])):
            # outputs of models with several are logged as <output>_<metric>
            if metric.name == name or name.endswith("_" + metric.name):
                direction = getattr(metric, "_direction", None)
                if direction is not None:
                    self._sign = 1 if direction == "up" else -1
                    return
        if name.endswith("_loss"):
            self._sign = -1
            return
        raise ValueError(
            f"{type(self).__name__}: it is not known whether {self.monitor!r} should rise or "
            "fall; pass mode='max' or mode='min'"
        )

    def _is_improvement(self, value, reference):
        if reference is None:
            return True
        return self._sign * (value - reference) > self.min_delta

    def _monitored(self, logs):
        value = (logs or {}).get(self.monitor)
        if value is None:
            warnings.warn(
                f"{type(self).__name__}: {self.monitor!r} is not in the logs; available: "
                f"{', '.join(sorted(logs or {}))}",
                stacklevel=3,
            )
        return value


def _leaf_metrics(metrics):
    for metric in metrics:
        inner = getattr(metric, "metrics", None)
        if inner:
            yield from inner
        else:
            yield metric
