"""One test for each defect of TorchApprox that can occur here, by its number in the notes on it."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.emulation import tap
from dovetail.kernels import using
from emulated_layers import TABLE, applied, close
from helpers import INT8, REALISATIONS, build, holds, linear_loop, randn, random_codes


@pytest.mark.parametrize("offset", [-1.0, 0.3, 2.0])
@pytest.mark.parametrize("input_", ["int8(affine)", "uint8"])
def test_t1_conv_zero_point_has_the_right_sign(input_, offset):
    """TorchApprox 1: the correction was added, so activations with a zero point were wrong."""
    layer, x = build(0, lambda: nn.Conv2d(3, 4, 3)), randn(2, 3, 6, 6) + offset
    assert close(applied(layer, x, input=input_)(x), layer(x))


@pytest.mark.parametrize("offset", [-1.0, 2.0])
def test_t2_padding_is_a_real_zero(offset):
    """TorchApprox 2: conv padded the codes with 0 instead of the zero point; borders were wrong."""
    layer, x = build(0, lambda: nn.Conv2d(3, 4, 3, padding=1)), randn(2, 3, 6, 6) + offset
    assert close(applied(layer, x, input="int8(affine)")(x), layer(x))


def test_t2_borders_pass_the_multiplier():
    """TorchApprox 2: a padded pixel is an operand like any other, with the zero point's code."""
    table = np.zeros((256, 256), dtype=np.int32)
    table[0, :] = 7  # f(0, w) = 7, everything else 0
    layer = nn.Conv1d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(layer.weight)
    model = applied(layer, torch.ones(1, 1, 4), mul=table)
    scales = (1 / 127) * (1 / 127)
    assert torch.allclose(model(torch.ones(1, 1, 4)) / scales, torch.tensor([[[7.0, 0, 0, 7]]]))


@pytest.mark.parametrize("size", [2, 4])
def test_t3_per_channel_scales_follow_the_channel(size):
    """TorchApprox 3: w_scale was broadcast over pixels; wrong in silence when Ho * Wo == Cout."""
    layer = build(0, lambda: nn.Conv2d(3, size * size, 1))
    with torch.no_grad():
        layer.weight *= torch.logspace(-2, 2, size * size).view(-1, 1, 1, 1)
    x = randn(2, 3, size, size)
    assert close(applied(layer, x)(x), layer(x))


@pytest.mark.parametrize("real", [r for r in REALISATIONS if holds(r, TABLE)])
def test_t4_c9_the_operand_order_is_the_same_in_every_kind_of_op(real):
    """TorchApprox 4, AdaPT C9: linear looked up lut[x][w], conv lut[w][x]. First is the input."""
    a, w = random_codes((2, 5)), random_codes((3, 5), seed=1)
    wanted = linear_loop(a, w, TABLE)
    with using(real):
        linear = dv.ops.linear_codes(a, w, TABLE)
        conv = dv.ops.conv_codes(a[..., None], w[..., None], TABLE)[..., 0]
        depthwise = dv.ops.conv_codes(a[:, :, None], w[0][:, None, None], TABLE, groups=5)[..., 0]
    assert torch.equal(linear.long(), wanted)
    assert torch.equal(conv.long(), wanted)
    rows = TABLE.table()[a.long() & 255, w[0].long() & 255]
    assert torch.equal(depthwise.long(), rows.long())


def test_t4_the_operand_order_is_the_same_in_emulated_layers():
    """TorchApprox 4: a function of the input alone gives every output the same sum."""
    first_only = np.repeat(((np.arange(256) + 128) % 256 - 128)[:, None], 256, axis=1)
    x = torch.tensor([[1.0, -0.5, 0.25]])
    recipe = {"mul": first_only, "weight": "int8(per_tensor)"}
    layers = [nn.Linear(3, 2, bias=False), nn.Conv1d(3, 2, 1, bias=False)]
    for layer, v in zip(layers, (x, x[..., None]), strict=True):
        nn.init.ones_(layer.weight)
        y = applied(layer, v, **recipe)(v).flatten() * 127 * 127
        assert torch.allclose(y, torch.full((2,), float(127 - 64 + 32)))


def test_t5_unsigned_codes_above_127_do_not_wrap():
    """TorchApprox 5: quint8 activations above 127 became negative."""
    a = torch.tensor([[200, 255, 128]], dtype=torch.uint8)
    w = torch.tensor([[1, 2, 3]], dtype=torch.uint8)
    assert dv.ops.linear_codes(a, w, "exact").item() == 200 + 510 + 384
    assert dv.ops.linear_codes(a, w, "exact(bits=8, signed=False)").item() == 200 + 510 + 384
    layer, x = build(0, lambda: nn.Linear(8, 4)), randn(5, 8).abs() + 1
    assert close(applied(layer, x, input="uint8")(x), layer(x))


@pytest.mark.parametrize("real", [r for r in REALISATIONS if holds(r, TABLE)])
@pytest.mark.parametrize("k", [1, 15, 17, 33, 127])
def test_t6_c11_a_tail_of_k_adds_nothing(real, k):
    """TorchApprox 6, TransAxx C11: tiles filled up with zeros were looked up: f(0, 0) was added."""
    a, w = random_codes((2, k)), random_codes((3, k), seed=1)
    assert int(TABLE(0, 0)) != 0
    with using(real):
        assert torch.equal(dv.ops.linear_codes(a, w, TABLE).long(), linear_loop(a, w, TABLE))


def test_t7_the_multiplier_is_the_circuit_at_layer_level():
    """TorchApprox 7: no approximate multiplier was tested through a layer; models were loose."""
    for name in ("mul8s_1L2H@v1.1", "mul8s_1KXF@v2022"):
        layer, x = build(0, lambda: nn.Linear(9, 4, bias=False)), randn(3, 9)
        model = applied(layer, x, mul=name)
        seen = []
        with tap(model, lambda op, call, seen=seen: seen.append((call.codes(), call.output))):
            model(x)
        (a, w, _), y = seen[0]
        sums = linear_loop(a, w, dv.multiplier(name)).float()
        scale = model[0]._dovetail_linear_input_scale * (layer.weight.abs().amax(1) / 127).detach()
        assert torch.equal(y, sums * scale)


@pytest.mark.parametrize("stride", [3, (1, 2), (4, 1)])
@pytest.mark.parametrize("kernel", [3, 9])
def test_t8_depthwise_with_any_stride_and_kernel(stride, kernel):
    """TorchApprox 8: depthwise returned one uninitialised element for stride >= 3 or k > 8."""
    layer = build(0, lambda: nn.Conv2d(4, 4, kernel, stride=stride, groups=4, padding=1))
    x = randn(1, 4, 11, 12)
    assert close(applied(layer, x)(x), layer(x))


def test_t9_the_reduction_counts_groups_and_the_products_follow_the_input():
    """TorchApprox 9: fan_in ignored groups, and the operation count froze at the first size."""
    layer = nn.Conv2d(4, 8, 3, groups=2, padding=1)
    for size in (4, 6):
        plan = dv.plan(
            nn.Sequential(layer), dv.Recipe(dv.rule("*", **INT8)), randn(1, 4, size, size)
        )
        assert plan["0"].reduction == 2 * 9
        assert plan["0"].macs == 8 * size * size * 18


def test_t_the_multiplier_is_seen_in_eval_mode_as_in_training():
    """TorchApprox 9: the error model was silently off in eval."""
    layer, x = build(0, lambda: nn.Linear(9, 4)), randn(3, 9)
    model = applied(layer, x, mul=TABLE)
    assert torch.equal(model.train()(x), model.eval()(x))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8])
def test_tables_of_any_integer_dtype(dtype):
    """TorchApprox issue 18: surprises with the table's dtype."""
    table = (np.arange(65536).reshape(256, 256) % 100).astype(dtype)
    assert torch.equal(dv.multiplier(table).table(), torch.from_numpy(table.astype(np.int32)))


@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_tables_of_other_dtypes_are_refused(dtype):
    """TorchApprox issue 18: rather than a surprise."""
    with pytest.raises(dv.DovetailError, match="a multiplier's products are integers"):
        dv.multiplier(np.zeros((256, 256), dtype=dtype))


def test_a_lost_model_is_freed():
    """TorchApprox: textures per call were never destroyed."""
    layer = build(0, lambda: nn.Linear(6, 5))
    model = applied(layer, randn(4, 6))
    model(randn(4, 6))
    gone = weakref.ref(model[0].weight)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("shared", [False, True])
def test_t5_batched_unsigned_second_operands(shared):
    """TorchApprox 5: a batched uint8 second operand raised."""
    a, w = torch.rand(3, 4, 6) + 1, torch.rand(*(() if shared else (3,)), 6, 5) * 3

    class Product(nn.Module):
        def forward(self, a, w):
            return a @ w

    model = Product()
    recipe = dv.Recipe(dv.rule("*", input="uint8", weight="uint8", mul="exact(signed=False)"))
    dv.apply_(model, recipe, (a, w))
    assert close(model(a, w), a @ w)


def test_a_convolution_is_traced():
    """TorchApprox: tracing an approximate convolution crashed."""
    layer, x = build(0, lambda: nn.Conv2d(3, 4, 3)), randn(1, 3, 5, 5)
    model = applied(layer, x, mul=TABLE)
    with torch.no_grad():
        assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))


def test_every_batch_counts_and_every_value():
    """d-Matrix: of 1000 samples in [-0.9, 1.7] the histogram counted 385; TorchApprox: observers
    that ran only once."""
    model = applied(nn.Linear(1, 1), torch.ones(1, 1))
    with dv.calibrate(model):
        for batch in (torch.linspace(-0.9, 1.7, 1000)[:, None], torch.tensor([[0.5]])):
            model(batch)
    assert float(model[0]._dovetail_linear_input_scale) == pytest.approx(1.7 / 127)
    with dv.calibrate(model, observer="percentile(50)"):
        model(torch.linspace(-0.9, 1.7, 1000)[:, None])
    half = float(torch.linspace(-0.9, 1.7, 1000).abs().median())
    assert float(model[0]._dovetail_linear_input_scale) * 127 == pytest.approx(half, rel=0.01)
