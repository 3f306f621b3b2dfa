"""Shared helpers are in tests/support: `from support.op_case import OpCase`."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
