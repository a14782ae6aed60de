"""Batch norms folded away, and their statistics under emulation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.zoo.mobilenet import MobileNetV2
from helpers import build, randn
from recovery.models import convs, error, everything, same


@pytest.mark.parametrize("bias", [True, False])
def test_folding_keeps_the_function_and_is_undone(bias):
    model, batches = convs(norm=True, bias=bias)
    before, wanted = everything(model), [model(b).detach() for b in batches]
    norm = model.na
    done = dv.fold_batch_norm(model, batches)
    assert [(c.op, c.what) for c in done] == [("na", "folded into a"), ("nb", "folded into b")]
    assert isinstance(model.na, nn.Identity)
    assert ("a.bias" in model.state_dict(), model.c.bias is None) == (True, not bias)
    for batch, y in zip(batches, wanted, strict=True):
        assert float((model(batch).detach() - y).abs().max()) < 1e-12 * float(y.abs().max())
    done.undo()
    assert model.na is norm
    assert same(everything(model), before)


def test_a_folded_layer_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)).double().eval()
    with torch.no_grad():
        for tensor, value in (
            (model[0].weight, 3.0),
            (model[0].bias, 1.0),
            (model[1].weight, 2.0),
            (model[1].bias, 5.0),
            (model[1].running_mean, 0.5),
            (model[1].running_var, 16.0),
        ):
            tensor.fill_(value)
    dv.fold_batch_norm(model, [torch.ones(1, 1, 2, 2).double()])
    assert model[0].weight.item() == 3 * 2 / 4
    assert model[0].bias.item() == (1 - 0.5) * 2 / 4 + 5


def test_every_norm_of_a_mobilenet_is_folded():
    model = build(0, lambda: MobileNetV2(classes=4, width=0.1)).double().eval()
    x = randn(2, 3, 32, 32, dtype=torch.float64)
    before, wanted = everything(model), model(x).detach()
    with dv.fold_batch_norm(model, [x]) as done:
        assert all(change.what.startswith("folded into") for change in done)
        assert len(done) == sum("running_mean" in name for name in before)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
        assert float((model(x).detach() - wanted).abs().max()) < 1e-12 * float(wanted.abs().max())
    assert same(everything(model), before)


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ([nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)], "no linear layer or convolution feeds it"),
        ([nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)], "no linear layer or convolution"),
        (
            [nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)],
            "it has no running statistics",
        ),
    ],
)
def test_what_cannot_be_folded_is_said(layers, why):
    model = nn.Sequential(*layers).eval()
    before = everything(model)
    with pytest.raises(dv.DovetailError, match=f"cannot be folded, as {why}"):
        dv.fold_batch_norm(model, [randn(1, 2, 3, 3)])
    assert same(everything(model), before)
    mixed = nn.Sequential(*layers, nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).eval()
    done = dv.fold_batch_norm(mixed, [randn(1, 2, 3, 3)])
    assert done[str(len(layers) + 1)].what == f"folded into {len(layers)}"
    assert sum(change.what.startswith(f"left, as {why}") for change in done) == 1


def test_a_convolution_whose_output_goes_elsewhere_keeps_its_norm():
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            x = self.conv(x)
            return self.norm(x) + x

    with pytest.raises(dv.DovetailError, match="what conv gives goes elsewhere, too"):
        dv.fold_batch_norm(Beside().eval(), [randn(1, 2, 3, 3)])


def test_an_emulated_model_is_not_folded():
    model, batches = convs(norm=True)
    dv.apply_(model, dv.Recipe(dv.rule("*", weight="int8")), batches[0])
    with pytest.raises(dv.DovetailError, match="fold them first, and apply the recipe then"):
        dv.fold_batch_norm(model, batches)


def test_statistics_are_the_average_of_the_batches_own():
    model = nn.Sequential(nn.BatchNorm2d(3)).double().eval()
    batches = [randn(4, 3, 2, 2, seed=s, dtype=torch.float64) for s in range(3)]
    before = everything(model)
    done = dv.reestimate_batch_norm(model, batches)
    means = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    variances = torch.stack([b.transpose(0, 1).flatten(1).var(1) for b in batches]).mean(0)
    assert torch.allclose(model[0].running_mean, means, rtol=1e-12)
    assert torch.allclose(model[0].running_var, variances, rtol=1e-12)
    assert done["0"].before == pytest.approx(float(means.square().mean()))
    assert (model[0].training, model[0].momentum) == (False, 0.1)
    done.undo()
    assert same(everything(model), before)


def test_under_emulation_they_follow_what_the_norms_then_see():
    exact, _ = convs(torch.float32, norm=True)
    batches = [randn(64, 3, 6, 6, seed=5)]
    dv.reestimate_batch_norm(exact, batches).keep()
    model = copy.deepcopy(exact)
    mul = dv.multiplier(lambda a, w: a * w * 3 // 4, bits=8)  # three quarters of every product
    rule = dv.rule("a", input="int8", weight="int8", mul=mul)
    dv.apply_(model, dv.Recipe(rule), batches[0])
    before, untouched = error(model, exact, batches), everything(model)
    done = dv.reestimate_batch_norm(model, batches)
    seen = model.a(batches[0]).detach()
    assert torch.allclose(model.na.running_mean, seen.mean((0, 2, 3)), rtol=1e-5)
    assert error(model, exact, batches) < 0.01 * before
    done.undo()
    assert same(everything(model), untouched)


def test_an_error_in_a_batch_leaves_statistics_and_modes():
    model = nn.Sequential(nn.BatchNorm1d(3)).eval()
    before = everything(model)
    with pytest.raises(ValueError, match="more than 1 value"):
        dv.reestimate_batch_norm(model, [randn(4, 3), randn(1, 3)])
    assert same(everything(model), before)
    assert (model[0].training, model[0].momentum) == (False, 0.1)
    with pytest.raises(dv.DovetailError, match="0 saw values that are not finite"):
        dv.reestimate_batch_norm(model, [torch.full((4, 3), float("nan"))])
    assert same(everything(model), before)


def test_norms_without_statistics_are_refused():
    model = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(dv.DovetailError, match="0 has no running statistics"):
        dv.reestimate_batch_norm(model, [randn(4, 3)])


def test_a_model_without_batch_norms_is_told_so():
    with pytest.raises(
        dv.DovetailError, match="this model calls no batch_norm, so there is nothin"
    ):
        dv.fold_batch_norm(nn.Sequential(nn.Linear(2, 2)), [torch.ones(1, 2)])
