"""The function mode: who sees which call, and that nothing of it stays behind."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import dovetail as dv
from dovetail.emulation import exact, tap
from helpers import INT8, Small, build, modes, randn, small


def hits(model, *args, **kwargs) -> list[str]:
    """The operations that one forward emulates, in order."""
    seen: list[str] = []
    with tap(model, lambda op, call: seen.append(op.key)):
        model(*args, **kwargs)
    return seen


class Raising(nn.Module):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.fc, self.error, self.armed = nn.Linear(3, 3), error, False

    def forward(self, x):
        x = self.fc(x) @ torch.ones(3, 3)
        if self.armed:
            raise self.error
        return x


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, GeneratorExit])
def test_an_exception_in_forward_leaves_no_mode_behind(error):
    inner = Raising(error)
    model = nn.Sequential(inner)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), torch.ones(1, 3))
    inner.armed = True
    with pytest.raises(error):
        model(torch.ones(1, 3))
    assert modes() == 0
    inner.armed = False
    assert hits(model, torch.ones(1, 3)) == ["0.fc", "0:matmul"]
    a, b = randn(3, 3), randn(3, 3, seed=1)
    assert torch.equal(a @ b, torch.matmul(a, b))


def test_an_exception_with_a_users_mode_restores_the_users_stack():
    class Quiet(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    inner = Raising(KeyboardInterrupt)
    model = nn.Sequential(inner)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), torch.ones(1, 3))
    inner.armed = True
    with Quiet(), pytest.raises(KeyboardInterrupt):
        model(torch.ones(1, 3))
    assert modes() == 0


class Counting(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def test_a_users_mode_outside():
    model, x = small()
    wanted, ops = model(x), hits(model, x)
    with Counting() as mode:
        assert torch.equal(model(x), wanted)
        assert hits(model, x) == ops
        assert modes() == 1
    assert mode.seen
    assert modes() == 0


def test_a_users_mode_inside_forward_sees_the_calls_and_they_are_emulated():
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.mode = nn.Linear(3, 3), Counting()

        def forward(self, x):
            with self.mode:
                return self.fc(x) @ x.mT

    model, x = build(1, Inside), randn(4, 3)
    plain = model(x)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    assert hits(model, x) == ["fc", ".:matmul"]
    assert not torch.equal(model(x), plain)
    model.mode.seen.clear()
    model(x)
    assert F.linear in model.mode.seen
    assert modes() == 0


def test_device_context_inside_and_outside():
    class Meta(nn.Module):
        def forward(self, x):
            with torch.device("cpu"):
                return x @ torch.ones(3, 3)

    model, x = Meta(), randn(2, 3)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    assert hits(model, x) == [".:matmul"]
    with torch.device("cpu"):
        assert hits(model, x) == [".:matmul"]


def test_direct_forward_is_emulated():
    model, x = small()
    assert torch.equal(model.forward(x), model(x))
    fc = model.fc1
    v = randn(2, 64)
    assert torch.equal(fc.forward(v), fc(v))
    assert not torch.equal(fc.forward(v), F.linear(v, fc.weight, fc.bias))


def test_a_submodule_called_on_its_own_is_emulated():
    model, x = small()
    assert torch.equal(model.conv(x), nn.Sequential(model.conv)(x))
    assert hits(model, x) == ["conv", "fc1", "fc2", ".:matmul"]
    seen = []
    with tap(model, lambda op, call: seen.append(op.key)):
        model.conv(x)
    assert seen == ["conv"]


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


def test_threads():
    model, x = small()
    wanted = model(x)
    results: list[bool] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(10):
            results.append(torch.equal(model(x), wanted) and modes() == 0)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 80


def test_functional_call():
    model, x = small()
    doubled = {name: value * 2 for name, value in model.named_parameters()}
    other = build(0, Small).eval()
    other.load_state_dict(doubled)
    dv.apply_(other, dv.Recipe(dv.rule("*", **INT8)), x)
    for name, buffer in model.named_buffers():
        other.get_buffer(name).copy_(buffer)
    assert torch.equal(torch.func.functional_call(model, doubled, (x,)), other(x))


def test_exact_runs_the_original_and_taps_still_fire():
    model, x = small()
    plain = build(0, Small).eval()
    seen = []
    with exact(model), tap(model, lambda op, call: seen.append(op.key)):
        assert torch.equal(model(x), plain(x))
    assert seen == ["conv", "fc1", "fc2", ".:matmul"]
    assert not torch.equal(model(x), plain(x))


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


def test_a_checkpointed_function_is_recomputed_as_it_ran():
    class Twice(nn.Module):
        def __init__(self, checkpointed):
            super().__init__()
            self.checkpointed = checkpointed
            self.fc = nn.Linear(6, 6)

        def products(self, x):
            return self.fc(x @ x.mT) @ x

        def forward(self, x):
            first = x @ x.mT @ x  # shifts the call index of what is checkpointed
            if not self.checkpointed:
                return self.products(x) + first
            context = dv.checkpoint_context
            again = checkpoint(self.products, x, use_reentrant=False, context_fn=context)
            return again + first

    plain, saved = Twice(False), Twice(True)
    saved.load_state_dict(plain.state_dict())
    x = torch.randn(6, 6)
    gradients = []
    for net in (plain, saved):
        rules = [dv.rule("*", input="int4", weight="int4"), dv.rule(".:matmul_3", weight="int2")]
        dv.apply_(net, dv.Recipe(*rules), x)
        leaf = x.clone().requires_grad_()
        net(leaf).square().sum().backward()
        gradients.append((leaf.grad, net.fc.weight.grad))
        assert torch._C._len_torch_function_stack() == 0
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])
