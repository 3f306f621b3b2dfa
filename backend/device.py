"""Devices by name. For now there is one: the CPU."""

from __future__ import annotations

import contextlib
import threading


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
