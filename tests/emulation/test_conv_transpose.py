"""Transposed convolutions: the plain convolution of a spread-out input, and torch's own result."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.emulation import exact, tap
from helpers import INT8, build, product_of, randn, random_table

MUL = "mul8s_1L2H@v1.1"
CASES = {
    "plain": (nn.ConvTranspose2d, {"kernel_size": 3}, (4, 5)),
    "stride": (nn.ConvTranspose2d, {"kernel_size": 3, "stride": 2}, (4, 3)),
    "output padding": (
        nn.ConvTranspose2d,
        {"kernel_size": (3, 2), "stride": (2, 3), "padding": 1, "output_padding": (1, 2)},
        (3, 4),
    ),
    "output padding with dilation": (
        nn.ConvTranspose2d,
        {"kernel_size": 2, "dilation": (3, 1), "output_padding": (2, 0), "stride": 1},
        (3, 4),
    ),
    "groups": (
        nn.ConvTranspose2d,
        {"kernel_size": 2, "stride": 2, "groups": 2, "dilation": 2},
        (3, 2),
    ),
    "more padding than kernel": (nn.ConvTranspose1d, {"kernel_size": 2, "padding": 3}, (9,)),
    "cut and stride": (
        nn.ConvTranspose1d,
        {"kernel_size": 1, "padding": 1, "stride": 2, "output_padding": 1},
        (6,),
    ),
    "no bias": (nn.ConvTranspose1d, {"kernel_size": 4, "stride": 3, "bias": False}, (5,)),
    "3-d": (
        nn.ConvTranspose3d,
        {"kernel_size": 2, "stride": 2, "groups": 4, "padding": 1},
        (2, 3, 2),
    ),
}


def case(name):
    make, options, size = CASES[name]
    return build(0, lambda: make(4, 8, **options)), randn(2, 4, *size)


@pytest.mark.parametrize("name", CASES)
def test_exact_is_torchs_own_and_fine_formats_come_close(name):
    model, x = case(name)
    wanted = model(x)
    plan = dv.apply_(model, dv.Recipe(dv.rule("*", input="int16", weight="int16")), x)
    assert [(op.key, op.kind) for op in plan] == [(".", "conv_transpose")]
    with exact(model):
        assert torch.equal(model(x), wanted)
    torch.testing.assert_close(model(x), wanted, rtol=0, atol=3e-4)


def by_definition(model, x, input_format, mul):
    """Every input pixel, inserted zero and border passes the multiplier, for every output.

    Written from the definition: output ``o`` of the plain convolution of the spread-out input,
    with the taps in reverse; a pixel that is none has the zero point's code.
    """
    fmt, n = dv.format(input_format), x.dim() - 2
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    if fmt.affine:
        scale = (high - low) / (fmt.qmax - fmt.qmin)
        zero = int(torch.round(fmt.qmin - low / scale).clamp(fmt.qmin, fmt.qmax))
    else:
        scale, zero = torch.maximum(-low, high) / fmt.qmax, 0
    codes = (torch.round(x / scale) + zero).clamp(fmt.qmin, fmt.qmax).long()
    w, groups = model.weight.detach(), model.groups
    per = w.shape[1]
    spread = w.unflatten(0, (groups, -1))  # [groups, C/groups, O/groups, *kernel]
    w_scale = spread.abs().amax([1, *range(3, n + 3)]) / 127  # [groups, O/groups]
    w_codes = torch.round(spread / w_scale.view(groups, 1, per, *[1] * n)).long()
    f, size = product_of(mul), model(x).shape[2:]
    out = torch.zeros(x.shape[0], groups * per, *size)
    for b, g, o in itertools.product(range(x.shape[0]), range(groups), range(per)):
        for pixel in itertools.product(*map(range, size)):
            total, taps = 0, 0
            for c in range(spread.shape[1]):
                for tap_ in itertools.product(*map(range, w.shape[2:])):
                    place = [
                        p + pad - t * d
                        for p, pad, t, d in zip(
                            pixel, model.padding, tap_, model.dilation, strict=True
                        )
                    ]
                    there = all(
                        i >= 0 and i % s == 0 and i // s < limit
                        for i, s, limit in zip(place, model.stride, x.shape[2:], strict=True)
                    )
                    at = [i // s for i, s in zip(place, model.stride, strict=True)]
                    channel = g * spread.shape[1] + c
                    code = int(codes[(b, channel, *at)]) if there else zero
                    weight = int(w_codes[(g, c, o, *tap_)])
                    total += f(code, weight)
                    taps += weight
            value = torch.tensor(total - zero * taps).float() * (scale * w_scale[g, o])
            bias = 0 if model.bias is None else model.bias[g * per + o]
            out[(b, g * per + o, *pixel)] = value + bias
    return out.detach()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fmt", ["int8", "int8(affine)"])
@pytest.mark.parametrize("arbitrary", [False, True])
def test_codes_follow_the_definition(name, fmt, arbitrary):
    """Also with ``f(0, 0) != 0``; AdaPT dropped ``output_padding`` here."""
    mul = random_table(3, -3000, 3000) if arbitrary else dv.multiplier(MUL)
    model, x = case(name)
    wanted = by_definition(model, x[:1], fmt, mul)
    dv.apply_(model, dv.Recipe(dv.rule("*", input=fmt, weight="int8", mul=mul)), x[:1])
    with torch.no_grad():
        assert torch.equal(model(x[:1]), wanted)
    assert torch.equal(model(x[:1]).detach(), wanted)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_exact_product_of_the_cast_operands(name):
    model, x = case(name)
    plain, leaves = copy.deepcopy(model), []
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int16", weight="int16")), x)
    for net in (model, plain):
        leaf = x.clone().requires_grad_()
        y = net(leaf)
        (y * torch.arange(y.numel()).view_as(y).cos()).sum().backward()
        leaves.append([leaf.grad, *(p.grad for p in net.parameters())])
    for a, b in zip(*leaves, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=3e-3)


def test_an_unbatched_image_and_an_output_size():
    model, x = case("stride")
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    assert torch.equal(model(x[0]), model(x[:1])[0])
    assert model(x, output_size=(10, 8)).shape == (2, 8, 10, 8)


def test_other_formats_are_cast_per_output_channel():
    model, x = case("groups")
    dv.apply_(model, dv.Recipe(dv.rule("*", input="mxfp8_e4m3", weight="int4")), x)
    assert torch.isfinite(model(x)).all()


def w_scales(weight):
    return weight.detach().abs().amax((0, 2, 3)) / 127


def test_taps_see_the_plain_convolution():
    model, x = case("output padding")
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    calls = []
    with tap(model, lambda op, call: calls.append(call)):
        y = model(x)
    a, w, zero = calls[0].codes()
    g = calls[0].geometry
    sums = dv.ops.conv_codes(a, w, dv.multiplier("exact"), padding=g.padding, pad_code=zero)
    scale = model._dovetail_conv_transpose_input_scale * w_scales(model.weight)
    torch.testing.assert_close(sums * scale[:, None, None] + model.bias[:, None, None], y)


def test_what_torch_refuses_torch_refuses():
    model, x = case("stride")
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    model.output_padding = (2, 2)
    with pytest.raises(RuntimeError, match="output padding must be smaller"):
        model(x)


def test_without_an_example_the_module_is_found():
    model, _x = case("stride")
    found = dv.plan(nn.Sequential(model), dv.Recipe(dv.rule(op="conv_transpose", **INT8)))
    assert [op.key for op in found] == ["0"]


def test_copies_pickles_and_a_changed_weight():
    model, x = case("groups")
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    with torch.no_grad():
        wanted = model(x)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(x), wanted)
        model.weight.mul_(-1)
        bias = model.bias.view(-1, 1, 1)
        torch.testing.assert_close(model(x) - bias, bias - wanted)
