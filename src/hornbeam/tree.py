"""Nested structures of lists, tuples and dictionaries (`keras.tree`)."""

from hornbeam.backend.tree import assert_same_structure as assert_same_structure
from hornbeam.backend.tree import flatten as flatten
from hornbeam.backend.tree import flatten_with_path as flatten_with_path
from hornbeam.backend.tree import is_nested as is_nested
from hornbeam.backend.tree import lists_to_tuples as lists_to_tuples
from hornbeam.backend.tree import map_structure as map_structure
from hornbeam.backend.tree import map_structure_up_to as map_structure_up_to
from hornbeam.backend.tree import pack_sequence_as as pack_sequence_as
