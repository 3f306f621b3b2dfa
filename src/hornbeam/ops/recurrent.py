"""Recurrent layers over a whole sequence, as one op each, with the gradient worked out by hand.

The gradient of the loop alone would compute the gates again and add up the gradient of the
recurrent kernel step by step. Here the gates are kept, the backward loop holds one matrix product,
and the kernel's gradient is one product over all steps at the end.
"""

from __future__ import annotations

from hornbeam import backend
from hornbeam.backend.registry import op

OPS = backend.OPS


@op(inputs=("projected", "h", "c", "kernel"))
def lstm_sequence(projected, h, c, kernel):
    """Long short-term memory with tanh and sigmoid (Hochreiter and Schmidhuber, 1997).

        i, f, g, o = split(projected[t] + h kernel)
        c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)

    Args:
        projected: (time, batch, 4 * units), the inputs' part of the gates, bias included.
        h, c: (batch, units), the first states.
        kernel: (units, 4 * units).

    Returns:
        h and c after every step, (time, batch, units), and the activated gates, (time, batch,
        4 * units), which the gradient needs.
    """

    def step(states, x):
        h, c = states
        i, f, g, o = OPS["split"](x + OPS["matmul"](h, kernel), 4, axis=-1)
        i, f, g, o = (OPS["sigmoid"](i), OPS["sigmoid"](f), OPS["tanh"](g), OPS["sigmoid"](o))
        c = f * c + i * g
        h = o * OPS["tanh"](c)
        return (h, c), (h, c, OPS["concatenate"]([i, f, g, o], axis=-1))

    return OPS["scan"](step, (h, c), projected)[1]


@lstm_sequence.gradient
def _(op, dhs, dcs, dgates):
    projected, h0, c0, kernel = op.inputs
    hs, cs, gates = op.outputs
    steps, batch, units = hs.shape
    backwards = OPS["transpose"](kernel)

    def before(first, states):
        return OPS["concatenate"]([OPS["expand_dims"](first, 0), states[:-1]], axis=0)

    def step(carry, x):
        dh, dc = carry
        i, f, g, o = OPS["split"](x["gates"], 4, axis=-1)
        tanh_c = OPS["tanh"](x["c"])
        dh = dh + x["dh"] if "dh" in x else dh
        dc = dc + x["dc"] if "dc" in x else dc
        dc = dc + dh * o * (1.0 - tanh_c * tanh_c)
        di, df, dg, do = dc * g, dc * x["c_before"], dc * i, dh * tanh_c
        if "dgates" in x:
            more = OPS["split"](x["dgates"], 4, axis=-1)
            di, df, dg, do = (d + m for d, m in zip((di, df, dg, do), more, strict=True))
        parts = [di * i * (1.0 - i), df * f * (1.0 - f), dg * (1.0 - g * g), do * o * (1.0 - o)]
        dz = OPS["concatenate"](parts, axis=-1)
        return (OPS["matmul"](dz, backwards), dc * f), dz

    xs = {"gates": gates, "c": cs, "c_before": before(c0, cs)}
    given = zip(("dh", "dc", "dgates"), (dhs, dcs, dgates), op.missing, strict=True)
    xs.update((name, d) for name, d, missing in given if not missing)
    zero = OPS["zeros_like"](h0)
    (dh0, dc0), dz = OPS["scan"](step, (zero, zero), xs, reverse=True)
    all_h = OPS["reshape"](before(h0, hs), (steps * batch, units))
    all_dz = OPS["reshape"](dz, (steps * batch, 4 * units))
    return dz, dh0, dc0, OPS["matmul"](OPS["transpose"](all_h), all_dz)
