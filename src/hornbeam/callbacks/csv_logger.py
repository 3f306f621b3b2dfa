"""Write the logs of every epoch to a CSV file."""

import csv
import os

import numpy as np

from hornbeam.callbacks.callback import Callback


class CSVLogger(Callback):
    """One row per epoch: the epoch's number and all logs, missing ones as NA.

    Args:
        filename: path of the file.
        separator: between the columns.
        append: add to an existing file (the header only if it is empty).
    """

    def __init__(self, filename, separator=",", append=False):
        super().__init__()
        self.filename = os.fspath(filename)
        self.sep = separator
        self.append = append
        self.keys = None
        self.csv_file = None

    def on_train_begin(self, logs=None):
        self._close()
        has_header = (
            self.append and os.path.exists(self.filename) and os.path.getsize(self.filename) > 0
        )
        self._header = not has_header
        self.csv_file = open(self.filename, "a" if self.append else "w", newline="")
        self.keys = None

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(key.startswith("val_") for key in self.keys):
                # validation may come in a later epoch (validation_freq)
                self.keys += [f"val_{key}" for key in self.keys]
            self._writer = csv.DictWriter(
                self.csv_file, ["epoch", *self.keys], delimiter=self.sep, lineterminator="\r\n"
            )
            if self._header:
                self._writer.writeheader()
        row = {key: _cell(logs.get(key, "NA")) for key in self.keys}
        self._writer.writerow({"epoch": epoch, **row})
        self.csv_file.flush()

    def on_train_end(self, logs=None):
        self._close()

    def _close(self):
        if self.csv_file is not None:
            self.csv_file.close()
            self.csv_file = None


def _cell(value):
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        return f"[{', '.join(str(v) for v in value)}]"
    return value
