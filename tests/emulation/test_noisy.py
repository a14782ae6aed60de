"""Training under the multiplier's noise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.formats.philox import random_normals
from helpers import build, randn

CIRCUIT = dv.multiplier("mul8s_1KX5")


def emulated(make, x, grad="noise", mul=CIRCUIT):
    model = nn.Sequential(build(0, make))
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8", mul=mul, grad=grad)), x)
    return model


LAYERS = {
    "linear": (lambda: nn.Linear(64, 32), (200, 64)),
    "conv": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=2), (4, 4, 12, 12)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_evaluation_is_bit_exact_and_training_is_not(name):
    make, shape = LAYERS[name]
    x = randn(*shape)
    noisy, exact = emulated(make, x), emulated(make, x, "ste")
    assert torch.equal(noisy.eval()(x), exact(x))
    assert not torch.equal(noisy.train()(x), exact(x))


@pytest.mark.parametrize("name", LAYERS)
def test_the_noise_has_the_mean_and_the_deviation_of_the_sums_errors(name):
    make, shape = LAYERS[name]
    x = randn(*shape)
    model, clean = emulated(make, x).train(), emulated(make, x, "ste", "exact")
    torch.manual_seed(0)
    off = (model(x) - clean(x)).detach()
    layer = model[0]
    unit = x.abs().max() / 127 * layer.weight.detach().flatten(1).abs().amax(1) / 127
    off = (off / (unit if off.dim() == 2 else unit.view(-1, 1, 1))).double()
    wanted = CIRCUIT.errors().summed(layer.weight[0].numel())
    deviation = math.sqrt(wanted.variance)
    assert off.std() == pytest.approx(deviation, rel=0.05)
    assert off.mean() == pytest.approx(wanted.mean, abs=4 * deviation / math.sqrt(off.numel()))


def test_the_gradient_is_that_of_ste():
    make, shape = LAYERS["linear"]
    x, grads = randn(*shape), []
    for grad in ("noise", "ste"):
        model, leaf = emulated(make, x, grad).train(), x.clone().requires_grad_()
        y = model(leaf)
        grads.append(torch.autograd.grad(y, (leaf, *model.parameters()), torch.ones_like(y)))
    for got, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_seed_repeats_the_noise_and_checkpointing_does():
    make, shape = LAYERS["linear"]
    x = randn(*shape)
    model = emulated(make, x).train()
    runs = []
    for run in (model, model, lambda v: checkpoint(model, v, use_reentrant=False)):
        torch.manual_seed(3)
        model.zero_grad()
        y = run(x)
        y.square().sum().backward()
        runs.append((y.detach(), model[0].weight.grad.clone()))
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))
    assert not torch.equal(model(x), model(x))


def test_the_exact_multiplier_makes_no_noise():
    make, shape = LAYERS["linear"]
    x = randn(*shape)
    model = emulated(make, x, mul="exact").train()
    assert torch.equal(model(x), model(x))


def test_normal_numbers():
    numbers = random_normals((1000, 100), torch.tensor(5)).double()
    assert abs(numbers.mean()) < 0.01
    assert abs(numbers.std() - 1) < 0.01
    assert abs((numbers**4).mean() - 3) < 0.1
    assert torch.equal(random_normals((10, 100), torch.tensor(5)).double(), numbers[:10])


def test_an_accumulator_that_training_would_not_see_is_refused():
    int8 = dv.format("int8")
    rule = dv.Arithmetic(input=int8, weight=int8, acc=dv.accumulator("int16"), grad="noise")
    with pytest.raises(DovetailError, match="leave acc out, or give 'ste'"):
        rule.check()
    with pytest.raises(DovetailError, match="noise needs a multiplier's products"):
        dv.Arithmetic(grad="noise").check()
