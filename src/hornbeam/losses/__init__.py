"""Loss functions and classes, under Keras's names."""

import inspect

from hornbeam.losses.classification import BinaryCrossentropy as BinaryCrossentropy
from hornbeam.losses.classification import BinaryFocalCrossentropy as BinaryFocalCrossentropy
from hornbeam.losses.classification import CategoricalCrossentropy as CategoricalCrossentropy
from hornbeam.losses.classification import (
    CategoricalFocalCrossentropy as CategoricalFocalCrossentropy,
)
from hornbeam.losses.classification import (
    CategoricalGeneralizedCrossEntropy as CategoricalGeneralizedCrossEntropy,
)
from hornbeam.losses.classification import CategoricalHinge as CategoricalHinge
from hornbeam.losses.classification import Hinge as Hinge
from hornbeam.losses.classification import KLDivergence as KLDivergence
from hornbeam.losses.classification import (
    SparseCategoricalCrossentropy as SparseCategoricalCrossentropy,
)
from hornbeam.losses.classification import SquaredHinge as SquaredHinge
from hornbeam.losses.classification import binary_crossentropy as binary_crossentropy
from hornbeam.losses.classification import binary_focal_crossentropy as binary_focal_crossentropy
from hornbeam.losses.classification import categorical_crossentropy as categorical_crossentropy
from hornbeam.losses.classification import (
    categorical_focal_crossentropy as categorical_focal_crossentropy,
)
from hornbeam.losses.classification import (
    categorical_generalized_cross_entropy as categorical_generalized_cross_entropy,
)
from hornbeam.losses.classification import categorical_hinge as categorical_hinge
from hornbeam.losses.classification import hinge as hinge
from hornbeam.losses.classification import kl_divergence as kl_divergence
from hornbeam.losses.classification import (
    sparse_categorical_crossentropy as sparse_categorical_crossentropy,
)
from hornbeam.losses.classification import squared_hinge as squared_hinge
from hornbeam.losses.loss import Loss as Loss
from hornbeam.losses.loss import LossFunctionWrapper as LossFunctionWrapper
from hornbeam.losses.overlap import Circle as Circle
from hornbeam.losses.overlap import Dice as Dice
from hornbeam.losses.overlap import Tversky as Tversky
from hornbeam.losses.overlap import circle as circle
from hornbeam.losses.overlap import dice as dice
from hornbeam.losses.overlap import tversky as tversky
from hornbeam.losses.regression import CosineSimilarity as CosineSimilarity
from hornbeam.losses.regression import Huber as Huber
from hornbeam.losses.regression import LogCosh as LogCosh
from hornbeam.losses.regression import MeanAbsoluteError as MeanAbsoluteError
from hornbeam.losses.regression import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from hornbeam.losses.regression import MeanSquaredError as MeanSquaredError
from hornbeam.losses.regression import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError
from hornbeam.losses.regression import Poisson as Poisson
from hornbeam.losses.regression import cosine_similarity as cosine_similarity
from hornbeam.losses.regression import huber as huber
from hornbeam.losses.regression import log_cosh as log_cosh
from hornbeam.losses.regression import mean_absolute_error as mean_absolute_error
from hornbeam.losses.regression import (
    mean_absolute_percentage_error as mean_absolute_percentage_error,
)
from hornbeam.losses.regression import mean_squared_error as mean_squared_error
from hornbeam.losses.regression import (
    mean_squared_logarithmic_error as mean_squared_logarithmic_error,
)
from hornbeam.losses.regression import poisson as poisson
from hornbeam.saving import object_registration, serialization_lib

FUNCTIONS = {
    fn.__name__: fn
    for fn in (
        binary_crossentropy,
        binary_focal_crossentropy,
        categorical_crossentropy,
        categorical_focal_crossentropy,
        categorical_generalized_cross_entropy,
        categorical_hinge,
        circle,
        cosine_similarity,
        dice,
        hinge,
        huber,
        kl_divergence,
        log_cosh,
        mean_absolute_error,
        mean_absolute_percentage_error,
        mean_squared_error,
        mean_squared_logarithmic_error,
        poisson,
        sparse_categorical_crossentropy,
        squared_hinge,
        tversky,
    )
}
_ALIASES = {
    "bce": binary_crossentropy,
    "BCE": binary_crossentropy,
    "kld": kl_divergence,
    "KLD": kl_divergence,
    "logcosh": log_cosh,
    "mae": mean_absolute_error,
    "MAE": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "MAPE": mean_absolute_percentage_error,
    "mse": mean_squared_error,
    "MSE": mean_squared_error,
    "msle": mean_squared_logarithmic_error,
    "MSLE": mean_squared_logarithmic_error,
}
_CLASSES = {
    name: obj
    for name, obj in list(globals().items())
    if inspect.isclass(obj) and issubclass(obj, Loss)
}
_BY_NAME = {**_CLASSES, **FUNCTIONS, **_ALIASES}

object_registration.register_namespace("keras.losses", globals(), Loss)
for _fn in FUNCTIONS.values():
    object_registration.register_builtin(_fn, "keras.losses")


def serialize(loss):
    """Plain data that describes a loss instance or function."""
    return serialization_lib.serialize_keras_object(loss)


def deserialize(name, custom_objects=None):
    """The loss that `serialize` described, or the function or class of that name."""
    return serialization_lib.deserialize_keras_object(
        name, custom_objects=custom_objects, module_objects=_BY_NAME
    )


def get(identifier):
    """A loss from a name such as `"mse"`, a config, a class, a callable, or None.

    Names of functions give the function, names of classes an instance.

    Raises:
        ValueError: none of these.

    Example:

    >>> get("mse") is mean_squared_error
    True
    """
    if identifier is None:
        return None
    found = deserialize(identifier) if isinstance(identifier, (dict, str)) else identifier
    if inspect.isclass(found):
        found = found()
    if callable(found):
        return found
    raise ValueError(
        f"loss: unknown loss; expected a callable, a config or one of {sorted(_BY_NAME)}, "
        f"got {identifier!r}"
    )
