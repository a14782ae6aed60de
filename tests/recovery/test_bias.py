"""Bias correction: emulated means become the exact ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import build, randn
from recovery.models import blocks, convs, emulated, error, everything, same

BROKEN = "broken_array(bits=8, drop_columns=8)"


def test_means_become_equal_layer_by_layer():
    exact, batches = convs(torch.float32, bias=False)
    model = copy.deepcopy(exact)
    emulated((model, batches), mul=BROKEN)
    before, untouched = error(model, exact, batches), everything(model)
    done = dv.correct_bias(model, batches)
    assert [change.op for change in done] == ["a", "b", "c", "head"]
    assert all(change.after < 1e-8 * change.before for change in done)
    assert error(model, exact, batches) < 0.5 * before
    y, e = (torch.cat([m(b).detach() for b in batches]).mean(0) for m in (model, exact))
    assert torch.allclose(y, e, rtol=1e-4, atol=1e-6)
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), exact.parameters(), strict=True)
    )
    done.undo()
    assert same(everything(model), untouched)


def test_a_shift_by_hand():
    model = nn.Sequential(nn.Linear(1, 1, bias=False)).double()
    nn.init.ones_(model[0].weight)
    x = torch.tensor([[0.4], [0.6], [0.9]]).double()
    dv.apply_(model, dv.Recipe(dv.rule("*", input="fixed(8, 0)")), x)  # 0, 1, 1
    done = dv.correct_bias(model, [x[:2], x[2:]])
    assert model[0]._dovetail_linear_transform0_shift.item() == pytest.approx(1.9 / 3 - 2 / 3)
    assert done["0"].before == pytest.approx((0.1 / 3) ** 2)
    assert model(x).mean().item() == pytest.approx(x.mean().item())


def test_the_batch_split_does_not_matter():
    shifts = []
    for size in (1, 2, 6):
        model, _ = convs()
        images = randn(12, 3, 6, 6, dtype=torch.float64)
        emulated((model, [images]))
        dv.correct_bias(model, list(images.split(size)))
        shifts.append(model.head._dovetail_linear_transform0_shift)
    assert torch.allclose(shifts[0], shifts[1], rtol=1e-10)
    assert torch.allclose(shifts[0], shifts[2], rtol=1e-10)


def test_it_stands_on_other_recipes_and_is_saved():
    exact, batches = blocks(torch.float32)
    model = copy.deepcopy(exact)
    emulated((model, batches), mul=BROKEN)
    untouched = everything(model)
    handles = [dv.smoothquant(model, batches, fuse="never"), dv.correct_bias(model, batches)]
    fresh, _ = blocks(torch.float32)
    dv.load_state(fresh, dv.state(model), batches[0])
    assert torch.equal(fresh(batches[0]), model(batches[0]))
    for handle in reversed(handles):
        handle.undo()
    assert same(everything(model), untouched)


def test_calls_of_one_module_share_a_shift():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(torch.relu(self.fc(x)))

    model, x = build(0, Twice), randn(16, 4)
    emulated((model, [x]), mul=BROKEN)
    assert dv.correct_bias(model, [x])["fc"].what == "shift added to its bias"


def test_refusals():
    model, batches = convs()
    with pytest.raises(dv.DovetailError, match=r"not emulated: call dv\.apply_"):
        dv.correct_bias(model, batches)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")))
    with pytest.raises(dv.DovetailError, match="the range of its input is not known"):
        dv.correct_bias(model, batches)
    assert not any(name.startswith("_dovetail") for name, _ in model.named_buffers())
