"""Folding: weights become what they are rounded to, and the model computes the same bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.emulation import is_emulated

X = torch.linspace(-1, 1, 3 * 64).reshape(3, 64)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.a = nn.Linear(64, 64)
        self.b = nn.Linear(64, 8, bias=False)

    def forward(self, x):
        return self.b(torch.nn.functional.linear(self.a(x).relu(), self.a.weight))


@pytest.mark.parametrize(
    "fields",
    [
        {"weight": "mxfp4"},
        {"weight": "BFP16_64", "input": "BFP16_64"},
        {"weight_storage": "SBFP12_16"},
        {"weight": "mxint8", "input": "mxint8", "sparsity": "2:4"},
        {"weight": "int8", "input": "int8"},
        {"weight": "int4(po2)", "input": "int8", "mul": "mul8s_1KV9"},
        {"weight": "fp8_e4m3", "bias": "bf16"},
    ],
)
def test_the_output_keeps_its_bits(fields):
    net = Net()
    dv.apply_(net, dv.Recipe(dv.rule("b", **fields | {"optional": True})), X)
    want, exact = net(X), net.b.weight.clone()
    assert dv.fold_(net) == ["b.weight"]
    assert not torch.equal(net.b.weight, exact)
    assert torch.equal(net(X), want)
    assert is_emulated(net.b)
    folded = net.b.weight.clone()
    dv.fold_(net)
    assert torch.equal(net.b.weight, folded)


def test_biases_are_folded():
    net = nn.Linear(64, 4)
    dv.apply_(net, dv.Recipe(dv.rule(bias="fp8_e4m3")), X)
    want = net(X)
    assert dv.fold_(net) == ["bias"]
    assert torch.equal(net(X), want)
    dv.remove_(net)
    assert torch.equal(net.bias, dv.cast(net.bias, "fp8_e4m3"))


def test_what_would_be_rounded_again_is_refused_before_anything_changes():
    net = Net()
    rules = (dv.rule("b", weight="bf16"), dv.rule("a", weight="int8(affine)"))
    dv.apply_(net, dv.Recipe(*rules), X)
    before = {name: p.clone() for name, p in net.named_parameters()}
    with pytest.raises(dv.DovetailError, match=r"a: its weight cannot be folded.*once more"):
        dv.fold_(net)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


def test_stochastic_rounding_is_refused():
    net = nn.Linear(64, 4)
    dv.apply_(net, dv.Recipe(dv.rule(weight="bfp(m=8, block=16, rounding=Stochastic(24))")), X)
    with pytest.raises(dv.DovetailError, match="rounds anew at every call"):
        dv.fold_(net)


def test_shared_parameters():
    net = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    net[1].weight = net[0].weight
    dv.apply_(net, dv.Recipe(dv.rule("0", weight="mxfp4")), X)
    with pytest.raises(dv.DovetailError, match=r"'0\.weight' is shared by 0 and 1, which does not"):
        dv.fold_(net)
    dv.remove_(net)
    dv.apply_(net, dv.Recipe(dv.rule("*", weight="mxfp4"), dv.rule("1", weight="bf16")), X)
    with pytest.raises(dv.DovetailError, match="shared by 0 and 1, which round it differently"):
        dv.fold_(net)
    dv.remove_(net)
    dv.apply_(net, dv.Recipe(dv.rule("*", weight="mxfp4")), X)
    want = net(X)
    assert dv.fold_(net) == ["0.weight"]
    assert torch.equal(net(X), want)


def test_functions_on_parameters_are_left():
    net = Net()
    dv.apply_(net, dv.Recipe(dv.rule(".:linear", weight="mxfp4")), X)
    before = net.a.weight.clone()
    assert dv.fold_(net) == []
    assert torch.equal(net.a.weight, before)
