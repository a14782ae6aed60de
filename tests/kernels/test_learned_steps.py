"""Learned scales: against the papers' formulas in autograd, and through whole models."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.kernels.learned_steps import first_step, step_gradient
from helpers import build, randn

CIRCUIT = "mul8s_1KX5"


def lsq(x, step, qmax, count):
    """Appendix B of arXiv 1902.08153: the step's gradient scaled, rounding passed straight on."""
    g = 1 / math.sqrt(count * qmax)
    shape = [-1] + [1] * (x.dim() - 1) if step.dim() else []
    s = ((step - step * g).detach() + step * g).view(shape)
    codes = (x / s).clamp(-qmax, qmax)
    return ((codes.round() - codes).detach() + codes) * s


def pact(x, step, qmax):
    """Clipped at a learned range on both sides, then rounded straight through."""
    alpha = step * qmax
    clipped = torch.where(x >= alpha, alpha, torch.where(x <= -alpha, -alpha, x))
    rounded = (clipped / step).round().clamp(-qmax, qmax) * step
    return (rounded - clipped).detach() + clipped


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("per", ["input", "channel", "tensor"])
def test_lsq_is_its_formula(bits, per):
    x = randn(5, 4, 3).double()
    step = torch.full((5,) if per == "channel" else (), 0.02 if bits == 8 else 0.4).double()
    step = (step * (1 + torch.arange(step.numel()).view(step.shape) / 9)).requires_grad_()
    fmt, direction = IntFormat(bits), randn(5, 4, 3, seed=2).double()
    count = {"input": 12, "channel": 12, "tensor": 60}[per]
    (lsq(x, step, fmt.qmax, count) * direction).sum().backward()
    slot = "input" if per == "input" else "weight"
    got = step_gradient(x, fmt, step.detach(), "lsq", slot, direction)
    torch.testing.assert_close(got, step.grad)


def test_pact_is_its_formula():
    x, direction = randn(6, 7).double() * 2, randn(6, 7, seed=2).double()
    step, fmt = torch.tensor(0.02, dtype=torch.float64, requires_grad=True), IntFormat(6)
    (pact(x, step, fmt.qmax) * direction).sum().backward()
    got = step_gradient(x, fmt, step.detach(), "pact", "input", direction)
    torch.testing.assert_close(got, step.grad)


def test_lsq_by_hand():
    """Step 1/2 and 4 bits: 0.3 rounds up by 0.4 steps, 9 clips to 7, of two values in 'one'."""
    x, one = torch.tensor([0.3, 9.0]), torch.ones(2)
    got = step_gradient(x, IntFormat(4), torch.tensor(0.5), "lsq", "weight", one)
    torch.testing.assert_close(got, torch.tensor((0.4 + 7) / math.sqrt(2 * 7)))


def test_the_first_step_of_a_weight():
    w = randn(3, 8)
    wanted = 2 * w.abs().mean(1) / math.sqrt(127)
    torch.testing.assert_close(first_step(w, IntFormat(8)), wanted)
    whole = 2 * w.abs().mean() / math.sqrt(127)
    torch.testing.assert_close(first_step(w, IntFormat(8, per_tensor=True)), whole)


def off_the_edge(x, qmax, step):
    """``x`` with nothing that rounds to the last code from beyond it: there the papers pass no
    gradient on, and a cast that does not clip does."""
    steps = x / step
    return torch.where((steps.abs() > qmax) & (steps.abs() < qmax + 1), steps * 0.8 * step, x)


def applied(make, example, grad, mul="exact", fmt="int4"):
    model = nn.Sequential(build(0, make))
    dv.apply_(model, dv.Recipe(dv.rule("*", input=fmt, weight=fmt, mul=mul, grad=grad)), example)
    return model


@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 4), lambda: nn.Conv2d(6, 4, 2, padding=1)])
def test_a_layer_is_the_formulas(make):
    x = randn(5, 6) if isinstance(make(), nn.Linear) else randn(2, 6, 3, 3)
    model = applied(make, x.clamp(-1, 1), "ste(lsq)")
    layer, steps = model[0], dv.learned_parameters(model)
    with torch.no_grad():
        x = off_the_edge(x, 7, steps["0.input.scale"])
        columns = steps["0.weight.scale"].view(-1, *[1] * (x.dim() - 1))
        layer.weight.copy_(off_the_edge(layer.weight, 7, columns))
    x.requires_grad_()
    y = model(x)
    direction = randn(*y.shape, seed=4)
    leaves = [x, layer.weight, layer.bias, steps["0.input.scale"], steps["0.weight.scale"]]
    got = torch.autograd.grad(y, leaves, direction)
    xq = lsq(x, leaves[3], 7, x[0].numel())
    wq = lsq(layer.weight, leaves[4], 7, layer.weight[0].numel())
    z = F.linear(xq, wq, layer.bias) if x.dim() == 2 else F.conv2d(xq, wq, layer.bias, padding=1)
    torch.testing.assert_close(y, z, rtol=1e-4, atol=1e-5)
    for g, wanted in zip(got, torch.autograd.grad(z, leaves, direction), strict=True):
        torch.testing.assert_close(g, wanted, rtol=1e-4, atol=1e-4)


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        y = torch.relu(self.conv(x)).flatten(1)
        return self.fc(y) @ torch.linspace(-1, 1, 8).reshape(4, 2)


def emulated(grad):
    model, x = build(0, Both), randn(3, 2, 2, 2)
    dv.apply_(
        model, dv.Recipe(dv.rule("*", input="int8", weight="int8", mul=CIRCUIT, grad=grad)), x
    )
    return model, x


@pytest.mark.parametrize("grad", ["ste(lsq)", "ste(pact)", "lut2d(lsq, window=3)"])
def test_func_grad_equals_backward(grad):
    model, x = emulated(grad)
    model(x).square().sum().backward()

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    wanted = torch.func.grad(loss)(dict(model.named_parameters()))
    names = [name for name, _ in model.named_parameters() if name.endswith("_scale")]
    assert len(names) == (6 if "lsq" in grad else 3)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-3)


def test_steps_are_parameters_that_the_users_state_does_not_show():
    model, x = emulated("ste(lsq)")
    assert sorted(model.state_dict()) == ["conv.bias", "conv.weight", "fc.bias", "fc.weight"]
    model.load_state_dict(model.state_dict())
    steps = dv.learned_parameters(model)
    assert all(any(p is step for p in model.parameters()) for step in steps.values())
    before = {name: step.detach().clone() for name, step in steps.items()}
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    model(x).square().sum().backward()
    optimiser.step()
    assert not any(torch.equal(before[name], step) for name, step in steps.items())
    other = build(1, Both)
    other.load_state_dict(model.state_dict())
    dv.load_state(other, dv.state(model), x)
    assert torch.equal(other(x), model(x))
    for name, step in dv.learned_parameters(other).items():
        assert torch.equal(step, steps[name])
    dv.remove_(model)
    assert len(list(model.parameters())) == 4


def test_only_the_step_of_a_frozen_layers_input_is_learned():
    model, x = emulated("ste(pact)")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("_scale"))
    model(x * 3).square().sum().backward()
    assert all(step.grad.abs() > 0 for step in list(dv.learned_parameters(model).values())[:1])


def test_calibration_sets_the_steps_in_place():
    model, x = emulated("ste(lsq)")
    step = dv.learned_parameters(model)["conv.input.scale"]
    with dv.calibrate(model):
        model(x * 2)
    torch.testing.assert_close(step.detach(), (x * 2).abs().max() / 127)
    assert dv.learned_parameters(model)["conv.input.scale"] is step


def test_a_step_that_an_optimiser_made_negative_still_computes():
    model, x = emulated("ste(lsq)")
    with torch.no_grad():
        dv.learned_parameters(model)["conv.input.scale"].fill_(-1.0)
    assert model(x).isfinite().all()


@pytest.mark.parametrize("fmt", ["int8(affine)", "int8(po2)", "int8(dynamic)", "bf16"])
def test_scales_that_something_else_determines_are_refused(fmt):
    with pytest.raises(DovetailError, match=r"learns the scale of the input's integer codes"):
        dv.Arithmetic(input=dv.format(fmt), weight=dv.format("int8"), grad="ste(lsq)").check()
    with pytest.raises(DovetailError, match="operands of products, and softmax has none"):
        dv.Arithmetic(grad="ste(pact)").check("softmax")


def test_training_with_lsq_lowers_the_loss_at_three_bits():
    torch.manual_seed(0)
    x, y = randn(64, 8), randn(64, 4, seed=7)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int3", weight="int3", grad="ste(lsq)")), x)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
