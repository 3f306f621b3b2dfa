"""Recurrent layers over a whole sequence, as one op each, with the gradient worked out by hand.

The gradient of the loop alone would compute the gates again and add up the gradient of the
recurrent kernel step by step. Here the gates are kept, the backward loop holds one matrix product,
and the kernel's gradient is one product over all steps at the end. Both loops have kernels
(csrc/ops/recurrent.cc).
"""

from __future__ import annotations

from hornbeam import backend
from hornbeam.backend.registry import op

OPS = backend.OPS


@op(inputs=("projected", "h", "c", "kernel", "mask"))
def lstm_sequence(projected, h, c, kernel, mask=None):
    """Long short-term memory with tanh and sigmoid (Hochreiter and Schmidhuber, 1997).

        i, f, g, o = split(projected[t] + h kernel)
        c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)

    Args:
        projected: (time, batch, 4 * units), the inputs' part of the gates, bias included.
        h, c: (batch, units), the first states.
        kernel: (units, 4 * units).
        mask: (time, batch), bool, or None: where it is false, a step leaves the states as they are.

    Returns:
        h and c after every step, (time, batch, units), and the activated gates, (time, batch,
        4 * units), which the gradient needs.
    """

    def step(states, x):
        h, c = states
        i, f, g, o = OPS["split"](x["projected"] + OPS["matmul"](h, kernel), 4, axis=-1)
        i, f, g, o = (OPS["sigmoid"](i), OPS["sigmoid"](f), OPS["tanh"](g), OPS["sigmoid"](o))
        new_c = f * c + i * g
        h = _visible(x, o * OPS["tanh"](new_c), h)
        c = _visible(x, new_c, c)
        return (h, c), (h, c, OPS["concatenate"]([i, f, g, o], axis=-1))

    return OPS["scan"](step, (h, c), _present(projected=projected, mask=mask))[1]


def _present(**xs):
    return {name: x for name, x in xs.items() if x is not None}


def _visible(x, value, otherwise):
    """`value` in the rows that the mask of the step shows, else `otherwise`."""
    if "mask" not in x:
        return value
    return OPS["where"](OPS["expand_dims"](x["mask"], 1), value, otherwise)


def _before(first, states):
    """The states that each step started from."""
    return OPS["concatenate"]([OPS["expand_dims"](first, 0), states[:-1]], axis=0)


def _over_all_steps(x):
    """(time, batch, n) → (time * batch, n)."""
    return OPS["reshape"](x, (x.shape[0] * x.shape[1], x.shape[2]))


def _lstm_backwards(gates, cs, c, kernel, dhs, dcs, mask, dgates=None):
    """Gradients of the projected inputs and of the first states."""
    backwards = OPS["transpose"](kernel)

    def step(carry, x):
        dh, dc = carry
        i, f, g, o = OPS["split"](x["gates"], 4, axis=-1)
        tanh_c = OPS["tanh"](x["c"])
        dh = dh + x["dh"]
        dc = dc + x["dc"] if "dc" in x else dc
        all_h, all_c = dh, dc
        dh, dc = _visible(x, dh, zero), _visible(x, dc, zero)
        dc = dc + dh * o * (1.0 - tanh_c * tanh_c)
        di, df, dg, do = dc * g, dc * x["c_before"], dc * i, dh * tanh_c
        if "dgates" in x:
            more = OPS["split"](x["dgates"], 4, axis=-1)
            di, df, dg, do = (d + m for d, m in zip((di, df, dg, do), more, strict=True))
        parts = [di * i * (1.0 - i), df * f * (1.0 - f), dg * (1.0 - g * g), do * o * (1.0 - o)]
        dz = OPS["concatenate"](parts, axis=-1)
        dh, dc = OPS["matmul"](dz, backwards), dc * f
        if "mask" in x:  # held states pass their gradient on
            dh, dc = dh + _visible(x, zero, all_h), dc + _visible(x, zero, all_c)
        return (dh, dc), dz

    xs = {"gates": gates, "c": cs, "c_before": _before(c, cs), "dh": dhs}
    xs |= _present(dc=dcs, mask=mask, dgates=dgates)
    zero = OPS["zeros_like"](c)
    (dh0, dc0), dz = OPS["scan"](step, (zero, zero), xs, reverse=True)
    return dz, dh0, dc0


@op(inputs=("gates", "cs", "c", "kernel", "dhs", "dcs", "mask"), kernel="lstm_sequence_grad")
def _lstm_sequence_grad(gates, cs, c, kernel, dhs, dcs=None, mask=None):
    return _lstm_backwards(gates, cs, c, kernel, dhs, dcs, mask)


@lstm_sequence.gradient
def _(op, dhs, dcs, dgates):
    h0, c0, kernel = op.inputs[1:4]
    mask = op.input("mask")
    hs, cs, gates = op.outputs
    if op.missing[2]:
        dcs = None if op.missing[1] else dcs
        dz, dh0, dc0 = _lstm_sequence_grad(gates, cs, c0, kernel, dhs, dcs, mask)
    else:  # in a gradient of the gradient
        dz, dh0, dc0 = _lstm_backwards(gates, cs, c0, kernel, dhs, dcs, mask, dgates)
    all_h = _over_all_steps(_before(h0, hs))
    dkernel = OPS["matmul"](OPS["transpose"](all_h), _over_all_steps(dz))
    return dz, dh0, dc0, dkernel, *(None,) * (mask is not None)


@op(inputs=("projected", "h", "kernel", "bias", "mask"))
def gru_sequence(projected, h, kernel, bias, mask=None):
    """Gated recurrent unit with tanh and sigmoid, reset after the product (Cho et al., 2014).

        x_z, x_r, x_n = split(projected[t]);  h_z, h_r, h_n = split(h kernel + bias)
        z = sigmoid(x_z + h_z);  r = sigmoid(x_r + h_r);  n = tanh(x_n + r h_n)
        h = z h + (1 - z) n

    Args:
        projected: (time, batch, 3 * units), the inputs' part of the gates, their bias included.
        h: (batch, units), the first state.
        kernel: (units, 3 * units).
        bias: (3 * units,), of the state's part.
        mask: (time, batch), bool, or None: where it is false, a step leaves the state as it is.

    Returns:
        h after every step, (time, batch, units), and z, r, n, h_n, (time, batch, 4 * units), which
        the gradient needs.
    """

    def step(h, x):
        x_z, x_r, x_n = OPS["split"](x["projected"], 3, axis=-1)
        h_z, h_r, h_n = OPS["split"](OPS["matmul"](h, kernel) + bias, 3, axis=-1)
        z, r = OPS["sigmoid"](x_z + h_z), OPS["sigmoid"](x_r + h_r)
        n = OPS["tanh"](x_n + r * h_n)
        h = _visible(x, z * h + (1.0 - z) * n, h)
        return h, (h, OPS["concatenate"]([z, r, n, h_n], axis=-1))

    return OPS["scan"](step, h, _present(projected=projected, mask=mask))[1]


def _gru_backwards(parts, hs, h, kernel, dhs, mask, dparts=None):
    """Gradients of the projected inputs, of the states' part of the gates, of the first state."""
    backwards = OPS["transpose"](kernel)

    def step(dh, x):
        z, r, n, h_n = OPS["split"](x["parts"], 4, axis=-1)
        all_h = dh + x["dh"]
        dh = _visible(x, all_h, zero)
        dz, dn = dh * (x["h_before"] - n), dh * (1.0 - z)
        more = OPS["split"](x["dparts"], 4, axis=-1) if "dparts" in x else None
        if more is not None:
            dz, dn = dz + more[0], dn + more[2]
        d_n = dn * (1.0 - n * n)
        dr, dh_n = d_n * h_n, d_n * r
        if more is not None:
            dr, dh_n = dr + more[1], dh_n + more[3]
        d_z, d_r = dz * z * (1.0 - z), dr * r * (1.0 - r)
        inner = OPS["concatenate"]([d_z, d_r, dh_n], axis=-1)
        dx = OPS["concatenate"]([d_z, d_r, d_n], axis=-1)
        dh = dh * z + OPS["matmul"](inner, backwards)
        if "mask" in x:  # a held state passes its gradient on
            dh = dh + _visible(x, zero, all_h)
        return dh, (dx, inner)

    xs = {"parts": parts, "h_before": _before(h, hs), "dh": dhs}
    xs |= _present(mask=mask, dparts=dparts)
    zero = OPS["zeros_like"](h)
    dh0, (dx, inner) = OPS["scan"](step, zero, xs, reverse=True)
    return dx, inner, dh0


@op(inputs=("parts", "hs", "h", "kernel", "dhs", "mask"), kernel="gru_sequence_grad")
def _gru_sequence_grad(parts, hs, h, kernel, dhs, mask=None):
    return _gru_backwards(parts, hs, h, kernel, dhs, mask)


@gru_sequence.gradient
def _(op, dhs, dparts):
    h0, kernel = op.inputs[1:3]
    mask = op.input("mask")
    hs, parts = op.outputs
    if op.missing[1]:
        dx, inner, dh0 = _gru_sequence_grad(parts, hs, h0, kernel, dhs, mask)
    else:  # in a gradient of the gradient
        dx, inner, dh0 = _gru_backwards(parts, hs, h0, kernel, dhs, mask, dparts)
    all_h, inner = _over_all_steps(_before(h0, hs)), _over_all_steps(inner)
    dkernel = OPS["matmul"](OPS["transpose"](all_h), inner)
    return dx, dh0, dkernel, OPS["sum"](inner, axis=0), *(None,) * (mask is not None)
