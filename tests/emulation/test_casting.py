"""Formats of every kind in every slot of an operation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.kinds import block_axis

FORMATS = [
    "fp8_e4m3",
    "mxfp8_e5m2",
    "mxfp4",
    "nvfp4",
    "bfp(m=8, block=16)",
    "BFP[8|8]{64}(SN)",
    "fixed(8,4)",
    "posit(8,1)",
    "bf16",
    "int8(dynamic)",
]


def emulated(module: nn.Module, x, **fields) -> nn.Module:
    dv.apply_(module, dv.Recipe(dv.rule("*", **fields)), x)
    return module


@pytest.mark.parametrize("name", FORMATS)
def test_linear_is_the_product_of_the_cast_operands(name):
    layer, x = nn.Linear(40, 7), torch.randn(3, 5, 40)
    channel = 0 if name.startswith("int8") else None
    exact = F.linear(
        dv.cast(x, name), dv.cast(layer.weight, name, channel=channel), dv.cast(layer.bias, name)
    )
    expected = dv.cast(exact, name).detach()
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        y = emulated(layer, x, input=name, weight=name, bias=name, output=name)(x)
        uncast = emulated(twin, x, input=name, weight=name, bias=name)(x)
    if name.startswith("int8"):  # its products are of integer codes, scaled once
        assert torch.allclose(y, expected, atol=float(expected.abs().max()) / 120)
    else:
        torch.testing.assert_close(uncast, exact.detach())
        assert torch.equal(y, dv.cast(uncast, name))


@pytest.mark.parametrize("name", ["mxfp4(block=4)", "bfp(m=6, block=3)"])
def test_blocks_of_a_convolution_run_along_its_channels(name):
    layer, x = nn.Conv2d(6, 5, 3, padding=1), torch.randn(2, 6, 5, 5)
    expected = F.conv2d(dv.cast(x, name, 1), dv.cast(layer.weight, name, 1), layer.bias, padding=1)
    expected = dv.cast(expected, name, 1)
    with torch.no_grad():
        y = emulated(layer, x, input=name, weight=name, output=name)(x)
    assert torch.allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_blocks_of_a_matmul_run_along_the_sum():
    class Product(nn.Module):
        def forward(self, a, b):
            return a @ b

    a, b = torch.randn(2, 3, 8), torch.randn(2, 8, 4)
    y = emulated(Product(), (a, b), input="mxfp8_e4m3(block=4)", weight="mxfp8_e4m3(block=4)")(a, b)
    fmt = "mxfp8_e4m3(block=4)"
    torch.testing.assert_close(y, dv.cast(a, fmt, -1) @ dv.cast(b, fmt, -2))
    assert block_axis("matmul", "weight") == -2


def test_weights_are_stored_in_one_format_and_multiplied_in_another():
    layer, x = nn.Linear(16, 4), torch.randn(2, 16)
    stored = dv.cast(layer.weight.detach(), "mxfp4")
    expected = F.linear(x, dv.cast(stored, "fp8_e4m3"), layer.bias)
    emulated(layer, x, weight_storage="mxfp4", weight="fp8_e4m3")
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
        assert torch.equal(layer(x), expected)  # from the kept cast
        layer.weight.mul_(3.0)
        again = F.linear(x, dv.cast(dv.cast(layer.weight, "mxfp4"), "fp8_e4m3"), layer.bias)
        assert torch.equal(layer(x), again)


def test_stored_weights_under_a_multiplier():
    layer, x = nn.Linear(16, 4), torch.randn(2, 16)
    plain = nn.Linear(16, 4)
    plain.load_state_dict({"weight": dv.cast(layer.weight.detach(), "nf4"), "bias": layer.bias})
    emulated(layer, x, weight_storage="nf4", weight="int8", input="int8", mul="mul8s_1KV9")
    emulated(plain, x, weight="int8", input="int8", mul="mul8s_1KV9")
    with torch.no_grad():
        assert torch.equal(layer(x), plain(x))


def test_a_matmul_stores_no_weight():
    class Product(nn.Module):
        def forward(self, a):
            return a @ a

    with pytest.raises(dv.DovetailError, match=r"weight_storage, which matmul has not"):
        dv.plan(Product(), dv.Recipe(dv.rule("*", weight_storage="mxfp4")), torch.ones(2, 2))


@pytest.mark.parametrize("name", FORMATS[:7])
def test_gradient_passes_through_the_casts(name):
    layer, x = nn.Linear(32, 4), torch.randn(3, 32, requires_grad=True)
    xq, wq = dv.cast(x, name), dv.cast(layer.weight, name)
    gx, gw = torch.autograd.grad(F.linear(xq, wq).square().sum(), [x, layer.weight])
    bare = nn.Linear(32, 4, bias=False)
    bare.weight = layer.weight
    emulated(bare, x.detach(), input=name, weight=name)
    hx, hw = torch.autograd.grad(bare(x).square().sum(), [x, bare.weight])
    # The product itself may differ in its last bits: blocks are summed in order.
    torch.testing.assert_close(gx, hx)
    torch.testing.assert_close(gw, hw)


def test_stochastic_rounding_follows_torch_seed():
    layer, x = nn.Linear(32, 4), torch.randn(3, 32)
    emulated(layer, x, input="fp8_e4m3(rounding=Stochastic(8))")
    with torch.no_grad():
        torch.manual_seed(1)
        first = layer(x)
        torch.manual_seed(1)
        assert torch.equal(layer(x), first)
        assert not torch.equal(layer(x), first)


@pytest.mark.parametrize("name", ["mxfp4", "fp8_e4m3", "bfp(m=8, block=16)", "fixed(8,4)"])
def test_compiled_casts_have_the_same_bits(name):
    layer, x = nn.Linear(40, 7), torch.randn(3, 40)
    emulated(layer, x, input=name, weight=name, output=name)
    with torch.no_grad():
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x), layer(x))


def test_groups_of_a_weight_run_along_the_sum():
    layer, x = nn.Conv2d(6, 4, 3, bias=False), torch.randn(2, 6, 5, 5)
    expected = F.conv2d(x, dv.cast(layer.weight, "int4(group=3)", 1))
    emulated(layer, x, weight="int4(group=3)")
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
    both = nn.Linear(6, 4)
    rule = dv.rule("*", input="int8", weight="int8(group=3)", mul="mul8s_1KV9")
    with pytest.raises(dv.DovetailError, match=r"mul=.*group=3"):
        dv.plan(both, dv.Recipe(rule), torch.ones(1, 6))


def test_a_format_that_changes_nothing_copies_nothing():
    model, x = nn.Sequential(nn.Dropout()).eval(), torch.ones(3, 4)
    dv.apply_(model, dv.Recipe(dv.rule(op="dropout", input="same", output="same")), x)
    assert model(x).data_ptr() == nn.Dropout().eval()(x).data_ptr() == x.data_ptr()
