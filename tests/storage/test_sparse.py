"""Sparse weights in a file: the masked ones, so that what is loaded computes the same bits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.storage import load_encoded, save_encoded
from helpers import build, randn


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.fc = nn.Linear(64, 8)
        self.own = nn.Parameter(torch.randn(16, 8))

    def forward(self, x):
        y = self.up(F.relu(self.conv(x)))
        return F.linear(self.fc(y.flatten(1)), self.own)


def mixed():
    return build(0, Mixed).eval(), randn(3, 4, 4, 4)


RULES = [
    dv.rule("*", weight="int8", sparsity="2:4"),
    dv.rule("conv", weight="mxfp4(block=4)", sparsity="topk(0.3, fixed)"),
    dv.rule("up", weight="bfp(m=6, block=4)"),
]


def loaded(path: Path) -> nn.Module:
    model = Mixed().eval()
    model.load_state_dict(load_encoded(path))
    return model


@pytest.mark.parametrize("applied", [True, False])
def test_masked_weights_are_stored(tmp_path, applied):
    model, x = mixed()
    recipe, path = dv.Recipe(*RULES), tmp_path / "w.safetensors"
    dv.apply_(model, recipe, x)
    wanted = model(x)
    if not applied:
        dv.remove_(model)
    save_encoded(model, path, None if applied else recipe, x)
    for name, density in (("fc", 0.5), ("conv", 0.3), ("up", 0.5)):
        weight = load_encoded(path)[f"{name}.weight"]
        assert int((weight != 0).sum()) <= math.ceil(density * weight.numel())
    assert int((load_encoded(path)["own"] != 0).sum()) <= 64
    again = loaded(path)
    torch.testing.assert_close(again(x), wanted)  # the products of codes are summed otherwise
    dv.apply_(again, recipe, x)
    assert torch.equal(again(x), wanted)


def test_without_a_format_the_zeros_are_stored_too(tmp_path):
    model, x = mixed()
    dv.apply_(model, dv.Recipe(dv.rule("fc", sparsity="2:4")), x)
    wanted, path = model(x), tmp_path / "w.safetensors"
    report = save_encoded(model, path)
    assert all(t.format is None for t in report)
    assert torch.equal(loaded(path)(x), wanted)
    dv.remove_(model)
    assert int((model.fc.weight == 0).sum()) == 0  # the model's own are what they were


def test_a_mask_of_data_is_the_one_that_was_calibrated(tmp_path):
    model, x = mixed()
    recipe, path = dv.Recipe(dv.rule("fc", sparsity="2:4(score=wanda)")), tmp_path / "w.safetensors"
    dv.apply_(model, recipe, x)
    with dv.calibrate(model):
        model(x)
    wanted = model(x)
    save_encoded(model, path)
    assert torch.equal(loaded(path)(x), wanted)
    dv.remove_(model)
    with pytest.raises(dv.DovetailError, match="its scores are not known yet"):
        save_encoded(model, path, recipe, x)
    assert model(x).shape == wanted.shape
    assert "_dovetail" not in model.fc.__dict__


def test_one_weight_kept_differently_is_refused(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    model, x, path = Tied(), randn(2, 8), tmp_path / "w.safetensors"
    dv.apply_(model, dv.Recipe(dv.rule("*", sparsity="2:4")), x)
    save_encoded(model, path)
    stored = load_encoded(path)
    assert stored["a.weight"] is stored["b.weight"]
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule("a", sparsity="2:4"), dv.rule("b", sparsity="1:4")), x)
    with pytest.raises(dv.DovetailError, match="b and a share one weight, but keep different"):
        save_encoded(model, path)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rule", [{"weight": "int4"}, {"weight": "mxfp4(block=4)"}])
def test_transposed_convolutions_run_along_their_products(tmp_path, groups, rule):
    model = nn.Sequential(build(0, lambda: nn.ConvTranspose2d(8, 12, 3, groups=groups))).eval()
    x, path = randn(2, 8, 5, 5), tmp_path / "w.safetensors"
    dv.apply_(model, dv.Recipe(dv.rule("*", **rule)), x)
    wanted = model(x)
    if groups == 1:
        save_encoded(model, path)
        plain = nn.Sequential(nn.ConvTranspose2d(8, 12, 3)).eval()
        plain.load_state_dict(load_encoded(path))
        assert torch.equal(plain(x), wanted)
    else:
        with pytest.raises(dv.DovetailError, match=r"no common axis .* such as 'int8\(per_tensor"):
            save_encoded(model, path)
    assert dv.fold_(model) == ["0.weight"]
    assert torch.equal(model(x), wanted)
    dv.remove_(model)
    assert torch.equal(model(x), wanted)
