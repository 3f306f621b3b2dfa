"""Helpers around models and data: `hornbeam.utils`."""

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
