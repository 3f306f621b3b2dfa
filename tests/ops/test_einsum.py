"""einsum against NumPy: values, gradients, and the products it comes down to."""

import numpy as np
import pytest
from support.gradcheck import gradcheck

from hornbeam import backend, ops

SUBSCRIPTS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("btnh,bsnh->bnts", (2, 3, 4, 5), (2, 6, 4, 5)),
    ("bnts,bsnh->btnh", (2, 4, 3, 6), (2, 6, 4, 5)),
    ("abc,cde->abde", (2, 3, 4), (4, 2, 3)),
    ("btd,dnh->btnh", (2, 3, 4), (4, 2, 5)),
    ("btnh,nhd->btd", (2, 3, 2, 5), (2, 5, 4)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("...ij,jk->...ik", (2, 3, 4), (4, 5)),
    ("ij,ij->i", (2, 3), (2, 3)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("ij,jk", (2, 3), (3, 4)),
    ("abc,bad->cd", (2, 3, 4), (3, 2, 5)),
    ("ij,kj->ki", (2, 3), (4, 3)),
    ("aij,ajk->ika", (2, 3, 4), (2, 4, 5)),
    ("bij,bjk->bik", (1, 3, 4), (2, 4, 5)),
    ("ab,abc->c", (2, 3), (2, 3, 4)),
    ("i,j->ij", (2,), (3,)),
    ("ij,->ij", (2, 3), ()),
    ("ij->ji", (2, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->j", (3, 3, 2)),
    ("ij->", (2, 3)),
]


@pytest.mark.parametrize("case", SUBSCRIPTS, ids=[c[0] for c in SUBSCRIPTS])
def test_values_and_gradients(case):
    subscripts, *shapes = case
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.standard_normal(s)) for s in shapes]
    expected = np.einsum(subscripts, *arrays)
    np.testing.assert_allclose(ops.einsum(subscripts, *arrays), expected, rtol=1e-12, atol=1e-12)
    compiled = backend.function(lambda *xs: ops.einsum(subscripts, *xs))
    np.testing.assert_allclose(compiled(*arrays), expected, rtol=1e-12, atol=1e-12)
    if all(shapes):
        gradcheck(lambda *xs: ops.einsum(subscripts, *xs), arrays)


def test_a_projection_is_one_product_without_transposition():
    with backend.Graph() as g:
        ops.einsum("btd,dnh->btnh", g.input((2, 3, 4), "float32"), g.input((4, 2, 5), "float32"))
    names = [n.op.name for n in g.nodes]
    assert names.count("matmul") == 1 and "transpose" not in names


@pytest.mark.parametrize(
    ("subscripts", "shapes", "message"),
    [
        ("ij,jk->ik", [(2, 3)], "expected 2 operands"),
        ("ij->i", [(2, 3, 4)], "does not fit an operand"),
        ("ij->iz", [(2, 3)], "unknown or repeated labels"),
        ("ij,jk->ik", [(2, 3), (4, 5)], "label 'j' has the sizes 3 and 4"),
    ],
)
def test_errors(subscripts, shapes, message):
    with pytest.raises(ValueError, match=message):
        ops.einsum(subscripts, *[np.ones(s) for s in shapes])
