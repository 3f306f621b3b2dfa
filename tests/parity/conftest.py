"""Lets the tests of this folder import `recorded`, which the recording script uses too."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
