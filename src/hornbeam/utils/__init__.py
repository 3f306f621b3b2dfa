"""Helpers around models and data: `hornbeam.utils`."""

from hornbeam.utils.file_utils import get_file as get_file
from hornbeam.utils.numerical_utils import normalize as normalize
from hornbeam.utils.numerical_utils import to_categorical as to_categorical
from hornbeam.utils.sequence_utils import pad_sequences as pad_sequences
