"""The backward pass equals autograd through the explicit fake-quantised expression."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from gradient_models import Both
from helpers import build, randn, random_table

TABLE = random_table(7, -3000, 3000)


def snap(x, fmt, low, high, clip=True, axis=None):
    """``x`` rounded to ``fmt`` by hand, with the straight-through gradient."""
    fmt = dv.format(fmt)
    low, high = low.detach().float().clamp(max=0), high.detach().float().clamp(min=0)
    if fmt.affine:
        scale = (high - low) / (fmt.qmax - fmt.qmin)
        zero = torch.round(fmt.qmin - low / scale).clamp(fmt.qmin, fmt.qmax)
    else:
        scale, zero = torch.maximum(-low, high) / fmt.qmax, torch.zeros_like(low)
    if axis is not None:
        shape = [-1] + [1] * (x.dim() - 1)
        scale, zero = scale.view(shape), zero.view(shape)
    steps = torch.round(x.detach() / scale) + zero
    value = (steps.clamp(fmt.qmin, fmt.qmax) - zero) * scale
    inside = (steps >= fmt.qmin) & (steps <= fmt.qmax)
    passed = torch.where(inside, x, x.detach()) if clip else x
    return value.to(x.dtype) + (passed - passed.detach())


def weights(w, fmt="int8"):
    flat = w.detach().flatten(1)
    return snap(w, fmt, flat.amin(1), flat.amax(1), clip=False, axis=0)


def backward(y, *leaves):
    generator = torch.Generator().manual_seed(9)
    direction = torch.randn(y.shape, generator=generator).to(y.dtype)
    return torch.autograd.grad(y, leaves, direction)


def assert_close(got, wanted):
    for g, w in zip(got, wanted, strict=True):
        assert g.shape == w.shape
        assert g.dtype == w.dtype
        torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grad", ["ste", "ste(unclipped)"])
@pytest.mark.parametrize("input_", ["int8", "int8(affine)", "uint8", "int4"])
@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 6), (0, 6)])
def test_linear(grad, input_, shape):
    layer = build(0, lambda: nn.Linear(6, 4))
    example = randn(4, 6).clamp(-1, 1)
    mul = "exact" if input_ == "uint8" else TABLE
    model = nn.Sequential(layer)
    recipe = dv.Recipe(dv.rule("*", input=input_, weight="int8", mul=mul, grad=grad))
    dv.apply_(model, recipe, example)
    x = (randn(*shape, seed=3) * 1.5).requires_grad_()
    got = backward(model(x), x, layer.weight, layer.bias)
    xq = snap(x, input_, example.min(), example.max(), clip=grad == "ste")
    wanted = backward(F.linear(xq, weights(layer.weight), layer.bias), x, layer.weight, layer.bias)
    assert_close(got, wanted)


@pytest.mark.parametrize("grad", ["ste", "ste(unclipped)"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (2, 3, 8)),
        (lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), groups=2), (2, 4, 5, 4)),
        (lambda: nn.Conv2d(3, 6, 3, groups=3, dilation=2), (1, 3, 6, 6)),
        (lambda: nn.Conv2d(2, 3, (4, 3), padding="same"), (1, 2, 5, 5)),
        (lambda: nn.Conv2d(2, 3, 3, stride=2), (1, 2, 6, 6)),  # last row and column unused
        (lambda: nn.Conv3d(2, 3, 2, bias=False), (1, 2, 3, 3, 3)),
        (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (1, 2, 4, 4)),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_conv(grad, make, shape):
    layer = build(0, make)
    example = randn(*shape).clamp(-1, 1)
    model = nn.Sequential(layer)
    recipe = dv.Recipe(dv.rule("*", input="int8(affine)", weight="int8", mul=TABLE, grad=grad))
    dv.apply_(model, recipe, example)
    x = (randn(*shape, seed=3) * 1.5).requires_grad_()
    leaves = [x, *layer.parameters()]
    got = backward(model(x), *leaves)
    xq = snap(x, "int8(affine)", example.min(), example.max(), clip=grad == "ste")
    y = torch.func.functional_call(
        build(0, make),
        {"weight": weights(layer.weight)}
        | ({"bias": layer.bias} if layer.bias is not None else {}),
        (xq,),
    )
    assert_close(got, backward(y, *leaves))


@pytest.mark.parametrize("grad", ["ste", "ste(unclipped)"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((4,), (4, 3)),
        ((3, 4), (4,)),
        ((4,), (4,)),
    ],
)
def test_matmul(grad, first, second):
    class Product(nn.Module):
        def forward(self, x, y):
            return x @ y

    model = Product()
    x, y = randn(*first), randn(*second, seed=1)
    recipe = dv.Recipe(dv.rule("*", input="int8(affine)", weight="int8", mul=TABLE, grad=grad))
    dv.apply_(model, recipe, (x.clamp(-1, 1), y.clamp(-1, 1)))
    lx, hx, ly, hy = (
        x.clamp(-1, 1).min(),
        x.clamp(-1, 1).max(),
        y.clamp(-1, 1).min(),
        y.clamp(-1, 1).max(),
    )
    x, y = x.requires_grad_(), y.requires_grad_()
    got = backward(model(x, y), x, y)
    xq = snap(x, "int8(affine)", lx, hx, clip=grad == "ste")
    yq = snap(y, "int8", ly, hy, clip=grad == "ste")
    assert_close(got, backward(xq @ yq, x, y))


def test_the_clip_mask():
    """x = 5 * amax gets no gradient; with ``ste(unclipped)`` it gets the whole one."""
    for grad, wanted in (("ste", [1.0, 0.0, 0.0]), ("ste(unclipped)", [1.0, 1.0, 1.0])):
        layer = nn.Linear(3, 1, bias=False)
        nn.init.ones_(layer.weight)
        model = nn.Sequential(layer)
        recipe = dv.Recipe(dv.rule("*", input="int8", weight="int8", grad=grad))
        dv.apply_(model, recipe, torch.ones(1, 3))
        x = torch.tensor([[0.5, 5.0, -5.0]], requires_grad=True)
        model(x).sum().backward()
        torch.testing.assert_close(x.grad, torch.tensor([wanted]))


def test_a_range_taken_from_the_operand_itself_clips_nothing():
    layer = build(0, lambda: nn.Linear(3, 2))
    model = nn.Sequential(layer)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8(dynamic)", weight="int8")))
    x = randn(4, 3).requires_grad_()
    got = backward(model(x), x, layer.weight)
    xq = snap(x, "int8", x.min(), x.max(), clip=False)
    assert_close(got, backward(F.linear(xq, weights(layer.weight), layer.bias), x, layer.weight))


@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 4), lambda: nn.Conv2d(6, 4, 1)])
def test_the_bias_gets_its_gradient(make):
    layer = build(0, make)
    x = randn(3, 6) if isinstance(layer, nn.Linear) else randn(3, 6, 2, 2)
    model = nn.Sequential(layer)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8", mul=TABLE)), x)
    model(x).sum().backward()
    per_output = 3 if isinstance(layer, nn.Linear) else 12
    torch.testing.assert_close(layer.bias.grad, torch.full((4,), float(per_output)))


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_frozen_parameters_get_none_and_the_rest_do(frozen):
    layer = build(0, lambda: nn.Conv2d(2, 3, 3))
    getattr(layer, frozen).requires_grad_(False)
    model, x = nn.Sequential(layer), randn(1, 2, 4, 4)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
    model(x).sum().backward()
    assert getattr(layer, frozen).grad is None
    assert getattr(layer, "bias" if frozen == "weight" else "weight").grad is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_gradients_in_other_dtypes(dtype):
    layer = build(0, lambda: nn.Conv2d(2, 3, 3, padding=1)).to(dtype)
    model, x = nn.Sequential(layer), randn(1, 2, 4, 4, dtype=dtype)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
    x.requires_grad_()
    model(x).sum().backward()
    for tensor in (x, layer.weight, layer.bias):
        assert tensor.grad.dtype == dtype
        assert tensor.grad.isfinite().all()


def test_the_gradient_is_that_of_the_line_through_the_codes():
    """In float64, along a direction in which no code changes, the exact product is linear."""
    layer = build(0, lambda: nn.Linear(5, 3)).double()
    model, x = nn.Sequential(layer), randn(4, 5, dtype=torch.float64)
    recipe = dv.Recipe(dv.rule("*", input="int8", weight="int8"))
    dv.apply_(model, recipe, x)
    y = model(x)
    direction = torch.ones_like(y)
    (grad,) = torch.autograd.grad(y, layer.bias, direction)
    step = 1e-6
    with torch.no_grad():
        layer.bias += step
    moved = (model(x) - y).sum(0) / step
    torch.testing.assert_close(grad, moved.detach(), rtol=1e-6, atol=1e-6)


def test_double_backward():
    layer = build(0, lambda: nn.Linear(3, 2))
    model, x = nn.Sequential(layer), randn(4, 3)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
    x.requires_grad_()
    y = model(x).square().sum()
    (first,) = torch.autograd.grad(y, x, create_graph=True)
    xq = snap(x, "int8", x.detach().min(), x.detach().max())
    z = F.linear(xq, weights(layer.weight), layer.bias).square().sum()
    (wanted,) = torch.autograd.grad(z, x, create_graph=True)
    torch.testing.assert_close(first, wanted, rtol=1e-4, atol=1e-5)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    (hoped,) = torch.autograd.grad(wanted.square().sum(), x)
    torch.testing.assert_close(second, hoped, rtol=1e-4, atol=1e-5)


def emulated():
    model, x = build(0, Both), randn(3, 2, 2, 2)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8", mul=TABLE)), x)
    return model, x


def loss_of(model):
    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    return loss


def test_func_grad_equals_backward():
    model, x = emulated()
    parameters = dict(model.named_parameters())
    model(x).square().sum().backward()
    grads = torch.func.grad(loss_of(model))(parameters, x)
    for name, parameter in parameters.items():
        torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-4, atol=1e-4)


def test_the_value_under_func_is_the_ops():
    model, x = emulated()
    wanted = model(x).square().sum()
    _, value = torch.func.grad_and_value(loss_of(model))(dict(model.named_parameters()), x)
    assert torch.equal(value.detach(), wanted.detach())


def test_vmap_equals_a_loop():
    model, x = emulated()
    got = torch.func.vmap(lambda v: model(v[None])[0])(x)
    assert torch.equal(got, torch.cat([model(v[None]) for v in x]))
    stacked = {k: torch.stack([v, v * 0.5]) for k, v in model.named_parameters()}
    got = torch.func.vmap(lambda p: torch.func.functional_call(model, p, (x,)))(stacked)
    for i in range(2):
        one = {k: v[i] for k, v in stacked.items()}
        assert torch.equal(got[i], torch.func.functional_call(model, one, (x,)))


def test_per_sample_gradients():
    model, x = emulated()
    parameters = {k: v.detach() for k, v in model.named_parameters()}
    per_sample = torch.func.vmap(torch.func.grad(loss_of(model)), in_dims=(None, 0))
    got = per_sample(parameters, x[:, None])
    for i in range(len(x)):
        wanted = torch.func.grad(loss_of(model))(parameters, x[i : i + 1])
        for name in parameters:
            torch.testing.assert_close(got[name][i], wanted[name], rtol=1e-4, atol=1e-4)


def test_jacrev_equals_rows_of_backward():
    model, x = emulated()
    jacobian = torch.func.jacrev(lambda v: model(v))(x)
    leaf = x.clone().requires_grad_()
    y = model(leaf)
    rows = [torch.autograd.grad(v, leaf, retain_graph=True)[0] for v in y.flatten()]
    torch.testing.assert_close(
        jacobian, torch.stack(rows).reshape(jacobian.shape), rtol=1e-4, atol=1e-5
    )


def test_forward_mode_is_right_under_func():
    model, x = emulated()
    tangent = randn(*x.shape, seed=8)
    value, slope = torch.func.jvp(lambda v: model(v), (x,), (tangent,))
    assert torch.equal(value, model(x))
    jacobian = torch.func.jacrev(lambda v: model(v))(x)
    wanted = jacobian.flatten(2) @ tangent.flatten()
    torch.testing.assert_close(slope, wanted, rtol=1e-3, atol=1e-4)


def test_forward_mode_outside_func_is_refused_rather_than_wrong():
    from torch.autograd import forward_ad

    model, x = emulated()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, randn(*x.shape, seed=8))
        with pytest.raises((RuntimeError, NotImplementedError)):
            model(dual)


def test_training_moves_the_weights():
    model, x = emulated()
    target = randn(3, 2, seed=5)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        (model(x) / 100 - target).square().mean().backward()
        optimiser.step()
    assert not any(torch.equal(before[k], v) for k, v in model.named_parameters())


@pytest.mark.parametrize("match", ["*", "conv", "fc", ".:matmul"])
def test_autocast(match):
    """Under autocast the operands of an emulated op may differ in dtype; gradients keep theirs."""
    model, x = build(0, Both), randn(3, 2, 2, 2)
    dv.apply_(model, dv.Recipe(dv.rule(match, input="int8", weight="int8")), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    y.float().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(
    "dtypes", [(torch.bfloat16, torch.float32), (torch.float32, torch.float64)]
)
@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 4), lambda: nn.Conv2d(6, 4, 1)])
def test_operands_of_different_dtypes(make, dtypes):
    layer = build(0, make)
    x = (randn(3, 6) if isinstance(layer, nn.Linear) else randn(3, 6, 2, 2)).to(dtypes[0])
    model = nn.Sequential(layer)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x.float())
    layer.to(dtypes[1])
    x.requires_grad_()
    y = model(x)
    y.sum().backward()
    assert (y.dtype, x.grad.dtype, layer.weight.grad.dtype) == (dtypes[0], *dtypes)
