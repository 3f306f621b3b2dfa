"""Learning rates as functions of the step, under Keras's names."""

from hornbeam.optimizers.schedules.learning_rate_schedule import CosineDecay as CosineDecay
from hornbeam.optimizers.schedules.learning_rate_schedule import (
    CosineDecayRestarts as CosineDecayRestarts,
)
from hornbeam.optimizers.schedules.learning_rate_schedule import (
    ExponentialDecay as ExponentialDecay,
)
from hornbeam.optimizers.schedules.learning_rate_schedule import (
    InverseTimeDecay as InverseTimeDecay,
)
from hornbeam.optimizers.schedules.learning_rate_schedule import (
    LearningRateSchedule as LearningRateSchedule,
)
from hornbeam.optimizers.schedules.learning_rate_schedule import (
    PiecewiseConstantDecay as PiecewiseConstantDecay,
)
from hornbeam.optimizers.schedules.learning_rate_schedule import (
    PolynomialDecay as PolynomialDecay,
)
from hornbeam.saving import object_registration, serialization_lib

object_registration.register_namespace(
    "keras.optimizers.schedules", globals(), LearningRateSchedule
)


def serialize(learning_rate_schedule):
    """Plain data that describes a schedule."""
    return serialization_lib.serialize_keras_object(learning_rate_schedule)


def deserialize(config, custom_objects=None):
    """The schedule that `serialize` described."""
    return serialization_lib.deserialize_keras_object(config, custom_objects=custom_objects)
