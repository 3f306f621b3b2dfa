"""Global settings (`keras.config`)."""

from hornbeam.backend import epsilon as epsilon
from hornbeam.backend import floatx as floatx
from hornbeam.backend import image_data_format as image_data_format
from hornbeam.backend import set_epsilon as set_epsilon
from hornbeam.backend import set_floatx as set_floatx
from hornbeam.backend import set_image_data_format as set_image_data_format
from hornbeam.backend.devices import set_memory_limit as set_memory_limit
from hornbeam.backend.settings import matmul_precision as matmul_precision
from hornbeam.backend.settings import memory_budget as memory_budget
from hornbeam.backend.settings import set_matmul_precision as set_matmul_precision
from hornbeam.backend.settings import set_memory_budget as set_memory_budget
from hornbeam.dtype_policies import dtype_policy as dtype_policy
from hornbeam.dtype_policies import set_dtype_policy as set_dtype_policy

_state = {
    "flash_attention": None,
    "interactive_logging": True,
    "max_epochs": None,
    "max_steps_per_epoch": None,
    "traceback_filtering": True,
}


def backend():
    """The name of the engine that runs the models: always `"hornbeam"`."""
    return "hornbeam"


def set_backend(backend):
    """Accepts `"hornbeam"` only: there is one engine.

    Raises:
        ValueError: any other name.
    """
    if backend != "hornbeam":
        raise ValueError(f"set_backend: there is only the engine 'hornbeam', got {backend!r}")


def max_epochs():
    """Upper bound on the epochs of every `fit`, or None."""
    return _state["max_epochs"]


def set_max_epochs(max_epochs):
    """Bound the epochs of every `fit` (None: no bound)."""
    _state["max_epochs"] = max_epochs


def max_steps_per_epoch():
    """Upper bound on the steps of every epoch, or None."""
    return _state["max_steps_per_epoch"]


def set_max_steps_per_epoch(max_steps_per_epoch):
    """Bound the steps of every epoch (None: no bound)."""
    _state["max_steps_per_epoch"] = max_steps_per_epoch


def enable_flash_attention():
    """Allow attention without the score matrix in memory, where a kernel exists."""
    _state["flash_attention"] = True


def disable_flash_attention():
    """Always compute the score matrix."""
    _state["flash_attention"] = False


def is_flash_attention_enabled():
    """True, False, or None where the engine decides."""
    return _state["flash_attention"]


def enable_interactive_logging():
    """Show progress as a bar."""
    _state["interactive_logging"] = True


def disable_interactive_logging():
    """Show progress as plain log lines."""
    _state["interactive_logging"] = False


def is_interactive_logging_enabled():
    """Whether progress is shown as a bar."""
    return _state["interactive_logging"]


def enable_traceback_filtering():
    """Leave frames of the package out of error tracebacks."""
    _state["traceback_filtering"] = True


def disable_traceback_filtering():
    """Show the whole traceback."""
    _state["traceback_filtering"] = False


def is_traceback_filtering_enabled():
    """Whether frames of the package are left out of tracebacks."""
    return _state["traceback_filtering"]


def is_nnx_enabled():
    """Always False: the engine is not built on another framework."""
    return False


def enable_unsafe_deserialization():
    """Not supported: code stored in a file is never run.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        "enable_unsafe_deserialization: loading is data-only; pass functions and classes in "
        "`custom_objects` instead"
    )
