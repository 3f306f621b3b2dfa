"""Half a minute of everything: run before every commit that lands."""

import numpy as np

from hornbeam import backend
from hornbeam.backend import _core


def test_the_core_loads_and_names_its_level():
    assert _core.isa_level() in ("baseline", "avx2", "avx512", "amx")
    assert _core.num_threads() >= 1


def test_a_tensor_goes_to_numpy_and_back():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = backend.convert_to_tensor(a)
    assert t.shape == (2, 3) and t.dtype == "float32"
    np.testing.assert_array_equal(np.asarray(t), a)
