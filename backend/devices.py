"""Devices by name, and which of them a computation takes.

A scope decides: `with device("cuda:0"): …`. Outside of one, computation follows its data: an op runs
where its inputs live. Nothing here costs anything until another device than `cpu:0` is named.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
import threading

from hornbeam.backend import _core

HOST = "cpu:0"

#: Whether an unset HORNBEAM_DEVICE means "auto", the first GPU where there is one. Off until the kernels
#: have run on a GPU (docs/gpu.md).
AUTOMATIC = False

#: Whether a device other than the CPU was ever named: until then nobody asks where a tensor lives.
in_use = False

#: How many variables were moved to another device: programs that hold them are compiled again.
moves = 0


class _State(threading.local):
    def __init__(self):
        self.stack: list[str | None] = []


_state = _State()


def list_devices(device_type: str | None = None) -> list[str]:
    """Names of the devices of this machine, e.g. `["cpu:0", "cuda:0"]`."""
    _load_cuda()
    devices = _core.devices()
    return [d for d in devices if device_type is None or d.startswith(_short(device_type))]


@functools.cache
def _load_cuda() -> str:
    """Opens the CUDA kernels once; returns why there are none, or an empty text."""
    if os.environ.get("HORNBEAM_DEVICE", "").lower() in ("cpu", HOST):
        return "HORNBEAM_DEVICE=cpu"
    emulated = os.environ.get("HORNBEAM_CUDA_EMULATED")  # a library for tests (docs/gpu.md)
    if emulated:
        return _core.load_plugin(emulated, "")
    library = os.path.join(os.path.dirname(_core.__file__), "_cuda.so")
    if not os.path.exists(library):
        return "this build has no CUDA kernels (build with -Ccmake.define.HORNBEAM_CUDA=ON)"
    problem = _core.load_plugin(library, "libcuda.so.1")
    if problem == "libcuda.so.1 was not found":
        return "libcuda.so.1 was not found: no NVIDIA driver on this machine"
    return problem


def set_cpu_devices(count: int) -> None:
    """Makes the devices `cpu:0` … `cpu:<count - 1>`, to try placement and transfers on.

    All of them are the processor; a tensor lives on one of them all the same. Devices that exist
    stay.
    """
    _core.set_num_cpu_devices(count)


def _short(name: str) -> str:
    return str(name).lower().replace("/device:", "").lstrip("/").replace("gpu", "cuda")


def canonical(name: str) -> str:
    """The full name ("gpu" is "cuda:0"). Raises ValueError where there is no such device."""
    global in_use
    short = _short(name)
    if short in ("cpu", "cuda"):
        short += ":0"
    if short == HOST:
        return short
    devices = list_devices() if short.startswith("cuda") else _core.devices()
    if short not in devices:
        cause = ""
        if short.startswith("cuda"):
            cause = _load_cuda()
            cause = f"; no CUDA device: {cause}" if cause else ""
        elif short.startswith("cpu:"):
            cause = "; more of the CPU's are made by backend.devices.set_cpu_devices"
        raise ValueError(f"device: expected one of {devices}, got {name!r}{cause}")
    in_use = True
    return short


@contextlib.contextmanager
def device(name: str):
    """`with device("cuda:0"): …` – what is made or computed inside lives there.

    Args:
        name: `"cpu:0"`, `"cuda:1"`, or `"gpu"` for the first one.

    Raises:
        ValueError: there is no such device; says which there are, and why CUDA is missing.

    Example:

    >>> import hornbeam
    >>> with hornbeam.device("cpu:0"):
    ...     x = hornbeam.ops.ones(2)
    >>> x.device
    'cpu:0'
    """
    with _pushed(canonical(name)):
        yield


@contextlib.contextmanager
def _pushed(name: str | None):
    _state.stack.append(name)
    try:
        yield
    finally:
        _state.stack.pop()


def follow_inputs():
    """A scope in which no device is asked for: ops run where their inputs live."""
    return _pushed(None)


def _asked() -> str | None:
    return os.environ.get("HORNBEAM_DEVICE") or ("auto" if AUTOMATIC else None)


@functools.cache
def _default() -> str | None:
    name = _asked()
    if name is not None and name.lower() == "auto":
        name = next(iter(list_devices("cuda")), None)
    return canonical(name) if name else None


def scope_device() -> str | None:
    """The device that the innermost scope, or else HORNBEAM_DEVICE, asks for."""
    return _state.stack[-1] if _state.stack else _default()


def current_device() -> str:
    return scope_device() or HOST


def of_inputs(devices) -> str | None:
    """Where an op on inputs that live there runs: scope, else the first that is not the host."""
    scope = scope_device()
    if scope is not None:
        return scope
    return next((d for d in devices if d not in (None, HOST)), None)


def gather(tensors, what: str) -> tuple[str, list]:
    """(device, the tensors there) for an op that runs at once.

    Inside a scope all are moved to its device. Outside, those on the CPU come along to where the
    others are, and the others must live on one device.
    """
    found = [t.device for t in tensors]
    target = scope_device()
    if target is None:
        used = {d for d in found if d != HOST}
        if len(used) > 1:
            raise ValueError(
                f"{what}: expected tensors on one device, got {', '.join(found)}; "
                f"move one with x.to({max(used)!r}), or open a scope: with device({max(used)!r})"
            )
        target = used.pop() if used else HOST
    return target, [t.to(target) for t in tensors]


def memory_stats(name: str) -> dict[str, int | None]:
    """Bytes of memory of one device.

    Returns:
        `current`: held by tensors and arenas; `peak`: the most that was; `reserved`: held from the
        system, in use or kept for reuse; `free`: what the system could still give; `largest`: the
        largest block that could be had without asking it; `limit`: the bound on `reserved`, or None
        (`config.set_memory_limit`).

    Example:

    >>> import hornbeam
    >>> sorted(hornbeam.memory_stats("cpu:0"))
    ['current', 'free', 'largest', 'limit', 'peak', 'reserved']
    """
    return _core.memory_stats(canonical(name))


def set_memory_limit(bytes: int | None, device: str = HOST) -> None:
    """Bound the memory that a device may hold; what would need more is a MemoryError.

    The environment variables HORNBEAM_MEMORY_LIMIT (`cpu:0`) and HORNBEAM_CUDA_MEMORY_LIMIT (each
    GPU) give the first value. What is in use already stays.

    Args:
        bytes: the bound, or None for none.
        device: name of the device.

    Raises:
        ValueError: not a positive integer, or no such device.

    Example:

    >>> import hornbeam as keras
    >>> keras.config.set_memory_limit(2**40)
    >>> keras.memory_stats("cpu:0")["limit"]
    1099511627776
    >>> keras.config.set_memory_limit(None)
    """
    if bytes is not None and (isinstance(bytes, bool) or not hasattr(bytes, "__index__")):
        raise ValueError(f"set_memory_limit: expected an integer or None, got {bytes!r}")
    if bytes is not None and not 0 < bytes.__index__() < 2**63:
        raise ValueError(f"set_memory_limit: expected a positive number of bytes, got {bytes}")
    _core.set_device_memory_limit(canonical(device), bytes)


if (_asked() or HOST).lower() not in ("cpu", HOST):
    in_use = True  # the first scope_device() says so if there is no such device


_CUDA_LIBRARIES = (
    ("driver", "libcuda.so.1"),
    ("NVRTC", "libnvrtc.so.13"),
    ("NVRTC", "libnvrtc.so.12"),
    ("cuBLASLt", "libcublasLt.so.13"),
    ("cuBLASLt", "libcublasLt.so.12"),
    ("cuDNN", "libcudnn.so.9"),
    ("cuDNN", "libcudnn.so.8"),
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
    print(f"CUDA: {_load_cuda() or 'ready'}; libraries on this machine:")
    print("\n".join(_cuda_lines()))
