"""No code compiled for one instruction-set level can be used by another.

Each file of csrc/ops is compiled once per level. A function with weak linkage (an inline function
or template of a shared header) would be kept once, by the linker's choice, and could bring AVX-512
to a machine without it. So the objects must not define weak functions outside of their level.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OBJECTS = [p for p in (ROOT / "build").glob("*/ops/CMakeFiles/hornbeam_ops_*/*.o")]


@pytest.mark.skipif(not OBJECTS, reason="no build folder with object files")
@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_kernel_objects_define_no_shared_code():
    bad = []
    for path in OBJECTS:
        level = path.parts[path.parts.index("CMakeFiles") + 1].split("_ops_")[1].split(".")[0]
        out = subprocess.run(["nm", "-C", str(path)], capture_output=True, text=True, check=True)
        for line in out.stdout.splitlines():
            kind = line[17:18]
            name = line[19:]
            if kind in "WVu" and f"hb::{level}::" not in name and not name.startswith("DW.ref"):
                bad.append(f"{path.name} [{level}]: {name}")
    assert not bad, "\n".join(bad[:20])
