"""One set of weights under several recipes: each with its own ranges and normalisation."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.errors import DovetailError
from helpers import build, randn

MILD = dv.Recipe(dv.rule("*", input="int8", weight="int8", mul="mul8s_1KV9"))
ROUGH = dv.Recipe(
    dv.rule("conv", input="int8", weight="int8", mul="mul8s_1L12"),
    dv.rule("head", weight="int4", sparsity="2:4(fixed)"),
    dv.rule(op="relu", output="int8"),
)
ALL = {"exact": dv.Recipe(), "mild": MILD, "rough": ROUGH}
X = randn(6, 3, 5, 5)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)
        self.last = nn.BatchNorm1d(4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3))))
        return y


def net() -> Net:
    model = build(0, Net)
    assert isinstance(model, Net)
    return model


def alone(recipe: dv.Recipe) -> Net:
    model = net()
    if recipe.rules:
        dv.apply_(model, recipe, X)
    return model


def several(**options: str) -> Net:
    model = net()
    dv.apply_several_(model, ALL, X, **options)
    return model


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items() if "running" in k or "num" in k}


def test_each_is_as_if_alone_whatever_was_active_before() -> None:
    model = several().eval()
    assert dv.recipes(model) == ("exact", "mild", "rough")
    for name in ("rough", "exact", "mild", "mild", "rough", "mild", "exact"):
        dv.switch(model, name)
        assert torch.equal(model(X), alone(ALL[name]).eval()(X))
        assert list(model.state_dict()) == list(net().state_dict())


def test_each_gathers_its_own_statistics_on_the_same_weights() -> None:
    model, apart = several().train(), {name: alone(ALL[name]).train() for name in ALL}
    for step in range(3):
        for name in ALL:
            dv.switch(model, name)
            x = X + step
            assert torch.equal(model(x), apart[name](x))
    found = {}
    for name in ALL:
        dv.switch(model, name)
        found[name] = statistics(model)
        expected = statistics(apart[name])
        assert all(torch.equal(found[name][k], v) for k, v in expected.items())
        assert torch.equal(model.eval()(X), apart[name].eval()(X))
        model.train()
    key = "norm.running_mean"
    assert not torch.equal(found["rough"][key], found["mild"][key])


def test_the_plans_are_those_of_each() -> None:
    plans = dv.apply_several_(net(), ALL, X)
    assert [len(plan) for plan in plans.values()] == [0, 2, 3]
    assert [op.key for op in plans["rough"]] == [op.key for op in dv.plan(net(), ROUGH, X)]


@pytest.mark.parametrize("norms", ["statistics", "affine", "shared"])
def test_what_is_trained(norms: str) -> None:
    model = several(norms=norms)
    plain = len(list(net().parameters()))
    assert len(list(model.parameters())) == plain + (4 if norms == "affine" else 0)
    assert list(model.state_dict()) == list(net().state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        for name in ALL:
            dv.switch(model, name)
            optimizer.zero_grad()
            model(X).square().mean().backward()
            optimizer.step()
    seen = []
    for name in ALL:
        dv.switch(model, name)
        seen.append((model.norm.weight.detach().clone(), model.norm.running_mean.clone()))
    own = {"statistics": (False, True), "affine": (True, True), "shared": (False, False)}[norms]
    for place in range(2):
        assert torch.equal(seen[1][place], seen[2][place]) != own[place]


def test_undone_it_is_the_users_model_with_the_active_ones_tensors() -> None:
    model = several(norms="affine").train()
    dv.switch(model, "rough")
    model(X)
    expected = statistics(model)
    dv.remove_(model)
    assert type(model) is Net
    assert dv.recipes(model) == ()
    plain = net()
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert list(dict(model.named_buffers())) == list(dict(plain.named_buffers()))
    assert list(dict(model.named_parameters())) == list(dict(plain.named_parameters()))
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in expected.items())
    dv.apply_(model, MILD, X)  # nothing is in the way


@pytest.mark.parametrize("norms", ["statistics", "affine"])
def test_saved_and_loaded(norms: str) -> None:
    model = several(norms=norms).train()
    for i, name in enumerate(ALL):
        dv.switch(model, name)
        for _ in range(i):
            model(X)
    with torch.no_grad():
        model.norm.weight.mul_(1.5)
    saved, weights = dv.state(model), model.state_dict()
    other = net()
    other.load_state_dict(weights)
    dv.load_state(other, saved, X)
    for name in ("rough", *ALL):
        dv.switch(model, name)
        dv.switch(other, name)
        assert torch.equal(other.eval()(X), model.eval()(X))
        assert torch.equal(other.norm.num_batches_tracked, model.norm.num_batches_tracked)
    saved.pop("mild/norm/norm.running_mean")
    fresh = net()
    with pytest.raises(DovetailError, match=r"only the model has a normalisation's 'norm\.running"):
        dv.load_state(fresh, saved, X)
    assert dv.recipes(fresh) == ()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_switch_by_themselves(how) -> None:  # type: ignore[no-untyped-def]
    model = several().eval()
    twin = how(model)
    dv.switch(twin, "rough")
    assert torch.equal(twin(X), alone(ROUGH).eval()(X))
    assert torch.equal(model(X), net().eval()(X))
    dv.switch(twin, "mild")
    assert torch.equal(twin(X), alone(MILD).eval()(X))


def test_waiting_tensors_move_with_the_model() -> None:
    model = several().eval().double()
    dv.switch(model, "mild")
    expected = alone(MILD).eval().double()
    assert torch.equal(model(X.double()), expected(X.double()))


def test_compiled_it_switches_too() -> None:
    model = several().eval()
    compiled = torch.compile(model, backend="aot_eager")
    for name in ("rough", "mild", "exact", "rough"):
        dv.switch(model, name)
        assert torch.equal(compiled(X), model(X))


def test_calibrating_changes_the_active_one_alone() -> None:
    model = several().eval()
    dv.switch(model, "mild")
    with dv.calibrate(model):
        model(4 * X)
    changed = model(X)
    dv.switch(model, "rough")
    assert torch.equal(model(X), alone(ROUGH).eval()(X))
    dv.switch(model, "mild")
    assert torch.equal(model(X), changed)
    assert not torch.equal(changed, alone(MILD).eval()(X))


def test_refusals() -> None:
    with pytest.raises(DovetailError, match="did you mean 'rough'"):
        dv.switch(several(), "rouhg")
    with pytest.raises(DovetailError, match="no several recipes"):
        dv.switch(alone(MILD), "mild")
    with pytest.raises(DovetailError, match="did you mean 'statistics'"):
        several(norms="statistic")
    with pytest.raises(DovetailError, match="several recipes are"):
        dv.apply_several_(net(), MILD, X)  # type: ignore[arg-type]
    model = net()
    bad = {"mild": MILD, "none": dv.Recipe(dv.rule("nowhere", input="int8"))}
    with pytest.raises(DovetailError, match="nowhere"):
        dv.apply_several_(model, bad, X)
    assert torch.equal(model.eval()(X), net().eval()(X))
    assert type(model.conv) is nn.Conv2d
    with pytest.raises(DovetailError, match="emulated already"):
        dv.apply_several_(alone(MILD), ALL, X)
