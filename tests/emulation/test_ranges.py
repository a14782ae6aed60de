"""Ranges that an observer chooses: of weights from their values, of channels from batches."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.formats.observers import range_by
from dovetail.formats.quantization import quantize, scale_zero_point
from helpers import build, randn

OBSERVERS = ["mse", "l2", "percentile(90)", "entropy"]


def skewed(*shape, seed=0):
    x = randn(*shape, seed=seed)
    return x.sign() * x.abs() ** 3


def scales_of(weight, fmt):
    fmt = dv.format(fmt)
    return scale_zero_point(fmt, *range_by(fmt.observer, fmt, weight.detach().flatten(1)))


def linear(fmt, seed=0, **fields):
    model = nn.Sequential(build(seed, lambda: nn.Linear(24, 5)))
    with torch.no_grad():
        model[0].weight.copy_(skewed(5, 24, seed=seed))
    dv.apply_(model, dv.Recipe(dv.rule("*", weight=fmt, **fields)), randn(2, 24))
    return model


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("bits", ["int4", "uint4", "int8(affine)"])
def test_a_cast_takes_the_range_that_the_observer_chooses(observer, bits):
    x = skewed(6, 40)
    fmt = bits[:-1] + f", observer={observer})" if "(" in bits else f"{bits}(observer={observer})"
    low, high = range_by(observer, dv.format(fmt), x.view(1, -1))
    scale, zero = scale_zero_point(dv.format(fmt), low[0], high[0])
    assert torch.equal(dv.cast(x, fmt), dv.cast(x, bits, scale=scale, zero_point=zero))
    if "4" in bits:
        assert not torch.equal(dv.cast(x, fmt), dv.cast(x, bits))
    assert torch.equal(dv.decode(dv.encode(x, fmt)), dv.cast(x, fmt))


def test_groups_search_their_own_ranges():
    x = skewed(6, 40)
    fmt = dv.format("int3(group=16, observer=mse)")
    parts = [
        dv.cast(part.contiguous(), "int3(channel=0, observer=mse)") for part in x.split(16, dim=1)
    ]
    assert torch.equal(dv.cast(x, fmt), torch.cat(parts, 1))
    assert torch.equal(dv.cast(x.T, fmt, axis=0), torch.cat(parts, 1).T)
    plain = dv.cast(x, "int3(group=16)")
    assert float((dv.cast(x, fmt) - x).square().sum()) < float((plain - x).square().sum())
    with pytest.raises(dv.DovetailError, match="too small for a histogram; of one, observer= is"):
        dv.format("int4(group=16, observer=entropy)")


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("fields", [{}, {"input": "int8"}, {"input": "int8", "mul": "drum(k=4)"}])
def test_a_weight_in_a_layer_has_the_searched_range(observer, fields):
    fmt, x = f"int4(observer={observer})", randn(3, 24, seed=1)
    model = linear(fmt, **fields)
    weight, bias = model[0].weight.detach(), model[0].bias.detach()
    scale, zero = scales_of(weight, fmt)
    assert scale.shape == (5,)
    with torch.no_grad():
        if fields:
            step = model[0]._dovetail_linear_input_scale
            codes = quantize(x, dv.format("int8"), step, torch.tensor(0))
            w_codes = quantize(weight, dv.format("int4"), scale, zero, 0)
            total = dv.ops.linear_codes(codes, w_codes, fields.get("mul", "exact"))
            wanted = total.float() * (step * scale) + bias
        else:
            wanted = F.linear(x, dv.cast(weight, "int4", scale=scale, channel=0), bias)
        first = model(x)
        assert torch.equal(first, wanted)
        if observer != "entropy":  # so few values leave most bins empty: all of them are kept
            assert not torch.equal(first, linear("int4", **fields)(x))
        assert torch.equal(first, model(x))
        model[0].weight.mul_(1.5)
        assert not torch.equal(first, model(x))


@pytest.mark.parametrize("fields", [{}, {"input": "int8"}])
def test_what_a_searched_range_clips_has_no_gradient(fields):
    model = linear("int4(observer=percentile(80))", **fields)
    weight = model[0].weight
    scale, _ = scales_of(weight, "int4(observer=percentile(80))")
    clipped = (weight.detach().abs() / scale[:, None]).round() > 7
    assert bool(clipped.any())
    model(randn(3, 24)).square().sum().backward()
    assert torch.equal(weight.grad == 0, clipped)


def test_compiled_and_functional_calls_search_as_well():
    model, x = linear("int4(observer=l2)", input="int8"), randn(3, 24)
    with torch.no_grad():
        wanted = model(x)
        compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(x), wanted)
        weights = dict(model.named_parameters())
        assert torch.equal(torch.func.functional_call(model, weights, (x,)), wanted)


def test_a_dynamic_range_follows_its_observer():
    model = nn.Sequential(build(0, lambda: nn.Linear(24, 5)))
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int4(dynamic, observer=mse)")), randn(2, 24))
    x = skewed(4, 24)
    wanted = F.linear(dv.cast(x, "int4(observer=mse)"), model[0].weight, model[0].bias)
    assert torch.equal(model(x), wanted)


def test_channels_of_an_output_are_calibrated_one_by_one():
    model = build(0, lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU()))
    dv.apply_(model, dv.Recipe(dv.rule("0", output="int8(channel=1)")), randn(1, 2, 4, 4))
    with pytest.raises(dv.DovetailError, match="the range of its output is not known"):
        model(randn(1, 2, 4, 4))
    batches = [randn(2, 2, 4, 4, seed=s) for s in (1, 2)]
    with dv.calibrate(model) as found:
        for batch in found.over(batches):
            model(batch)
    assert "0  " in str(found)
    assert "int8(channel=1)" in str(found)
    with torch.no_grad():
        exact = torch.cat([F.conv2d(b, model[0].weight, model[0].bias) for b in batches])
        scale = exact.abs().amax((0, 2, 3)) / 127
        wanted = dv.cast(exact[:2], "int8(channel=1)", scale=scale, channel=1).relu()
        assert torch.equal(model(batches[0]), wanted)
    fresh = build(0, lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU()))
    dv.load_state(fresh, dv.state(model), randn(1, 2, 4, 4))
    assert torch.equal(fresh(batches[0]), model(batches[0]))


def test_a_constant_activation_is_refused_by_name():
    model = linear("int8", input="int8")
    before = dv.state(model)
    with (
        pytest.raises(dv.DovetailError, match="0: its input was 0 throughout, from which no range"),
        dv.calibrate(model),
    ):
        model(torch.zeros(2, 24))
    assert all(torch.equal(value, dv.state(model)[key]) for key, value in before.items())
