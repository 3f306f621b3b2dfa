"""Progress display: a bar where one can be drawn, plain lines elsewhere."""

import shutil
import sys
import time

import numpy as np


def print_line(message, line_break=True):
    """Write a message to standard output, at once."""
    sys.stdout.write(message + ("\n" if line_break else ""))
    sys.stdout.flush()


def can_draw():
    """Whether standard output is a terminal or a notebook."""
    if hasattr(sys.stdout, "isatty") and sys.stdout.isatty():
        return True
    return type(sys.stdout).__module__.startswith("ipykernel")


def resolve_verbose(verbose):
    """`verbose` as 0, 1 or 2; "auto" means 1 where a bar can be drawn, otherwise 2."""
    if verbose == "auto":
        from hornbeam import config  # which imports much; utils stays at the bottom

        return 1 if config.is_interactive_logging_enabled() and can_draw() else 2
    return int(verbose)


class Progbar:
    """Shows how far a run is and the values of its metrics.

    Args:
        target: number of steps, or None if it is not known.
        width: of the bar, in characters.
        verbose: 0 silent, 1 bar (a plain line where no bar can be drawn), 2 one line at the end.
        interval: least seconds between two updates of the bar.
        stateful_metrics: names of values that are shown as they are; others are averaged.
        stateless_metrics: the reverse: only these are averaged.
        unit_name: what a step is called.

    Example:

    >>> bar = Progbar(2, verbose=2)
    >>> bar.update(1, [("loss", 2.0)])
    """

    def __init__(
        self,
        target,
        width=20,
        verbose=1,
        interval=0.05,
        stateful_metrics=None,
        stateless_metrics=None,
        unit_name="step",
    ):
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError("Progbar: give either stateful_metrics or stateless_metrics")
        self.target = target
        self.width = width
        self.verbose = verbose
        self.interval = interval
        self.unit_name = unit_name
        self.stateful_metrics = set(stateful_metrics or ())
        self.stateless_metrics = None if stateless_metrics is None else set(stateless_metrics)
        self._seen = 0
        self._sums = {}  # name → [sum, weight]
        self._start = time.perf_counter()
        self._first_step_end = None
        self._bar = None
        self._last_draw = 0.0

    def _averaged(self, name):
        if self.stateless_metrics is not None:
            return name in self.stateless_metrics
        return name not in self.stateful_metrics

    def update(self, current, values=None, finalize=None):
        """Show that `current` steps are done.

        Args:
            values: list of (name, value).
            finalize: whether it is the last update; default: when the target is reached.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        steps = max(current - self._seen, 1)
        for name, value in values or ():
            value = float(np.mean(value))
            if self._averaged(name) and not finalize:
                total = self._sums.setdefault(name, [0.0, 0])
                total[0] += value * steps
                total[1] += steps
            else:
                self._sums[name] = [value, 1]
        self._seen = current
        if current == 1 and self._first_step_end is None:
            self._first_step_end = time.perf_counter()
        if self.verbose == 1 and can_draw():
            self._draw(current, finalize)
        elif self.verbose and finalize:
            self._print(current)

    def add(self, n, values=None):
        """Show that `n` more steps are done."""
        self.update(self._seen + n, values)

    def close(self):
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _metrics_text(self):
        parts = []
        for name, (total, weight) in self._sums.items():
            value = total / max(weight, 1)
            small = abs(value) <= 1e-3
            parts.append(f"{name}: {value:.4e}" if small else f"{name}: {value:.4f}")
        return parts

    def _step_seconds(self, current):
        now = time.perf_counter()
        if current > 1 and self._first_step_end is not None:
            # the first step traces and compiles
            return (now - self._first_step_end) / (current - 1)
        return (now - self._start) / max(current, 1)

    def _print(self, current):
        count = f"{current}/{self.target}" if self.target else f"{current}/Unknown"
        seconds = time.perf_counter() - self._start
        step = format_time(self._step_seconds(current))
        parts = [count, f"{seconds:.0f}s", f"{step}/{self.unit_name}", *self._metrics_text()]
        print_line(" - ".join(parts))

    def _draw(self, current, finalize):
        now = time.perf_counter()
        if finalize:
            # a plain line stays: it wraps where a bar would be cut
            self.close()
            self._print(current)
            return
        if now - self._last_draw < self.interval:
            return
        self._last_draw = now
        if self._bar is None:
            self._bar = self._new_bar()
        self._bar.n = current
        step = format_time(self._step_seconds(current))
        time_text = f"{now - self._start:.0f}s {step}/{self.unit_name}"
        text = " - ".join([time_text, *self._metrics_text()])
        self._bar.set_description_str(text, refresh=False)
        self._bar.refresh()

    def _new_bar(self):
        from tqdm import tqdm

        form = "{n_fmt}/Unknown {desc}"
        if self.target is not None:
            form = f"{{n_fmt}}/{{total_fmt}} |{{bar:{self.width}}}| {{desc}}"
        known_size = shutil.get_terminal_size((0, 0)).columns > 0
        return tqdm(
            total=self.target,
            file=sys.stdout,
            dynamic_ncols=known_size,
            ncols=None if known_size else 100,
            leave=False,
            bar_format=form,
            ascii=None if can_encode("█") else True,
        )


def can_encode(text):
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def format_time(seconds):
    """Seconds as Keras prints them: 3s, 3ms, 3us."""
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.0f}ms"
    return f"{seconds * 1e6:.0f}us"
