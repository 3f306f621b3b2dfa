"""Devices by name. For now there is one: the CPU."""

from __future__ import annotations

import contextlib
import platform
import sys
import threading

from hornbeam.backend import _core


class _State(threading.local):
    def __init__(self):
        self.stack: list[str] = []


_state = _State()


def list_devices(device_type: str | None = None) -> list[str]:
    """Names of the devices, e.g. `["cpu:0"]`."""
    devices = ["cpu:0"]
    return [d for d in devices if device_type is None or d.startswith(device_type.lower())]


def canonical(name: str) -> str:
    short = str(name).lower().replace("/device:", "").lstrip("/")
    if short in ("cpu", "gpu", "cuda"):
        short += ":0"
    short = short.replace("gpu:", "cuda:")
    if short not in list_devices():
        raise ValueError(f"device: expected one of {list_devices()}, got {name!r}")
    return short


@contextlib.contextmanager
def device(name: str):
    """`with device("cpu:0"): …` – tensors made inside live there."""
    _state.stack.append(canonical(name))
    try:
        yield
    finally:
        _state.stack.pop()


def current_device() -> str:
    return _state.stack[-1] if _state.stack else "cpu:0"


_CUDA_LIBRARIES = (
    ("driver", "libcuda.so.1"),
    ("NVRTC", "libnvrtc.so.13"),
    ("NVRTC", "libnvrtc.so.12"),
    ("cuBLASLt", "libcublasLt.so.13"),
    ("cuBLASLt", "libcublasLt.so.12"),
    ("cuDNN", "libcudnn.so.9"),
    ("NCCL", "libnccl.so.2"),
)


def _cuda_lines() -> list[str]:
    """Each CUDA library that could be used: found, or what the loader says."""
    import ctypes

    lines = []
    for what, name in _CUDA_LIBRARIES:
        try:
            ctypes.CDLL(name)
            lines.append(f"  {what:9} {name}: found")
        except OSError as e:
            lines.append(f"  {what:9} {name}: {e}")
    return lines


def show_config() -> None:
    """Prints version, instruction set, threads, devices and what was found of CUDA."""
    from hornbeam.version import __version__

    level, machine = _core.isa_level(), _core.machine_isa_level()
    forced = "" if level == machine else f" (the machine has {machine}; HORNBEAM_ISA)"
    print(f"hornbeam {__version__}, Python {sys.version.split()[0]}, {platform.platform()}")
    print(f"core: {_core.__file__}")
    print(f"instruction set: {level}{forced}")
    print(f"threads: {_core.num_threads()}")
    print(f"devices: {', '.join(list_devices())}")
    print("CUDA: this build has no CUDA kernels; libraries on this machine:")
    print("\n".join(_cuda_lines()))
