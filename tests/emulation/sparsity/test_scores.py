"""What scores are made of: calibration, gradients, and ranges of the sparse network."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.emulation.sparsifying import held
from dovetail.emulation.state import sites
from dovetail.errors import DovetailError
from dovetail.sparsity import sparsity
from sparse_nets import X, apply, net, pruned


def test_wanda_is_the_weight_times_the_norm_of_its_inputs() -> None:
    model = net(nn.Linear(4, 3))
    x = torch.tensor([[1.0, 2.0, 0.0, 0.1], [1.0, -2.0, 0.0, 0.1]])
    apply(model, "topk(0.5, score=wanda)", x)
    with pytest.raises(DovetailError, match=r"0: its scores are not known yet; .*model\(batch\)'"):
        model(x)
    with dv.calibrate(model):
        model(x)
    ((site, module),) = sites(model)
    norms = x.pow(2).sum(0).sqrt().expand(3, 4)
    assert torch.allclose(held(site, module)["scores"], norms)
    weight = model[0].weight.detach()
    mask = sparsity("topk(0.5)").pattern.mask(weight.abs() * norms)
    assert torch.equal(model(x), F.linear(x, torch.where(mask, weight, 0), model[0].bias))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2),
        nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1),
        nn.Conv1d(4, 2, 2, dilation=2),
    ],
)
def test_norms_count_an_input_as_often_as_its_weight_meets_it(layer: nn.Module) -> None:
    x = torch.randn(2, 4, *[7] * (layer.weight.dim() - 2))
    model = nn.Sequential(copy.deepcopy(layer))
    dv.apply_(model, dv.Recipe(dv.rule("*", sparsity="topk(0.5, score=wanda)")), x)
    with torch.inference_mode(), dv.calibrate(model):
        model(x)
    ((site, module),) = sites(model)
    norms = held(site, module)["scores"]
    # One weight of 1 at a time: what comes out are the inputs that it meets.
    place = (1, 0, *[1] * (layer.weight.dim() - 2))
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[place] = 1
        met = layer(x).pow(2).sum().sqrt()
        own = norms[place] if isinstance(layer, (nn.Conv1d, nn.Conv2d)) else norms[0, 1, 1, 1]
    assert torch.allclose(own, met)


def test_ranges_are_those_of_the_sparse_network() -> None:
    model = net(nn.Linear(16, 8, bias=False))
    apply(model, "1:16", output="int8")
    with dv.calibrate(model):
        model(X)
    largest = F.linear(X, pruned(model[0].weight, "1:16")).abs().max()
    assert model[0]._dovetail_linear_output_scale == largest / 127


@pytest.mark.parametrize(("name", "sign"), [("gradient", None), ("movement", -1.0)])
def test_scores_of_gradients(name: str, sign: float | None) -> None:
    model = net(nn.Linear(16, 4))
    other = copy.deepcopy(model)
    apply(model, f"topk(0.5, fixed, score={name})")
    with pytest.raises(DovetailError, match=r"mask is not chosen yet; .*backward"):
        model(X)
    with pytest.raises(DovetailError, match="needs gradients: run"), dv.calibrate(model):
        model(X)
    with dv.calibrate(model):
        (model(X) ** 2).sum().backward()
        (model(X) ** 2).sum().backward()
    (other(X) ** 2).sum().backward()
    product = 2 * other[0].weight.grad * other[0].weight.detach()
    expected = product.abs() if sign is None else sign * product
    ((site, module),) = sites(model)
    assert torch.allclose(held(site, module)["scores"], expected)
    mask = sparsity("topk(0.5)").pattern.mask(expected)
    assert torch.equal(held(site, module)["mask"], mask)
