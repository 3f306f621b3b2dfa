"""Metrics under Keras's names."""

import inspect

from hornbeam.losses import binary_crossentropy as binary_crossentropy
from hornbeam.losses import binary_focal_crossentropy as binary_focal_crossentropy
from hornbeam.losses import categorical_crossentropy as categorical_crossentropy
from hornbeam.losses import categorical_focal_crossentropy as categorical_focal_crossentropy
from hornbeam.losses import categorical_hinge as categorical_hinge
from hornbeam.losses import hinge as hinge
from hornbeam.losses import huber as huber
from hornbeam.losses import kl_divergence as kl_divergence
from hornbeam.losses import log_cosh as log_cosh
from hornbeam.losses import mean_absolute_error as mean_absolute_error
from hornbeam.losses import mean_absolute_percentage_error as mean_absolute_percentage_error
from hornbeam.losses import mean_squared_error as mean_squared_error
from hornbeam.losses import mean_squared_logarithmic_error as mean_squared_logarithmic_error
from hornbeam.losses import poisson as poisson
from hornbeam.losses import sparse_categorical_crossentropy as sparse_categorical_crossentropy
from hornbeam.losses import squared_hinge as squared_hinge
from hornbeam.metrics.accuracy import Accuracy as Accuracy
from hornbeam.metrics.accuracy import BinaryAccuracy as BinaryAccuracy
from hornbeam.metrics.accuracy import CategoricalAccuracy as CategoricalAccuracy
from hornbeam.metrics.accuracy import SparseCategoricalAccuracy as SparseCategoricalAccuracy
from hornbeam.metrics.accuracy import SparseTopKCategoricalAccuracy as SparseTopKCategoricalAccuracy
from hornbeam.metrics.accuracy import TopKCategoricalAccuracy as TopKCategoricalAccuracy
from hornbeam.metrics.accuracy import accuracy as accuracy
from hornbeam.metrics.accuracy import binary_accuracy as binary_accuracy
from hornbeam.metrics.accuracy import categorical_accuracy as categorical_accuracy
from hornbeam.metrics.accuracy import sparse_categorical_accuracy as sparse_categorical_accuracy
from hornbeam.metrics.accuracy import (
    sparse_top_k_categorical_accuracy as sparse_top_k_categorical_accuracy,
)
from hornbeam.metrics.accuracy import top_k_categorical_accuracy as top_k_categorical_accuracy
from hornbeam.metrics.auc import AUC as AUC
from hornbeam.metrics.confusion import FalseNegatives as FalseNegatives
from hornbeam.metrics.confusion import FalsePositives as FalsePositives
from hornbeam.metrics.confusion import Precision as Precision
from hornbeam.metrics.confusion import PrecisionAtRecall as PrecisionAtRecall
from hornbeam.metrics.confusion import Recall as Recall
from hornbeam.metrics.confusion import RecallAtPrecision as RecallAtPrecision
from hornbeam.metrics.confusion import SensitivityAtSpecificity as SensitivityAtSpecificity
from hornbeam.metrics.confusion import SpecificityAtSensitivity as SpecificityAtSensitivity
from hornbeam.metrics.confusion import TrueNegatives as TrueNegatives
from hornbeam.metrics.confusion import TruePositives as TruePositives
from hornbeam.metrics.f_score import F1Score as F1Score
from hornbeam.metrics.f_score import FBetaScore as FBetaScore
from hornbeam.metrics.iou import BinaryIoU as BinaryIoU
from hornbeam.metrics.iou import IoU as IoU
from hornbeam.metrics.iou import MeanIoU as MeanIoU
from hornbeam.metrics.iou import OneHotIoU as OneHotIoU
from hornbeam.metrics.iou import OneHotMeanIoU as OneHotMeanIoU
from hornbeam.metrics.metric import Metric as Metric
from hornbeam.metrics.probabilistic import BinaryCrossentropy as BinaryCrossentropy
from hornbeam.metrics.probabilistic import CategoricalCrossentropy as CategoricalCrossentropy
from hornbeam.metrics.probabilistic import CategoricalHinge as CategoricalHinge
from hornbeam.metrics.probabilistic import Hinge as Hinge
from hornbeam.metrics.probabilistic import KLDivergence as KLDivergence
from hornbeam.metrics.probabilistic import Poisson as Poisson
from hornbeam.metrics.probabilistic import (
    SparseCategoricalCrossentropy as SparseCategoricalCrossentropy,
)
from hornbeam.metrics.probabilistic import SquaredHinge as SquaredHinge
from hornbeam.metrics.reduction import Mean as Mean
from hornbeam.metrics.reduction import MeanMetricWrapper as MeanMetricWrapper
from hornbeam.metrics.reduction import Sum as Sum
from hornbeam.metrics.regression import ConcordanceCorrelation as ConcordanceCorrelation
from hornbeam.metrics.regression import CosineSimilarity as CosineSimilarity
from hornbeam.metrics.regression import LogCoshError as LogCoshError
from hornbeam.metrics.regression import MeanAbsoluteError as MeanAbsoluteError
from hornbeam.metrics.regression import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from hornbeam.metrics.regression import MeanSquaredError as MeanSquaredError
from hornbeam.metrics.regression import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError
from hornbeam.metrics.regression import PearsonCorrelation as PearsonCorrelation
from hornbeam.metrics.regression import R2Score as R2Score
from hornbeam.metrics.regression import RootMeanSquaredError as RootMeanSquaredError
from hornbeam.metrics.regression import concordance_correlation as concordance_correlation
from hornbeam.metrics.regression import pearson_correlation as pearson_correlation
from hornbeam.saving import object_registration, serialization_lib
from hornbeam.utils import naming

FUNCTIONS = {
    fn.__name__: fn
    for fn in (
        accuracy,
        binary_accuracy,
        categorical_accuracy,
        concordance_correlation,
        pearson_correlation,
        sparse_categorical_accuracy,
        sparse_top_k_categorical_accuracy,
        top_k_categorical_accuracy,
    )
}
_CLASSES = {
    name: obj
    for name, obj in list(globals().items())
    if inspect.isclass(obj) and issubclass(obj, Metric)
}
# A metric's name or its snake-case form gives the class; "mse" and "MSE" as in Keras. A name that
# is both a class and a function ("mean_squared_error") means the class.
_BY_NAME = {
    **FUNCTIONS,
    "bce": BinaryCrossentropy,
    "BCE": BinaryCrossentropy,
    "mse": MeanSquaredError,
    "MSE": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "MAE": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "MAPE": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
    "MSLE": MeanSquaredLogarithmicError,
    "rmse": RootMeanSquaredError,
    "RMSE": RootMeanSquaredError,
    "logcosh": LogCoshError,
    "cosine_proximity": CosineSimilarity,
    **_CLASSES,
    **{naming.to_snake_case(name): cls for name, cls in _CLASSES.items()},
}

object_registration.register_namespace("keras.metrics", globals(), Metric)
for _fn in FUNCTIONS.values():
    object_registration.register_builtin(_fn, "keras.metrics")


def serialize(metric):
    """Plain data that describes a metric instance or function."""
    return serialization_lib.serialize_keras_object(metric)


def deserialize(config, custom_objects=None):
    """The metric that `serialize` described, or the class or function of that name."""
    return serialization_lib.deserialize_keras_object(
        config, custom_objects=custom_objects, module_objects=_BY_NAME
    )


def get(identifier):
    """A metric from a name such as `"mae"`, a config, a class, a callable, or None.

    Raises:
        ValueError: none of these.

    Example:

    >>> get("mae")
    <MeanAbsoluteError name=mean_absolute_error>
    """
    if identifier is None:
        return None
    found = deserialize(identifier) if isinstance(identifier, (dict, str)) else identifier
    if inspect.isclass(found):
        found = found()
    if callable(found):
        return found
    raise ValueError(
        f"metric: unknown metric; expected a callable, a config or one of {sorted(_BY_NAME)}, "
        f"got {identifier!r}"
    )
