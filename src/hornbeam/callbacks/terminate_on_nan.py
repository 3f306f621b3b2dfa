"""Stop training at a loss that is not finite."""

import math

from hornbeam.callbacks.callback import Callback
from hornbeam.utils.progbar import print_line


class TerminateOnNaN(Callback):
    """End `fit` at the first batch whose loss is NaN or infinite.

    Args:
        raise_error: raise a RuntimeError instead, so that nothing later (such as a checkpoint at
            the end of the epoch) sees the broken weights.
    """

    def __init__(self, raise_error=False):
        super().__init__()
        self.raise_error = raise_error

    def on_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(
                f"TerminateOnNaN: batch {batch} has the loss {loss}. Likely causes: NaN in the "
                "data, or a learning rate that is too high"
            )
        print_line(f"Batch {batch}: Invalid loss, terminating training")
        self.model.stop_training = True
