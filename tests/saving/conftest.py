import pathlib
import sys

# the helpers beside the tests: common, hostile, fixtures/architectures
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
