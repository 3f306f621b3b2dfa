"""Saving and loading (`keras.saving`)."""

from hornbeam.saving._files import Limits as Limits
from hornbeam.saving._files import SavedFileError as SavedFileError
from hornbeam.saving.object_registration import CustomObjectScope as CustomObjectScope
from hornbeam.saving.object_registration import custom_object_scope as custom_object_scope
from hornbeam.saving.object_registration import get_custom_objects as get_custom_objects
from hornbeam.saving.object_registration import get_registered_name as get_registered_name
from hornbeam.saving.object_registration import get_registered_object as get_registered_object
from hornbeam.saving.object_registration import (
    register_keras_serializable as register_keras_serializable,
)
from hornbeam.saving.saving_api import load_model as load_model
from hornbeam.saving.saving_api import load_weights as load_weights
from hornbeam.saving.saving_api import save_model as save_model
from hornbeam.saving.saving_api import save_weights as save_weights
from hornbeam.saving.serialization_lib import deserialize_keras_object as deserialize_keras_object
from hornbeam.saving.serialization_lib import serialize_keras_object as serialize_keras_object
