"""Recurrent layers over a whole sequence, as one op each, with the gradient worked out by hand.

The gradient of the loop alone would compute the gates again and add up the gradient of the
recurrent kernel step by step. Here the gates are kept, the backward loop holds one matrix product,
and the kernel's gradient is one product over all steps at the end. Both loops have kernels
(csrc/ops/recurrent.cc).

What the ops share:

    mask: (time, batch), bool, or None: where it is false, a step leaves the states as they are.
    drop: (batch, units), or None: scales h before it meets the kernel. A constant: it gets no
        gradient.
    activation, recurrent_activation: names in `FUNCTIONS`; the gates use the second.
    batch_first: the sequences (and the mask) are (batch, time, …).
    reverse: the first step is the last in memory; results stand where their inputs stand.
"""

from __future__ import annotations

import functools
import inspect

from hornbeam import backend
from hornbeam.backend.registry import op

OPS = backend.OPS

#: Functions of gates and states, each with its slope as a function of its value.
FUNCTIONS = {
    "tanh": lambda y: 1.0 - y * y,
    "sigmoid": lambda y: y * (1.0 - y),
    "relu": lambda y: OPS["cast"](y > 0.0, y.dtype),
    "hard_sigmoid": lambda y: OPS["cast"](OPS["logical_and"](y > 0.0, y < 1.0), y.dtype) / 6.0,
    "linear": lambda y: OPS["ones_like"](y),
}


def _function(name):
    return (lambda x: x) if name == "linear" else OPS[name]


class _Sequence:
    """The order of steps in memory, and what the steps share."""

    def __init__(self, mask, drop, activation, recurrent_activation, batch_first, reverse):
        self.mask, self.drop = mask, drop
        self.batch_first, self.reverse = batch_first, reverse
        self.state, self.state_slope = _function(activation), FUNCTIONS[activation]
        self.gate, self.gate_slope = (
            _function(recurrent_activation),
            FUNCTIONS[recurrent_activation],
        )

    def turned(self, x):
        """Time first, if it is not, and back."""
        return OPS["swapaxes"](x, 0, 1) if self.batch_first else x

    def scan(self, step, carry, xs, backwards=False):
        """`step` over the sequences `xs`; the last carry, and sequences."""
        if self.mask is not None:
            xs = xs | {"mask": self.mask}
        xs = {name: self.turned(x) for name, x in xs.items() if x is not None}
        carry, ys = OPS["scan"](step, carry, xs, reverse=bool(self.reverse) != backwards)
        return carry, backend.tree.map_structure(self.turned, ys)

    def dropped(self, h):
        return h if self.drop is None else h * self.drop

    def before(self, first, states):
        """The states that each step started from."""
        axis = 1 if self.batch_first else 0
        before = (slice(None),) * axis
        first = OPS["expand_dims"](first, axis)
        if self.reverse:
            parts = [states[before + (slice(1, None),)], first]
        else:
            parts = [first, states[before + (slice(None, -1),)]]
        return OPS["concatenate"](parts, axis=axis)

    def kernel_gradient(self, h0, hs, dz):
        """Of z = h kernel over all steps."""
        h = self.before(h0, hs)
        if self.drop is not None:
            h = h * OPS["expand_dims"](self.drop, 1 if self.batch_first else 0)
        return OPS["matmul"](OPS["transpose"](_over_all_steps(h)), _over_all_steps(dz))


def _common(op):
    """Attributes and optional inputs that every op here has, of an op being differentiated."""
    names = ("activation", "recurrent_activation", "batch_first", "reverse")
    return {name: op.attrs[name] for name in names} | {
        name: op.input(name) for name in ("mask", "drop")
    }


def _optional(op):
    """Gradients of the optional inputs."""
    return (None,) * sum(op.input(name) is not None for name in ("mask", "drop"))


def _visible(x, value, otherwise):
    """`value` in the rows that the mask of the step shows, else `otherwise`."""
    if "mask" not in x:
        return value
    return OPS["where"](OPS["expand_dims"](x["mask"], 1), value, otherwise)


def _over_all_steps(x):
    """(time, batch, n) → (time * batch, n)."""
    return OPS["reshape"](x, (x.shape[0] * x.shape[1], x.shape[2]))


def _by_float32(body):
    """Decorator of a body: in 16 bits, on devices without a kernel for them, the op in float32."""

    signature = inspect.signature(body)

    @functools.wraps(body)
    def run(*args, **arguments):
        arguments = signature.bind(*args, **arguments).arguments
        dtype = next(iter(arguments.values())).dtype
        if dtype not in ("float16", "bfloat16"):
            return body(**arguments)
        wide = {
            name: backend.cast(x, "float32") if getattr(x, "dtype", None) == dtype else x
            for name, x in arguments.items()
        }
        ys = globals()[body.__name__](**wide)
        return backend.tree.map_structure(lambda y: backend.cast(y, dtype), ys)

    return run


# ------------------------------------------------------------------ simple recurrence


@op(inputs=("projected", "h", "kernel", "mask", "drop"))
@_by_float32
def simple_sequence(
    projected,
    h,
    kernel,
    mask=None,
    drop=None,
    activation="tanh",
    recurrent_activation="sigmoid",
    batch_first=False,
    reverse=False,
):
    """Simple recurrent network (Elman, 1990): h = tanh(projected[t] + h kernel).

    Args:
        projected: (time, batch, units), the inputs' part, bias included.
        h: (batch, units), the first state.
        kernel: (units, units).
        mask, drop, activation, batch_first, reverse: see the module.
        recurrent_activation: there are no gates.

    Returns:
        h after every step, (time, batch, units).
    """
    s = _Sequence(mask, drop, activation, recurrent_activation, batch_first, reverse)

    def step(h, x):
        new = s.state(x["projected"] + OPS["matmul"](s.dropped(h), kernel))
        new = _visible(x, new, h)
        return new, new

    return s.scan(step, h, {"projected": projected})[1]


def _simple_backwards(s, hs, kernel, dhs):
    """Gradients of the projected inputs and of the first state."""
    backwards = OPS["transpose"](kernel)
    zero = OPS["zeros_like"](s.turned(hs)[0])

    def step(dh, x):
        all_h = dh + x["dh"]
        dz = _visible(x, all_h * s.state_slope(x["h"]), zero)
        dh = s.dropped(OPS["matmul"](dz, backwards))
        if "mask" in x:  # a held state passes its gradient on
            dh = dh + _visible(x, zero, all_h)
        return dh, dz

    dh0, dz = s.scan(step, zero, {"h": hs, "dh": dhs}, backwards=True)
    return dz, dh0


@op(inputs=("hs", "kernel", "dhs", "mask", "drop"), kernel="simple_sequence_grad")
@_by_float32
def _simple_sequence_grad(
    hs,
    kernel,
    dhs,
    mask=None,
    drop=None,
    activation="tanh",
    recurrent_activation="sigmoid",
    batch_first=False,
    reverse=False,
):
    s = _Sequence(mask, drop, activation, recurrent_activation, batch_first, reverse)
    return _simple_backwards(s, hs, kernel, dhs)


@simple_sequence.gradient
def _(op, dhs):
    h0, kernel = op.inputs[1:3]
    dz, dh0 = _simple_sequence_grad(op.output, kernel, dhs, **_common(op))
    dkernel = _Sequence(**_common(op)).kernel_gradient(h0, op.output, dz)
    return dz, dh0, dkernel, *_optional(op)


# ------------------------------------------------------------------ LSTM


@op(inputs=("projected", "h", "c", "kernel", "mask", "drop"))
@_by_float32
def lstm_sequence(
    projected,
    h,
    c,
    kernel,
    mask=None,
    drop=None,
    activation="tanh",
    recurrent_activation="sigmoid",
    batch_first=False,
    reverse=False,
):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997).

        i, f, g, o = split(projected[t] + h kernel)
        c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)

    Args:
        projected: (time, batch, 4 * units), the inputs' part of the gates, bias included.
        h, c: (batch, units), the first states.
        kernel: (units, 4 * units).
        mask, drop, activation, recurrent_activation, batch_first, reverse: see the module.

    Returns:
        h and c after every step, (time, batch, units), and the activated gates, (time, batch,
        4 * units), which the gradient needs.
    """
    s = _Sequence(mask, drop, activation, recurrent_activation, batch_first, reverse)

    def step(states, x):
        h, c = states
        z = x["projected"] + OPS["matmul"](s.dropped(h), kernel)
        i, f, g, o = OPS["split"](z, 4, axis=-1)
        i, f, g, o = s.gate(i), s.gate(f), s.state(g), s.gate(o)
        new_c = f * c + i * g
        h = _visible(x, o * s.state(new_c), h)
        c = _visible(x, new_c, c)
        return (h, c), (h, c, OPS["concatenate"]([i, f, g, o], axis=-1))

    return s.scan(step, (h, c), {"projected": projected})[1]


def _lstm_backwards(s, gates, cs, c, kernel, dhs, dcs, dgates=None):
    """Gradients of the projected inputs and of the first states."""
    backwards = OPS["transpose"](kernel)
    zero = OPS["zeros_like"](c)

    def step(carry, x):
        dh, dc = carry
        i, f, g, o = OPS["split"](x["gates"], 4, axis=-1)
        shown = s.state(x["c"])
        dh = dh + x["dh"]
        dc = dc + x["dc"] if "dc" in x else dc
        all_h, all_c = dh, dc
        dh, dc = _visible(x, dh, zero), _visible(x, dc, zero)
        dc = dc + dh * o * s.state_slope(shown)
        di, df, dg, do = dc * g, dc * x["c_before"], dc * i, dh * shown
        if "dgates" in x:
            more = OPS["split"](x["dgates"], 4, axis=-1)
            di, df, dg, do = (d + m for d, m in zip((di, df, dg, do), more, strict=True))
        slopes = s.gate_slope(i), s.gate_slope(f), s.state_slope(g), s.gate_slope(o)
        parts = [d * slope for d, slope in zip((di, df, dg, do), slopes, strict=True)]
        dz = OPS["concatenate"](parts, axis=-1)
        dh, dc = s.dropped(OPS["matmul"](dz, backwards)), dc * f
        if "mask" in x:  # held states pass their gradient on
            dh, dc = dh + _visible(x, zero, all_h), dc + _visible(x, zero, all_c)
        return (dh, dc), dz

    xs = {"gates": gates, "c": cs, "c_before": s.before(c, cs), "dh": dhs}
    xs |= {"dc": dcs, "dgates": dgates}
    (dh0, dc0), dz = s.scan(step, (zero, zero), xs, backwards=True)
    return dz, dh0, dc0


@op(
    inputs=("gates", "cs", "c", "kernel", "dhs", "dcs", "mask", "drop"), kernel="lstm_sequence_grad"
)
@_by_float32
def _lstm_sequence_grad(
    gates,
    cs,
    c,
    kernel,
    dhs,
    dcs=None,
    mask=None,
    drop=None,
    activation="tanh",
    recurrent_activation="sigmoid",
    batch_first=False,
    reverse=False,
):
    s = _Sequence(mask, drop, activation, recurrent_activation, batch_first, reverse)
    return _lstm_backwards(s, gates, cs, c, kernel, dhs, dcs)


@lstm_sequence.gradient
def _(op, dhs, dcs, dgates):
    h0, c0, kernel = op.inputs[1:4]
    hs, cs, gates = op.outputs
    s = _Sequence(**_common(op))
    if op.missing[2]:
        dcs = None if op.missing[1] else dcs
        dz, dh0, dc0 = _lstm_sequence_grad(gates, cs, c0, kernel, dhs, dcs, **_common(op))
    else:  # in a gradient of the gradient
        dz, dh0, dc0 = _lstm_backwards(s, gates, cs, c0, kernel, dhs, dcs, dgates)
    return dz, dh0, dc0, s.kernel_gradient(h0, hs, dz), *_optional(op)


# ------------------------------------------------------------------ GRU


@op(inputs=("projected", "h", "kernel", "bias", "mask", "drop"))
@_by_float32
def gru_sequence(
    projected,
    h,
    kernel,
    bias,
    mask=None,
    drop=None,
    activation="tanh",
    recurrent_activation="sigmoid",
    batch_first=False,
    reverse=False,
):
    """Gated recurrent unit, reset after the product (Cho et al., 2014).

        x_z, x_r, x_n = split(projected[t]);  h_z, h_r, h_n = split(h kernel + bias)
        z = sigmoid(x_z + h_z);  r = sigmoid(x_r + h_r);  n = tanh(x_n + r h_n)
        h = z h + (1 - z) n

    Args:
        projected: (time, batch, 3 * units), the inputs' part of the gates, their bias included.
        h: (batch, units), the first state.
        kernel: (units, 3 * units).
        bias: (3 * units,), of the state's part.
        mask, drop, activation, recurrent_activation, batch_first, reverse: see the module.

    Returns:
        h after every step, (time, batch, units), and z, r, n, h_n, (time, batch, 4 * units), which
        the gradient needs.
    """
    s = _Sequence(mask, drop, activation, recurrent_activation, batch_first, reverse)

    def step(h, x):
        x_z, x_r, x_n = OPS["split"](x["projected"], 3, axis=-1)
        inner = OPS["matmul"](s.dropped(h), kernel) + bias
        h_z, h_r, h_n = OPS["split"](inner, 3, axis=-1)
        z, r = s.gate(x_z + h_z), s.gate(x_r + h_r)
        n = s.state(x_n + r * h_n)
        h = _visible(x, z * h + (1.0 - z) * n, h)
        return h, (h, OPS["concatenate"]([z, r, n, h_n], axis=-1))

    return s.scan(step, h, {"projected": projected})[1]


def _gru_backwards(s, parts, hs, h, kernel, dhs, dparts=None):
    """Gradients of the projected inputs, of the states' part of the gates, of the first state."""
    backwards = OPS["transpose"](kernel)
    zero = OPS["zeros_like"](h)

    def step(dh, x):
        z, r, n, h_n = OPS["split"](x["parts"], 4, axis=-1)
        all_h = dh + x["dh"]
        dh = _visible(x, all_h, zero)
        dz, dn = dh * (x["h_before"] - n), dh * (1.0 - z)
        more = OPS["split"](x["dparts"], 4, axis=-1) if "dparts" in x else None
        if more is not None:
            dz, dn = dz + more[0], dn + more[2]
        d_n = dn * s.state_slope(n)
        dr, dh_n = d_n * h_n, d_n * r
        if more is not None:
            dr, dh_n = dr + more[1], dh_n + more[3]
        d_z, d_r = dz * s.gate_slope(z), dr * s.gate_slope(r)
        inner = OPS["concatenate"]([d_z, d_r, dh_n], axis=-1)
        dx = OPS["concatenate"]([d_z, d_r, d_n], axis=-1)
        dh = dh * z + s.dropped(OPS["matmul"](inner, backwards))
        if "mask" in x:  # a held state passes its gradient on
            dh = dh + _visible(x, zero, all_h)
        return dh, (dx, inner)

    xs = {"parts": parts, "h_before": s.before(h, hs), "dh": dhs, "dparts": dparts}
    dh0, (dx, inner) = s.scan(step, zero, xs, backwards=True)
    return dx, inner, dh0


@op(inputs=("parts", "hs", "h", "kernel", "dhs", "mask", "drop"), kernel="gru_sequence_grad")
@_by_float32
def _gru_sequence_grad(
    parts,
    hs,
    h,
    kernel,
    dhs,
    mask=None,
    drop=None,
    activation="tanh",
    recurrent_activation="sigmoid",
    batch_first=False,
    reverse=False,
):
    s = _Sequence(mask, drop, activation, recurrent_activation, batch_first, reverse)
    return _gru_backwards(s, parts, hs, h, kernel, dhs)


@gru_sequence.gradient
def _(op, dhs, dparts):
    h0, kernel = op.inputs[1:3]
    hs, parts = op.outputs
    s = _Sequence(**_common(op))
    if op.missing[1]:
        dx, inner, dh0 = _gru_sequence_grad(parts, hs, h0, kernel, dhs, **_common(op))
    else:  # in a gradient of the gradient
        dx, inner, dh0 = _gru_backwards(s, parts, hs, h0, kernel, dhs, dparts)
    dkernel, dbias = s.kernel_gradient(h0, hs, inner), OPS["sum"](_over_all_steps(inner), axis=0)
    return dx, dh0, dkernel, dbias, *_optional(op)


# ------------------------------------------------------------------ GRU, reset before the product


@op(inputs=("projected", "h", "kernel", "mask", "drop"))
@_by_float32
def gru_before_sequence(
    projected,
    h,
    kernel,
    mask=None,
    drop=None,
    activation="tanh",
    recurrent_activation="sigmoid",
    batch_first=False,
    reverse=False,
):
    """Gated recurrent unit as first published: reset before the product (Cho et al., 2014).

        x_z, x_r, x_n = split(projected[t]);  k_z, k_r, k_n = split(kernel)
        z = sigmoid(x_z + h k_z);  r = sigmoid(x_r + h k_r);  n = tanh(x_n + (r h) k_n)
        h = z h + (1 - z) n

    Args:
        projected: (time, batch, 3 * units), the inputs' part of the gates, bias included.
        h: (batch, units), the first state.
        kernel: (units, 3 * units).
        mask, drop, activation, recurrent_activation, batch_first, reverse: see the module.

    Returns:
        h after every step, (time, batch, units), and z, r, n, r h, (time, batch, 4 * units), which
        the gradient needs.
    """
    s = _Sequence(mask, drop, activation, recurrent_activation, batch_first, reverse)
    units = h.shape[-1]
    gates_kernel, state_kernel = kernel[:, : 2 * units], kernel[:, 2 * units :]

    def step(h, x):
        x_z, x_r, x_n = OPS["split"](x["projected"], 3, axis=-1)
        carried = s.dropped(h)
        h_z, h_r = OPS["split"](OPS["matmul"](carried, gates_kernel), 2, axis=-1)
        z, r = s.gate(x_z + h_z), s.gate(x_r + h_r)
        rh = r * carried
        n = s.state(x_n + OPS["matmul"](rh, state_kernel))
        h = _visible(x, z * h + (1.0 - z) * n, h)
        return h, (h, OPS["concatenate"]([z, r, n, rh], axis=-1))

    return s.scan(step, h, {"projected": projected})[1]


def _gru_before_backwards(s, parts, hs, h, kernel, dhs, dparts=None):
    """Gradients of the projected inputs and of the first state."""
    units = h.shape[-1]
    gates_back = OPS["transpose"](kernel[:, : 2 * units])
    state_back = OPS["transpose"](kernel[:, 2 * units :])
    zero = OPS["zeros_like"](h)

    def step(dh, x):
        z, r, n, _ = OPS["split"](x["parts"], 4, axis=-1)
        h = x["h_before"]
        all_h = dh + x["dh"]
        dh = _visible(x, all_h, zero)
        dz, dn = dh * (h - n), dh * (1.0 - z)
        more = OPS["split"](x["dparts"], 4, axis=-1) if "dparts" in x else None
        if more is not None:
            dz, dn = dz + more[0], dn + more[2]
        d_n = dn * s.state_slope(n)
        drh = OPS["matmul"](d_n, state_back)
        drh = drh if more is None else drh + more[3]
        dr = drh * s.dropped(h)
        dr = dr if more is None else dr + more[1]
        d_z, d_r = dz * s.gate_slope(z), _visible(x, dr * s.gate_slope(r), zero)
        gates = OPS["concatenate"]([d_z, d_r], axis=-1)
        dh = dh * z + s.dropped(drh * r + OPS["matmul"](gates, gates_back))
        if "mask" in x:  # a held state passes its gradient on
            dh = dh + _visible(x, zero, all_h)
        return dh, OPS["concatenate"]([d_z, d_r, d_n], axis=-1)

    xs = {"parts": parts, "h_before": s.before(h, hs), "dh": dhs, "dparts": dparts}
    dh0, dx = s.scan(step, zero, xs, backwards=True)
    return dx, dh0


@op(inputs=("parts", "hs", "h", "kernel", "dhs", "mask", "drop"), kernel="gru_before_sequence_grad")
@_by_float32
def _gru_before_sequence_grad(
    parts,
    hs,
    h,
    kernel,
    dhs,
    mask=None,
    drop=None,
    activation="tanh",
    recurrent_activation="sigmoid",
    batch_first=False,
    reverse=False,
):
    s = _Sequence(mask, drop, activation, recurrent_activation, batch_first, reverse)
    return _gru_before_backwards(s, parts, hs, h, kernel, dhs)


@gru_before_sequence.gradient
def _(op, dhs, dparts):
    h0, kernel = op.inputs[1:3]
    hs, parts = op.outputs
    s = _Sequence(**_common(op))
    if op.missing[1]:
        dx, dh0 = _gru_before_sequence_grad(parts, hs, h0, kernel, dhs, **_common(op))
    else:  # in a gradient of the gradient
        dx, dh0 = _gru_before_backwards(s, parts, hs, h0, kernel, dhs, dparts)
    units = h0.shape[-1]
    gates = s.kernel_gradient(h0, hs, dx[..., : 2 * units])
    rh, dn = _over_all_steps(parts[..., 3 * units :]), _over_all_steps(dx[..., 2 * units :])
    dkernel = OPS["concatenate"]([gates, OPS["matmul"](OPS["transpose"](rh), dn)], axis=-1)
    return dx, dh0, dkernel, *_optional(op)
