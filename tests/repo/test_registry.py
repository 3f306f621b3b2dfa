"""Python's declarations and the kernels of the core agree."""

import hornbeam  # noqa: F401
from hornbeam.backend import _core, registry

# instructions that the runtime itself knows, without a registered kernel
BUILT_IN = {
    "input", "constant", "variable", "reshape", "copy", "stop_gradient", "barrier",
    "custom_gradient", "cond", "while_loop", "scan", "elementwise",
}  # fmt: skip


def test_every_kernel_is_declared():
    declared = set(registry.REGISTRY)
    kernels = {name for name, _, _ in _core.kernels()}
    assert kernels <= declared, sorted(kernels - declared)


def test_every_primitive_can_run():
    functions = {name for name, _ in _core.elementwise_functions()}
    for name, op in registry.REGISTRY.items():
        if op.body is not None or op.host is not None or name in BUILT_IN:
            continue
        if op.elementwise:
            assert name in functions, f"{name}: no function in the tile engine"
        else:
            assert name in registry.kernel_dtypes(), f"{name}: no kernel"


def test_every_function_of_the_tile_engine_is_declared():
    for name, _ in _core.elementwise_functions():
        assert name in registry.REGISTRY, f"{name}: a function that no primitive uses"


def test_every_kernel_is_there_at_every_level():
    levels = {}
    for name, _, level in _core.kernels():
        levels.setdefault(name, set()).add(level)
    base = {name for name, found in levels.items() if "baseline" in found}
    assert set(levels) == base, sorted(set(levels) - base)
