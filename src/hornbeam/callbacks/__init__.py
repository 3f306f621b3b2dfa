"""Callbacks under Keras's names."""

from hornbeam.callbacks.backup_and_restore import BackupAndRestore as BackupAndRestore
from hornbeam.callbacks.callback import Callback as Callback
from hornbeam.callbacks.callback import CallbackList as CallbackList
from hornbeam.callbacks.csv_logger import CSVLogger as CSVLogger
from hornbeam.callbacks.early_stopping import EarlyStopping as EarlyStopping
from hornbeam.callbacks.history import History as History
from hornbeam.callbacks.lambda_callback import LambdaCallback as LambdaCallback
from hornbeam.callbacks.learning_rate_scheduler import (
    LearningRateScheduler as LearningRateScheduler,
)
from hornbeam.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from hornbeam.callbacks.progbar_logger import ProgbarLogger as ProgbarLogger
from hornbeam.callbacks.reduce_lr_on_plateau import ReduceLROnPlateau as ReduceLROnPlateau
from hornbeam.callbacks.swap_ema_weights import SwapEMAWeights as SwapEMAWeights
from hornbeam.callbacks.terminate_on_nan import TerminateOnNaN as TerminateOnNaN
