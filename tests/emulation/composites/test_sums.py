"""``baddbmm`` and ``einsum`` as one matmul each."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.emulation import exact, tap
from dovetail.emulation.composites import COMPOSITES
from helpers import INT8, randn

A, B, C = randn(2, 3, 4), randn(2, 4, 5, seed=1), randn(2, 3, 5, seed=2)


class Call(nn.Module):
    def __init__(self, func, *args, **kwargs) -> None:
        super().__init__()
        self.func, self.args, self.kwargs = func, args, kwargs

    def forward(self, x):
        return self.func(*(x if a is None else a for a in self.args), **self.kwargs)


@pytest.mark.parametrize(
    ("x", "model"),
    [
        (A, Call(torch.baddbmm, C, None, B)),
        (A, Call(torch.baddbmm, C, None, B, beta=0.5, alpha=2)),
        (A, Call(torch.baddbmm, C * torch.nan, None, B, beta=0)),
        (C, Call(torch.Tensor.baddbmm, None, A, B)),
        (A, Call(torch.baddbmm, input=C, batch1=A, batch2=B)),
        (A, Call(torch.einsum, "bij,bjk->bik", None, B)),
        (A, Call(torch.einsum, "bij,bjk", None, B)),
        (A, Call(torch.einsum, None, [0, 1, 2], B, [0, 2, 3], [0, 1, 3])),
        (A, Call(torch.einsum, "bij, bjk -> kib", None, B)),
        (A, Call(torch.einsum, "bij,cjk->bcik", None, B)),
        (A, Call(torch.einsum, "bij,bij->b", None, A)),
        (A, Call(torch.einsum, "bij,bij->", None, A)),
        (A, Call(torch.einsum, "bij,cij->bc", [A, A])),
    ],
)
def test_one_matmul(x, model):
    wanted = model(x)
    plan = dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    assert [op.key for op in plan] == [".:matmul"]
    with exact(model):
        torch.testing.assert_close(model(x), wanted, rtol=1e-5, atol=1e-5)
    got = model(x)
    assert got.shape == wanted.shape
    assert not torch.equal(got, wanted)
    torch.testing.assert_close(got, wanted, rtol=0, atol=0.3)


@pytest.mark.parametrize(
    "args",
    [
        ("bij,bjk,bk->bi", A, B, B[:, 0]),
        ("bii->b", A[:, :3, :3]),
        ("...ij,...jk->...ik", A, B),
        ("bij,bjk->bi", A, B),  # k is summed within an operand
        ("bij,cde->bijcde", A, B),  # nothing is summed
        ("bij,bjk->bik", A, B[:1]),  # torch broadcasts
    ],
)
def test_other_einsums_stay_exact_and_the_plan_names_them(args):
    model = Call(torch.einsum, *args)

    class Net(nn.Module):
        def forward(self, x):
            return model.func(*args), x @ x.mT

    net = Net()
    wanted = net(A)[0]
    plan = dv.apply_(net, dv.Recipe(dv.rule("*", **INT8)), A)
    assert plan.uncovered == (".:einsum",)
    assert [op.key for op in plan] == [".:matmul"]
    assert torch.equal(net(A)[0], wanted)


def test_the_product_that_a_tap_sees_has_the_contraction_last_and_last_but_one():
    model = Call(torch.einsum, "bij,cij->bc", None, A)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), A)
    calls = []
    with tap(model, lambda op, call: calls.append(call)):
        model(A)
    assert (calls[0].x.shape, calls[0].weight.shape) == ((2, 12), (12, 2))


def test_a_result_written_elsewhere_stays_exact():
    read = COMPOSITES[torch.baddbmm].read
    assert read((C, A, B), {"out": torch.empty(2, 3, 5)}) is None
    assert read((C, A, B), {"out": None}) is not None
