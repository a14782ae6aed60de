"""Taps see every planned call with its operands, its codes and its exact result."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.emulation import exact, tap
from helpers import INT8, Small, build, modes, randn, small, to_codes


def test_operands_outputs_and_exact_results():
    model, x = small(input="int8(affine)", mul="mul8s_1L2H@v1.1")
    seen = {}
    with tap(model, lambda op, call: seen.update({op.key: call})):
        y = model(x)
    conv = seen["conv"]
    assert torch.equal(conv.x, x)
    assert torch.equal(conv.weight, model.conv.weight)
    assert torch.equal(conv.bias, model.conv.bias)
    assert torch.equal(conv.exact(), F.conv2d(x, model.conv.weight, model.conv.bias, padding=1))
    assert torch.equal(conv.output, model.conv(x))
    assert seen["fc2"].bias is None
    assert torch.equal(seen[".:matmul"].output, y)
    assert not any(t.requires_grad for t in (conv.x, conv.weight, conv.output, conv.exact()))


def test_codes():
    model, x = small(input="int8(affine)")
    seen = {}
    with tap(model, lambda op, call: seen.update({op.key: call})):
        model(x)
    a, w, pad = seen["conv"].codes()
    scale, zero = model.conv._dovetail_conv_input_scale, model.conv._dovetail_conv_input_zero
    assert pad == int(zero)
    assert torch.equal(a.long(), to_codes(x, scale, zero, -128, 127))
    weight = model.conv.weight.detach()
    per_channel = weight.abs().amax((1, 2, 3)) / 127
    assert torch.equal(w.long(), to_codes(weight, per_channel, 0, -127, 127, axis=0))
    first, second, _ = seen[".:matmul"].codes()
    assert (tuple(first.shape), tuple(second.shape)) == ((2, 5), (5, 2))


def test_without_codes_the_error_says_so():
    model, x = nn.Sequential(build(0, lambda: nn.Linear(3, 2))), randn(2, 3)
    dv.apply_(model, dv.Recipe(dv.rule("*", weight="int8")), x)
    calls = []
    with tap(model, lambda op, call: calls.append(call)):
        model(x)
    with pytest.raises(dv.DovetailError, match="0 multiplies no integer codes"):
        calls[0].codes()


def test_several_taps_nest_and_leave():
    model, x = small()
    outer, inner = [], []
    with tap(model, lambda op, _: outer.append(op.key)):
        model(x)
        with tap(model, lambda op, _: inner.append(op.key)):
            model(x)
        model(x)
    model(x)
    assert len(outer) == 12
    assert len(inner) == 4


def test_an_exception_in_a_tap_or_under_exact_leaves_nothing_behind():
    model, x = small()
    wanted = model(x)

    def fail(op, call):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), exact(model), tap(model, fail):
        model(x)
    assert modes() == 0
    assert torch.equal(model(x), wanted)


def test_exact_and_tap_need_an_emulated_model():
    for enter in (exact, lambda m: tap(m, print)):
        with pytest.raises(dv.DovetailError, match="this model is not emulated"), enter(Small()):
            pass


def test_the_casts_alone():
    """Formats without codes on both sides cast the operands and leave the product to torch."""
    layer = build(0, lambda: nn.Linear(5, 3))
    x = randn(4, 5)
    model = nn.Sequential(layer)
    recipe = dv.Recipe(dv.rule("*", weight="int4", bias="int8", output="int8(dynamic)"))
    dv.apply_(model, recipe, x)
    weight = dv.cast(layer.weight.detach(), "int4", channel=0)
    bias = dv.cast(layer.bias.detach(), "int8")
    assert torch.equal(model(x).detach(), dv.cast(F.linear(x, weight, bias), "int8"))


def test_the_bias_is_cast_before_and_the_output_after():
    layer = build(0, lambda: nn.Linear(5, 3))
    x = randn(4, 5)
    plain = nn.Sequential(build(0, lambda: nn.Linear(5, 3)))
    with torch.no_grad():
        plain[0].bias.copy_(dv.cast(layer.bias, "int4"))
    dv.apply_(plain, dv.Recipe(dv.rule("*", **INT8)), x)
    model = nn.Sequential(layer)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8, bias="int4", output="int6(dynamic)")), x)
    assert torch.equal(model(x).detach(), dv.cast(plain(x).detach(), "int6"))
