"""Saving and loading (`keras.saving`)."""

from hornbeam.saving.object_registration import CustomObjectScope as CustomObjectScope
from hornbeam.saving.object_registration import custom_object_scope as custom_object_scope
from hornbeam.saving.object_registration import get_custom_objects as get_custom_objects
from hornbeam.saving.object_registration import get_registered_name as get_registered_name
from hornbeam.saving.object_registration import get_registered_object as get_registered_object
from hornbeam.saving.object_registration import (
    register_keras_serializable as register_keras_serializable,
)
from hornbeam.saving.serialization_lib import deserialize_keras_object as deserialize_keras_object
from hornbeam.saving.serialization_lib import serialize_keras_object as serialize_keras_object
