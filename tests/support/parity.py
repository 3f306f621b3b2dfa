"""The numbers recorded from real Keras, as the tests read them (see tests/parity/README.md)."""

import importlib.util
import json
import pathlib

_PATH = pathlib.Path(__file__).resolve().parents[1] / "parity" / "recorded.py"
_spec = importlib.util.spec_from_file_location("recorded", _PATH)
_recorded = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_recorded)

cases = _recorded.cases
construct = _recorded.construct
cotangent = _recorded.cotangent
dumps = json.dumps
