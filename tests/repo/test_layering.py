"""Imports go downwards only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "backend").is_dir():
    pytest.skip("needs the source tree", allow_module_level=True)

# Lower number = lower layer. A module may import from its own layer and from lower ones.
LAYERS = {
    "backend": 0, "version": 0,
    "tree": 1, "profiler": 1, "ops": 1, "random": 1, "utils": 1, "datasets": 1,
    "saving/object_registration": 2, "saving/serialization_lib": 2,
    "activations": 3, "initializers": 3, "regularizers": 3, "constraints": 3, "dtype_policies": 3,
    "quantizers": 3,
    "config": 3, "losses": 3, "metrics": 3, "optimizers": 3, "mixed_precision": 3,
    "layers": 4,
    "models": 5, "callbacks": 5, "saving": 5, "wrappers": 5, "export": 5,
}  # fmt: skip


def layer_of(parts):
    """Layer of a module given by the parts of its name below `hornbeam`."""
    return LAYERS.get("/".join(parts[:2]), LAYERS.get(parts[0]))


def modules():
    for base, prefix in [(ROOT / "src" / "hornbeam", ())] + [
        (ROOT / room, (room,)) for room in ("layers", "models", "backend", "datasets")
    ]:
        for path in sorted(base.rglob("*.py")):
            parts = prefix + path.relative_to(base).with_suffix("").parts
            if not prefix and parts[0] in ("layers", "models", "backend", "datasets"):
                continue  # the links
            yield path, parts


def top_level_imports(tree):
    """Modules imported when the file is imported (not inside functions)."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            for a in node.names:
                yield f"{node.module}.{a.name}"
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            pending += ast.iter_child_nodes(node)


@pytest.mark.parametrize(
    ("path", "parts"), list(modules()), ids=lambda p: "/".join(p) if isinstance(p, tuple) else ""
)
def test_a_module_imports_only_from_below(path, parts):
    mine = layer_of(parts)
    if mine is None or parts[-1] == "__init__":
        return  # the face of a package gathers what stands in it
    for name in top_level_imports(ast.parse(path.read_text())):
        pieces = name.split(".")
        if pieces[0] != "hornbeam" or layer_of(pieces[1:]) is None:
            continue
        assert layer_of(pieces[1:]) <= mine, f"{'/'.join(parts)} imports {name} from above"


def test_every_package_has_its_place():
    known = {name.split("/")[0] for name in LAYERS}
    for path in (ROOT / "src" / "hornbeam").iterdir():
        if path.name.startswith("__") or path.suffix not in ("", ".py"):
            continue
        assert path.stem in known, f"{path.name} has no layer in LAYERS"


def test_files_can_be_held_in_the_head():
    limits = {".py": 800, ".cc": 900, ".h": 900}
    long = [
        f"{p.relative_to(ROOT)}: {n} lines"
        for folder in ("layers", "models", "backend", "datasets", "src", "csrc")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in limits and not p.is_symlink()
        and (n := p.read_text().count("\n")) > limits[p.suffix]
    ]  # fmt: skip
    assert not long, long
