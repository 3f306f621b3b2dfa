"""Running code on variables without keeping, or only conditionally keeping, what it assigns.

Values of variables are immutable tensors (or symbolic values), so a list of them is a snapshot;
eagerly and inside a trace alike.
"""

from hornbeam import backend, ops


def stateless(variables, values, fn):
    """(fn(), values of `variables` after it), run with `values` in them and then put back."""
    before = [v.value for v in variables]
    try:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        result = fn()
        after = [v.value for v in variables]
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
    return result, after


def keep_if(condition, variables, fn):
    """Run `fn`, but let `variables` keep their old values where the scalar `condition` is false.

    Both outcomes are computed and selected element-wise, which fuses into the update itself.
    """
    before = [v.value for v in variables]
    fn()
    for variable, old in zip(variables, before, strict=True):
        variable.assign(ops.where(condition, variable.value, old))


def keep_rows(rows, fn):
    """Run `fn`, but of each (variable, mask) in `rows` keep the rows where the mask is false."""
    before = [(v.value, _version(v)) for v, _ in rows]
    fn()
    for (variable, mask), (old, version) in zip(rows, before, strict=True):
        if _version(variable) != version:
            variable.assign(ops.where(mask, variable.value, old))


def _version(variable):
    """A number that changes when the variable is assigned."""
    return id(variable.value) if backend.is_tracing() else variable._version
