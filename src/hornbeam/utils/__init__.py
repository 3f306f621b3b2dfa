"""Helpers around models and data: `hornbeam.utils`."""

from hornbeam.backend.dtypes import standardize_dtype as standardize_dtype
from hornbeam.backend.symbolic import is_keras_tensor as is_keras_tensor
from hornbeam.config import disable_interactive_logging as disable_interactive_logging
from hornbeam.config import enable_interactive_logging as enable_interactive_logging
from hornbeam.config import is_interactive_logging_enabled as is_interactive_logging_enabled
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
from hornbeam.utils.batches import pack_x_y_sample_weight as pack_x_y_sample_weight
from hornbeam.utils.batches import unpack_x_y_sample_weight as unpack_x_y_sample_weight
from hornbeam.utils.file_utils import get_file as get_file
from hornbeam.utils.naming import clear_session as clear_session
from hornbeam.utils.naming import get_uid as get_uid
from hornbeam.utils.numerical_utils import normalize as normalize
from hornbeam.utils.numerical_utils import to_categorical as to_categorical
from hornbeam.utils.progbar import Progbar as Progbar
from hornbeam.utils.py_dataset import PyDataset as PyDataset
from hornbeam.utils.py_dataset import Sequence as Sequence
from hornbeam.utils.rng_utils import set_random_seed as set_random_seed
from hornbeam.utils.sequence_utils import pad_sequences as pad_sequences
