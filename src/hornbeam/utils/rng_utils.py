"""One seed for everything random."""

import random

import numpy as np


def set_random_seed(seed):
    """Seed Python's `random`, NumPy, and with them weights, dropout and shuffling.

    Two runs with the same seed give the same bits.

    Args:
        seed: an integer in [0, 2³²).

    Raises:
        ValueError: no such integer.

    >>> set_random_seed(7)
    """
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"set_random_seed: expected an integer in [0, 2**32), got {seed!r}")
    random.seed(int(seed))
    np.random.seed(int(seed))
    from hornbeam import random as generators  # above this package

    generators.seed_all(int(seed))
