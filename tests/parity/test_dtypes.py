"""Result dtypes are Keras's: its own rule, without the cap that turns 64-bit types into 32-bit ones."""

import pytest

import hornbeam as keras
from hornbeam import backend, ops
from tests.support import parity

TYPES, _, WIDE, JAX = parity.cases("dtypes")
NAMES = TYPES["short"]
SCALARS = {"python bool": True, "python int": 1, "python float": 1.0}
# what eager JAX gives where Keras's symbolic rule says otherwise: either is right
ALTERNATIVES = {text.split(":")[0]: text.rsplit(" ", 1)[1] for text in JAX["differences"]}
# Keras's symbolic rule hands an integer through where every backend computes floats
FLOATS_ONLY = set(
    """celu elu gelu hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid log_softmax relu6 selu
    sigmoid silu soft_shrink softmax softplus softsign sparse_plus squareplus tanh_shrink erf erfinv
    rsqrt cbrt deg2rad rad2deg""".split()
)
# bit operations on floats, which the rule lets pass; a result of unknown shape; float64 out of
# int64; Python scalars that count like tensors in these alone
LEFT_OUT = set(
    """bitwise_invert bitwise_not bitwise_and bitwise_or bitwise_xor bitwise_left_shift
    bitwise_right_shift left_shift right_shift ldexp nonzero tensordot hypot heaviside nextafter
    arctan2 gcd lcm""".split()
)


def entries(kind):
    names = [(name, g["table"]) for g in WIDE[kind] for name in g["ops"] if name not in LEFT_OUT]
    return [pytest.param(name, table, id=name) for name, table in names]


def check(name, table, lefts, rights=None):
    if not hasattr(ops, name):
        pytest.skip(f"hornbeam.ops has no {name}")
    wrong = []
    short = {long: s for s, long in NAMES.items()}
    rows = [table] if rights is None else table
    for row, left in zip(rows, [None] if rights is None else lefts, strict=True):
        columns = lefts if rights is None else rights
        for expected, right in zip(row.split(), columns, strict=False):
            types = [right] if left is None else [left, right]
            if expected == "--" or "bool" in types:  # what ops make of bool is each op's own affair
                continue
            if name in FLOATS_ONLY and "float" not in types[0]:
                continue
            got = short[result(name, types)]
            key = f"{name} {' '.join(short.get(t, t) for t in types)}"
            if got not in (expected, ALTERNATIVES.get(key)):
                wrong.append(f"{key}: {got}, Keras {expected}")
    assert not wrong


def result(name, types):
    values = [SCALARS[t] if t in SCALARS else keras.KerasTensor((3,), dtype=t) for t in types]
    if name == "where":
        values = [keras.KerasTensor((3,), dtype="bool"), *values]
    out = getattr(ops, name)(*([values] if name in ("concatenate", "stack") else values))
    while isinstance(out, list | tuple):
        out = out[0]
    return out.dtype


def test_result_type():
    for kind, rights in {
        "result_type": TYPES["left"],
        "result_type_scalars": [bool, int, float],
    }.items():
        for row, left in zip(WIDE[kind], TYPES["left"], strict=True):
            got = [backend.result_type(left, right) for right in rights]
            assert got == [NAMES[e] for e in row.split()], left


@pytest.mark.parametrize(("name", "table"), entries("unary"))
def test_unary(name, table):
    check(name, table, TYPES["left"])


@pytest.mark.parametrize(("name", "table"), entries("binary"))
def test_binary(name, table):
    check(name, table, TYPES["left"], TYPES["right"])
