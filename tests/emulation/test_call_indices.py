"""Which call of a forward a rule means: repeated, recursive and shared calls."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from helpers import INT8, build, hits, modes, randn


class Twice(nn.Module):
    """Two matmuls, and one more when asked."""

    def __init__(self) -> None:
        super().__init__()
        self.more = False

    def forward(self, x):
        y = torch.matmul(x, x.mT) @ x
        return torch.matmul(y, x.mT) if self.more else y


def test_repeated_functional_calls_are_addressed_by_index():
    model, x = Twice(), randn(3, 4)
    dv.apply_(model, dv.Recipe(dv.rule(".:matmul_1", **INT8)), x)
    assert hits(model, x) == [".:matmul_1"]
    assert hits(model, x) == [".:matmul_1"]  # the count starts again at every call
    first = torch.matmul(x, x.mT)
    wanted = Twice()
    dv.apply_(wanted, dv.Recipe(dv.rule("*", **INT8)), x)
    assert not torch.equal(wanted(x), model(x))
    assert model(x).shape == (first @ x).shape


def test_a_call_that_a_rule_addresses_but_the_example_did_not_make_is_refused():
    model, x = Twice(), randn(3, 4)
    plan = dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    assert [op.key for op in plan] == [".:matmul_0", ".:matmul_1"]
    model.more = True
    with pytest.raises(dv.DovetailError, match=r"\.:matmul_2: the example called matmul 2 times"):
        model(x)
    assert modes() == 0
    dv.remove_(model)
    model.more = False
    dv.apply_(model, dv.Recipe(dv.rule(".:matmul_1", **INT8)), x)
    model.more = True  # no rule addresses the third call: it stays exact
    assert hits(model, x) == [".:matmul_1"]


def test_one_planned_call_serves_every_later_one():
    class Loop(nn.Module):
        times = 1

        def forward(self, x):
            for _ in range(self.times):
                x = x @ torch.eye(3)
            return x

    model, x = Loop(), randn(2, 3)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    model.times = 3
    assert hits(model, x) == [".:matmul"] * 3


class Child(nn.Module):
    def forward(self, x):
        return x @ torch.ones(3, 3)


class Parent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.child = Child()

    def forward(self, x):
        return self.child(x) @ torch.full((3, 3), 0.5)


def test_a_childs_calls_are_not_the_parents():
    model, x = Parent(), randn(2, 3)
    plan = dv.apply_(model, dv.Recipe(dv.rule(".:matmul", **INT8)), x)
    assert plan.left_exact == ("child:matmul",)
    assert hits(model, x) == [".:matmul"]
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule("child", **INT8)), x)
    assert hits(model, x) == ["child:matmul"]


def test_the_root_is_written_as_a_dot_or_matched_by_a_star():
    for match in (".:matmul", "*", ".:*"):
        model, x = Parent(), randn(2, 3)
        assert ".:matmul" in [o.key for o in dv.plan(model, dv.Recipe(dv.rule(match, **INT8)), x)]


def test_a_module_called_twice_in_one_forward():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(torch.relu(self.fc(x)))

    model, x = build(0, Shared), randn(2, 3)
    plan = dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    assert [(op.key, op.calls) for op in plan] == [("fc", 2)]
    assert hits(model, x) == ["fc", "fc"]
    second = torch.relu(F.linear(x, model.fc.weight, model.fc.bias)).detach()
    peak = torch.maximum(x.abs().max(), second.max())  # one range covers both calls
    assert float(model.fc._dovetail_linear_input_scale) == pytest.approx(float(peak) / 127)


def test_recursion_of_a_module_into_itself():
    class Again(nn.Module):
        def forward(self, x, depth=2):
            y = x @ torch.eye(3)
            return self(y, depth - 1) @ torch.eye(3) if depth else y

    model, x = Again(), randn(2, 3)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    assert len(hits(model, x)) == 5
    assert modes() == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: F.linear(x, w),
        lambda x, w: F.linear(input=x, weight=w, bias=None),
        lambda x, w: x @ w.mT,
        lambda x, w: torch.matmul(x, other=w.mT),
        lambda x, w: torch.matmul(input=x, other=w.mT),
        lambda x, w: x.matmul(w.mT),
        lambda x, w: x.__matmul__(w.mT),
        lambda x, w: w.mT.__rmatmul__(x),
        lambda x, w: torch.mm(x, w.mT),
        lambda x, w: torch.mm(x, mat2=w.mT),
        lambda x, w: x.mm(w.mT),
        lambda x, w: torch.bmm(x[None], w.mT[None])[0],
        lambda x, w: x[None].bmm(w.mT[None])[0],
        lambda x, w: torch.addmm(torch.zeros(3), x, w.mT),
        lambda x, w: torch.zeros(3).addmm(x, w.mT),
        lambda x, w: torch.mv(x, w[0])[:, None],
        lambda x, w: x.mv(w[0])[:, None],
        lambda x, w: torch.dot(x[0], w[0])[None, None],
        lambda x, w: torch.inner(x, w),
        lambda x, w: torch.vdot(x[0], w[0])[None, None],
        lambda x, w: torch.tensordot(x, w, dims=([1], [1])),
        lambda x, w: torch.einsum("mk,nk->mn", x, w),
        lambda x, w: torch.linalg.multi_dot([x, w.mT, torch.eye(3)]),
        lambda x, w: torch.linalg.matmul(x, w.mT),
        lambda x, w: torch.addmv(torch.zeros(2), x, w[0])[:, None],
        lambda x, w: torch.baddbmm(torch.zeros(1, 2, 3), x[None], w.mT[None])[0],
        lambda x, w: torch.zeros(2, 3).addmm_(x, w.mT),
        lambda x, w: torch.ops.aten.mm(x, w.mT),
        lambda x, w: torch.ops.aten.linear(x, w),
        lambda x, w: torch.ops.aten.addmm.default(torch.zeros(3), x, w.mT),
        lambda x, w: F.conv1d(x[..., None], w[..., None])[..., 0],
        lambda x, w: torch.conv1d(x[..., None], w[..., None])[..., 0],
        lambda x, w: F.conv2d(x[..., None, None], weight=w[..., None, None])[..., 0, 0],
        lambda x, w: F.conv3d(x[..., None, None, None], w[..., None, None, None])[..., 0, 0, 0],
    ],
)
def test_every_spelling_of_a_product_is_either_reached_or_named(call):
    """A product is emulated, or the plan says that no rule reaches it: never silence."""

    class One(nn.Module):
        def forward(self, x, w):
            return call(x, w)

    model, x, w = One(), randn(2, 4), randn(3, 4, seed=1)
    plain = model(x, w)
    try:
        dv.apply_(model, dv.Recipe(dv.rule("*", input="int4", weight="int4")), (x, w))
    except dv.DovetailError as error:
        assert "no rule can reach" in str(error)  # noqa: PT017
        return
    assert len(hits(model, x, w)) == 1
    assert model(x, w).shape == plain.shape
    assert not torch.equal(model(x, w), plain)


def test_products_that_no_rule_means_take_no_index():
    """An integer product, or addmm with a beta, comes first in the second call: nothing shifts."""

    class Mixed(nn.Module):
        first = False

        def forward(self, x):
            if self.first:
                torch.ones(2, 2, dtype=torch.int64) @ torch.ones(2, 2, dtype=torch.int64)
            return torch.matmul(x, x.mT) @ x

    model, x = Mixed(), randn(3, 4)
    dv.apply_(model, dv.Recipe(dv.rule(".:matmul_1", **INT8)), x)
    wanted = model(x)
    model.first = True
    assert torch.equal(model(x), wanted)


def test_integer_products_are_left_alone():
    class Both(nn.Module):
        def forward(self, x, n):
            return x @ x.mT, n @ n

    model, x, n = Both(), randn(2, 2), torch.tensor([[300, 2], [3, 4]])
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), (x, n))
    assert hits(model, x, n) == [".:matmul"]
    assert torch.equal(model(x, n)[1], n @ n)


def test_calls_after_the_last_planned_one_are_not_read():
    """Nor is any call in a loop's rest: they are torch's own, and the count stands still."""

    class Loop(nn.Module):
        def forward(self, x):
            for _ in range(4):
                x = F.softmax(x, dim=-1)
            return x

    model, x = Loop(), randn(3, 4)
    dv.apply_(model, dv.Recipe(dv.rule(".:softmax_1", output="fp8_e4m3")), x)
    entry = model.__dict__["_dovetail"]
    assert entry.settled == {"softmax": 2}
    assert hits(model, x) == [".:softmax_1"]
    wanted = x
    for i in range(4):
        wanted = wanted.softmax(-1)
        wanted = dv.cast(wanted, "fp8_e4m3") if i == 1 else wanted
    assert torch.equal(model(x), wanted)
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule(op="softmax", output="fp8_e4m3")), x)
    assert model.__dict__["_dovetail"].settled == {}
    assert len(hits(model, x)) == 4
