"""Gradients of every differentiable op against finite differences, first and second order."""

import numpy as np
from support.gradcheck import gradcheck
from support.op_case import parametrize

from hornbeam.backend import GradientTape, dtypes, tree


def _setup(case, attrs):
    """(function of the varied inputs alone, their arrays)"""
    arrays = case.arrays("float64")
    flat = tree.flatten(arrays)
    makers = tree.flatten(case.inputs)
    varied = [i for i, m in enumerate(makers) if dtypes.is_float(m.dtype or "float64")]
    if case.differentiable is not True:
        varied = list(case.differentiable)

    def function(*xs):
        inputs = list(flat)
        for i, x in zip(varied, xs, strict=True):
            inputs[i] = x
        return case.op(*tree.pack_sequence_as(arrays, inputs), **attrs)

    return function, [flat[i].astype("float64") for i in varied]


@parametrize(lambda c: c.differentiable)
def test_gradient(case):
    for attrs in case.grid():
        function, arrays = _setup(case, attrs)
        gradcheck(function, arrays, rtol=1e-5 * case.tolerance)


@parametrize(lambda c: c.differentiable and c.second)
def test_second_gradient(case):
    for attrs in list(case.grid())[:2]:
        function, arrays = _setup(case, attrs)
        rng = np.random.default_rng(1)

        def first(*xs, function=function, rng=rng):
            with GradientTape() as tape:
                for x in xs:
                    tape.watch(x)
                ys = tree.flatten(function(*xs))
            rng = np.random.default_rng(1)
            weights = [rng.standard_normal(tuple(y.shape)) for y in ys]
            return tape.gradient(
                ys, list(xs), output_gradients=weights, unconnected_gradients="zero"
            )

        gradcheck(first, arrays, rtol=1e-4 * case.tolerance, atol=1e-6)
