"""Compiled emulated layers keep packed weights, and notice every way in which one can change."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

import dovetail as dv

pytest.importorskip("dace")
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")


def test_every_change_of_a_weight_reaches_the_compiled_module():
    torch.manual_seed(0)
    model, x = nn.Linear(64, 6).eval(), torch.randn(3, 64)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
    compiled = dv.compile(model, x)

    def optimise():
        model.weight.grad = torch.randn_like(model.weight)
        torch.optim.SGD([model.weight], 0.1).step()

    def poke():
        with torch.no_grad():
            model.weight[2, 5] = 40.0

    def replace():
        model.weight = nn.Parameter(torch.randn(6, 64))

    def through_data():
        model.weight.data.mul_(0.5)

    with torch.no_grad():
        last = model(x)
        for change in (optimise, poke, replace, through_data):
            change()
            expected = model(x)
            assert not expected.equal(last), change
            for _ in range(2):
                assert compiled(x).equal(expected), change
            last = expected
