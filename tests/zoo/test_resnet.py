"""Residual networks: their structure, and that rules reach every product in them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import dovetail as dv
from dovetail import zoo
from dovetail.emulation import tap
from dovetail.errors import DovetailError
from helpers import INT8, build, randn


@pytest.mark.parametrize(
    ("name", "parameters", "products"), [("resnet18", 11_689_512, 21), ("resnet50", 25_557_032, 54)]
)
def test_structure(name, parameters, products):
    with torch.device("meta"):
        model = zoo.build(name).eval()
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    assert sum(p.numel() for p in model.parameters()) == parameters
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    assert sum(isinstance(m, kinds) for m in model.modules()) == products
    keys = model.state_dict().keys()
    assert {"conv1.weight", "layer2.0.downsample.1.running_var", "layer4.1.bn2.bias"} <= keys


def test_a_bottleneck_is_its_definition():
    block = build(0, lambda: zoo.resnet.Bottleneck(6, 3, stride=2)).eval()
    x = randn(2, 6, 9, 9)
    y = F.relu(block.bn1(F.conv2d(x, block.conv1.weight)))
    y = F.relu(block.bn2(F.conv2d(y, block.conv2.weight, stride=2, padding=1)))
    y = block.bn3(F.conv2d(y, block.conv3.weight))
    conv, norm = block.downsample
    shortcut = norm(F.conv2d(x, conv.weight, stride=2))
    assert torch.equal(block(x), F.relu(y + shortcut))


def test_rules_reach_every_product():
    model = build(0, lambda: zoo.build("resnet18")).eval()
    x, hit = randn(1, 3, 32, 32), set()
    plan = dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    with torch.no_grad(), tap(model, lambda op, call: hit.add(op.key)):
        assert torch.isfinite(model(x)).all()
    assert len(plan) == len(hit) == 21


def test_no_weights_ship_and_none_are_trained():
    with pytest.raises(DovetailError, match="no trained weights of 'resnet50'"):
        zoo.checkpoint("resnet50")
    with pytest.raises(DovetailError, match="'resnet18' has no training of its own"):
        zoo.train("resnet18")
