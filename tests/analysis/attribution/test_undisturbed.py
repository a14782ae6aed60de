"""What an attribution leaves behind: nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from attributed_models import made
from helpers import build, modes, randn
from recovery.models import everything, same


@pytest.mark.parametrize("mode", ["exact", "first_order"])
@pytest.mark.parametrize("name", ["linear", "conv", "lstm"])
def test_the_model_is_left_as_it_was(name: str, mode: str) -> None:
    model, loader = made(name)
    model.train()
    next(iter(model.children())).eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, flags = everything(model), [module.training for module in model.modules()]
    classes = [type(module) for module in model.modules()]
    entries = [module.__dict__.get("_dovetail") for module in model.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()

    def check() -> None:
        assert same(everything(model), before)
        assert [module.training for module in model.modules()] == flags
        assert [type(module) for module in model.modules()] == classes
        assert [module.__dict__.get("_dovetail") for module in model.modules()] == entries
        assert torch.equal(torch.get_rng_state(), state)
        assert all((p.grad == 1).all() for p in model.parameters())
        assert dv.emulation.taps.emulation_of(model).performer is None
        assert modes() == 0

    dv.attribute(model, loader, mode=mode, resamples=10)
    check()
    for stop in (1, 2, 5):

        def interrupt(done: int, _total: int | None, stop: int = stop) -> None:
            if done == stop:
                raise KeyboardInterrupt

        if stop <= 2 or mode == "exact":
            with pytest.raises(KeyboardInterrupt):
                dv.attribute(model, loader, mode=mode, progress=interrupt)
            check()


def test_an_interruption_inside_a_pass() -> None:
    model, loader = made("conv")
    before, runs = everything(model), []

    def interrupt(*_: Any) -> None:
        runs.append(1)
        if len(runs) == 9:
            raise KeyboardInterrupt

    hook = model.b.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        dv.attribute(model, loader)
    hook.remove()
    assert same(everything(model), before)
    assert len(runs) == 9
    assert modes() == 0


def test_inference_mode_around_it_and_empty_batches_in_it() -> None:
    model, loader = made("conv")
    wanted = dv.attribute(model, loader, resamples=20)
    empty = (torch.zeros(0, 2, 5, 5), torch.zeros(0, dtype=torch.long))
    with torch.inference_mode():
        inner = [(x.clone(), t.clone()) for x, t in loader]
        found = dv.attribute(model, [empty, *inner, empty], resamples=20)
        predicted = dv.attribute(model, inner, mode="first_order", resamples=20)
    assert found == wanted
    assert predicted == dv.attribute(model, loader, mode="first_order", resamples=20)


def test_a_state_that_a_pass_changes_is_put_back_before_the_next() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 3)
            self.register_buffer("runs", torch.ones(()))
            self.register_buffer("last", torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x) * self.runs + self.last
            self.runs.mul_(2)
            self.last = y[-1].detach()
            return y

    model, x = build(0, Counting), randn(8, 6)
    target = model.a(x).argmax(1)
    dv.apply_(model, dv.Recipe(dv.rule("a", input="int8", weight="int3")), x)
    model.runs.fill_(3)
    last = model.last
    found = dv.attribute(model, [(x, target)] * 2, resamples=0)
    assert model.runs == 3
    assert model.last is last
    exact = nn.functional.linear(x, model.a.weight, model.a.bias) * 3 + last
    assert found.exact_metric == float((exact.argmax(1) == target).double().mean())
    one = dv.attribute(model, [(x, target)], resamples=0)
    assert [row.delta_metric for row in found] == [row.delta_metric for row in one]


def test_who_counts_meanwhile_sees_nothing() -> None:
    model, loader = made("linear")
    wanted = dv.attribute(model, loader, resamples=0)
    with dv.counters(model) as counts, dv.emulation.exact(model):
        assert dv.attribute(model, loader, resamples=0) == wanted
        assert counts == {}
        model(loader[0][0])
    with dv.counters(model) as counts:
        model(loader[0][0])
    assert list(counts) == ["0", "2"]
