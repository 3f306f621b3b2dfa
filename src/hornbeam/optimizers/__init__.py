"""Optimizers under Keras's names."""

from hornbeam.optimizers import schedules as schedules
from hornbeam.optimizers.adadelta import Adadelta as Adadelta
from hornbeam.optimizers.adafactor import Adafactor as Adafactor
from hornbeam.optimizers.adagrad import Adagrad as Adagrad
from hornbeam.optimizers.adam import Adam as Adam
from hornbeam.optimizers.adamax import Adamax as Adamax
from hornbeam.optimizers.adamw import AdamW as AdamW
from hornbeam.optimizers.ftrl import Ftrl as Ftrl
from hornbeam.optimizers.lamb import Lamb as Lamb
from hornbeam.optimizers.lion import Lion as Lion
from hornbeam.optimizers.loss_scale_optimizer import LossScaleOptimizer as LossScaleOptimizer
from hornbeam.optimizers.nadam import Nadam as Nadam
from hornbeam.optimizers.optimizer import Optimizer as Optimizer
from hornbeam.optimizers.rmsprop import RMSprop as RMSprop
from hornbeam.optimizers.sgd import SGD as SGD
from hornbeam.saving import object_registration, serialization_lib

# Keras finds optimizers by the lower-case class name ("adamw", "rmsprop")
_BY_NAME = {
    key: obj
    for name, obj in list(globals().items())
    if isinstance(obj, type) and issubclass(obj, Optimizer)
    for key in (name, name.lower())
}
object_registration.register_namespace("keras.optimizers", globals(), Optimizer)


def serialize(optimizer):
    """Plain data that describes an optimizer."""
    return serialization_lib.serialize_keras_object(optimizer)


def deserialize(config, custom_objects=None):
    """The optimizer that `serialize` described."""
    return serialization_lib.deserialize_keras_object(
        config, custom_objects=custom_objects, module_objects=_BY_NAME
    )


def get(identifier):
    """An optimizer from an instance, a name such as `"adam"`, a config, a class, or None.

    Raises:
        ValueError: none of these.

    Example:

    >>> type(get("sgd")).__name__
    'SGD'
    """
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    found = identifier
    if isinstance(identifier, dict):
        found = deserialize(identifier)
    elif isinstance(identifier, str):
        found = _BY_NAME.get(identifier, _BY_NAME.get(identifier.lower(), identifier))
        if found is identifier:
            found = deserialize(identifier)
    if isinstance(found, type) and issubclass(found, Optimizer):
        found = found()
    if isinstance(found, Optimizer):
        return found
    raise ValueError(
        f"optimizer: unknown optimizer; expected an Optimizer, a config or one of "
        f"{sorted(_BY_NAME)}, got {identifier!r}"
    )
