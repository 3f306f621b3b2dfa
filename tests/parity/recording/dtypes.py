"""Result dtypes of `keras.ops`, by Keras's own rule, which no backend has a part in.

The rule is asked through symbolic calls. Keras caps integers and floats at 32 bits except with
TensorFlow; `wide` tables are the same rule without that cap, as for a backend that has int64.
A row of a table is a string of short names, in the order of the types of the first case.
"""

import itertools

import keras
from keras.src.backend.common import dtypes as rule

TYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 float16 bfloat16 float32".split()
SCALARS = {"python bool": True, "python int": 1, "python float": 1.0}
SHORT = {
    **dict(zip(TYPES, "b1 i1 i2 i4 i8 u1 u2 u4 f2 bf f4".split(), strict=True)),
    "float64": "f8",
    None: "--",
}

SHORT_NAMES = {short: name for name, short in SHORT.items()}

UNARY = """
abs all any arccos arccosh arcsin arcsinh arctan arctanh argmax argmin argsort average
bitwise_invert bitwise_not cbrt ceil conj cos cosh count_nonzero cumprod cumsum deg2rad exp exp2
expm1 floor imag invert isfinite isinf isnan log log10 log1p log2 logaddexp logical_not max mean
median min nan_to_num negative nonzero ones_like prod rad2deg real reciprocal round sign signbit
sin sinc sinh sort sqrt square std sum tan tanh trunc var zeros_like celu elu gelu glu
hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid log_softmax relu relu6 selu sigmoid silu
soft_shrink softmax softplus softsign sparse_plus squareplus tanh_shrink erf erfinv logsumexp
rsqrt
""".split()

BINARY = """
add arctan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign
cross divide divide_no_nan dot equal floor_divide fmod gcd greater greater_equal heaviside hypot
inner kron lcm ldexp left_shift less less_equal logaddexp logaddexp2 logical_and logical_or
logical_xor matmul maximum minimum mod multiply nextafter not_equal outer power remainder
right_shift subtract tensordot true_divide vdot where concatenate stack append searchsorted
digitize
""".split()


def symbolic(dtype, shape=(3,)):
    return keras.KerasTensor(shape, dtype=dtype)


def call(name, *types):
    """Result dtype of an op for tensors (or Python scalars) of these types; None if refused."""
    op = getattr(keras.ops, name)
    values = [SCALARS[t] if t in SCALARS else symbolic(t) for t in types]
    if name == "where":
        values = [symbolic("bool"), *values]
    if name in ("concatenate", "stack"):
        values = [values]
    try:
        out = op(*values)
    except Exception:
        return None
    while isinstance(out, list | tuple):
        out = out[0]
    return out.dtype if isinstance(out, keras.KerasTensor) else None


def row(types):
    return " ".join(SHORT[t] for t in types)


def table(name, arity):
    if arity == 1:
        return row(call(name, t) for t in TYPES)
    tensors_only = name in ("concatenate", "stack", "cross", "dot")
    rights = TYPES if tensors_only else [*TYPES, *SCALARS]
    return [row(call(name, a, b) for b in rights) for a in TYPES]


def grouped(names, arity):
    """Ops of the same table together; one that refuses everything is left out."""
    groups = []
    for name in names:
        if not hasattr(keras.ops, name):
            continue
        found = table(name, arity)
        if not set("".join(found)) - set("- "):
            continue
        for group in groups:
            if group["table"] == found:
                group["ops"].append(name)
                break
        else:
            groups.append({"ops": [name], "table": found})
    return groups


def pairs():
    return [row(rule.result_type(a, b) for b in TYPES) for a in TYPES]


def scalars():
    return [row(rule.result_type(a, type(b)) for b in SCALARS.values()) for a in TYPES]


def jax_differences():
    """Where eager JAX disagrees with the rule (64-bit inputs aside; few right operands: it is slow)."""
    small = [t for t in TYPES if t != "int64"]
    for name, arity in [(n, 1) for n in UNARY] + [(n, 2) for n in BINARY]:
        if not hasattr(keras.ops, name) or name in ("where", "concatenate", "stack"):
            continue
        pairs = itertools.product(small, repeat=arity)
        for types in pairs if arity == 1 else [t for t in pairs if t[1] in ("int32", "bfloat16")]:
            expected = call(name, *types)
            if expected is None:
                continue
            try:
                values = [keras.ops.ones((3,), dtype=t) for t in types]
                out = getattr(keras.ops, name)(*values)
            except Exception:
                continue
            while isinstance(out, list | tuple):
                out = out[0]
            got = keras.backend.standardize_dtype(out.dtype)
            if got != expected:
                yield f"{name} {row(types)}: rule {SHORT[expected]}, jax {SHORT[got]}"


def tables():
    return {
        "result_type": pairs(),
        "result_type_scalars": scalars(),
        "unary": grouped(UNARY, 1),
        "binary": grouped(BINARY, 2),
    }


def cases():
    yield {"name": "types", "left": list(TYPES), "right": [*TYPES, *SCALARS], "short": SHORT_NAMES}
    yield {"name": "narrow", **tables()}
    cap = dict(rule.BIT64_TO_BIT32_DTYPE)
    rule.BIT64_TO_BIT32_DTYPE.clear()
    getattr(rule._lattice_result_type, "cache_clear", lambda: None)()
    try:
        yield {"name": "wide", **tables()}
    finally:
        rule.BIT64_TO_BIT32_DTYPE.update(cap)
    yield {"name": "jax", "differences": list(jax_differences())}
