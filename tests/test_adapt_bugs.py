"""One test for each defect of AdaPT, TransAxx and their kin that can occur here.

The numbers are those of the notes on them.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.emulation import tap
from dovetail.formats.observers import observer
from emulated_layers import TABLE, applied, close
from helpers import build, randn


def test_c2_the_conv_bias_gets_its_gradient():
    """AdaPT C2: it was returned in the quantizer's slot, so ``bias.grad`` stayed None."""
    layer, x = build(0, lambda: nn.Conv2d(3, 4, 3)), randn(2, 3, 5, 5)
    model = applied(layer, x)
    model(x).sum().backward()
    assert torch.allclose(model[0].bias.grad, torch.full((4,), 18.0))


def test_c3_dilation():
    """AdaPT C3: dilation=2 gave a larger output, without an error."""
    layer, x = build(0, lambda: nn.Conv2d(3, 4, 3, dilation=2)), randn(2, 3, 12, 12)
    y = applied(layer, x)(x)
    assert y.shape == (2, 4, 8, 8)
    assert close(y, layer(x))


@pytest.mark.parametrize(("groups", "out"), [(2, 6), (4, 8), (4, 4), (4, 12)])
def test_c4_groups_and_channel_multipliers(groups, out):
    """AdaPT C4: groups=4, out=8 gave 4 channels; groups=2 raised."""
    layer, x = build(0, lambda: nn.Conv2d(4, out, 3, groups=groups)), randn(2, 4, 5, 5)
    y = applied(layer, x)(x)
    assert y.shape == (2, out, 3, 3)
    assert close(y, layer(x))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_c5_padding_modes(mode):
    """AdaPT C5: anything but zeros was a NameError, and would have run exactly."""
    layer = build(0, lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode))
    x = randn(2, 3, 5, 5)
    model = applied(layer, x, mul=TABLE)
    seen = []
    with tap(model, lambda op, call: seen.append(op.key)):
        model(x)
    assert seen == ["0"]
    assert close(applied(layer, x)(x), layer(x))


def test_c5_padding_same():
    """AdaPT C5, TorchApprox: ``padding="same"`` was a TypeError."""
    layer, x = build(0, lambda: nn.Conv2d(3, 4, 5, padding="same")), randn(2, 3, 6, 7)
    y = applied(layer, x)(x)
    assert y.shape == (2, 4, 6, 7)
    assert close(y, layer(x))


@pytest.mark.parametrize("shape", [(7,), (2, 7), (2, 3, 7), (2, 3, 4, 7)])
def test_c6_linear_inputs_of_any_rank(shape):
    """AdaPT C6: a calibrated 3-D input went through a wrapping int8 matmul, silently."""
    layer, x = build(0, lambda: nn.Linear(7, 5)), randn(*shape)
    y = applied(layer, x)(x)
    assert y.shape == (*shape[:-1], 5)
    assert close(y, layer(x))


def test_c7_non_contiguous_inputs():
    """AdaPT C7: a transposed input was read through its raw pointer, silently."""
    layer, x = build(0, lambda: nn.Linear(6, 5)), randn(6, 4).mT
    model = applied(layer, x, mul=TABLE)
    assert torch.equal(model(x), model(x.contiguous()))


def test_c8_a_clipped_input_takes_no_gradient_and_the_weights_see_the_cast_input():
    """AdaPT C8: x = 5 * amax still had gradient 1, and backward used unquantised tensors."""
    layer = nn.Linear(2, 1, bias=False)
    nn.init.ones_(layer.weight)
    model = applied(layer, torch.ones(1, 2), input="int4")
    x = torch.tensor([[5.0, 0.52]], requires_grad=True)
    model(x).sum().backward()
    assert torch.allclose(x.grad, torch.tensor([[0.0, 1.0]]))
    assert torch.allclose(model[0].weight.grad, torch.tensor([[1.0, 4 / 7]]))


def test_c10_sums_beyond_int32_are_exact():
    """AdaPT C10: the int32 accumulator was unchecked."""
    k = 200_000
    a, w = torch.full((1, k), -128, dtype=torch.int8), torch.full((1, k), -128, dtype=torch.int8)
    assert dv.ops.linear_codes(a, w, "mul8s_1KV8").item() == k * int(
        dv.multiplier("mul8s_1KV8")(-128, -128)
    )


def test_c10_products_beyond_int16():
    """AdaPT C10: unsigned 8x8 and 12-bit products do not fit an int16 table."""
    a = torch.tensor([[255]], dtype=torch.uint8)
    assert dv.ops.linear_codes(a, a, "exact(bits=8, signed=False)").item() == 65025
    b = torch.tensor([[-2048]], dtype=torch.int16)
    assert dv.ops.linear_codes(b, b, "exact(bits=12)").item() == 2048 * 2048


def test_c11_a_layer_without_bias():
    """TransAxx C11: a linear layer without a bias returned None."""
    layer, x = build(0, lambda: nn.Linear(6, 5, bias=False)), randn(4, 6)
    model = applied(layer, x)
    assert close(model(x), layer(x))
    assert model[0].bias is None
    assert len(list(model.parameters())) == 1


def test_c14_the_example_is_all_that_apply_looks_at():
    """AdaPT C14: calibration on test data. Ranges come from what the user gives alone."""
    layer = build(0, lambda: nn.Linear(3, 2))
    model = applied(layer, torch.full((1, 3), 2.0))
    before = model[0]._dovetail_linear_input_scale.clone()
    model(torch.full((1, 3), 100.0))
    assert torch.equal(model[0]._dovetail_linear_input_scale, before)
    assert float(before) == pytest.approx(2 / 127)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_an_emulated_model_can_be_copied_and_pickled(again):
    """AdaPT, TorchApprox: deepcopy and torch.save failed (modules held Python module objects)."""
    layer, x = build(0, lambda: nn.Conv2d(3, 4, 3)), randn(1, 3, 5, 5)
    model = applied(layer, x, mul=TABLE)
    assert torch.equal(again(model)(x), model(x))


def test_a_calibrated_model_reloads_on_the_cpu(tmp_path):
    """AdaPT: reloading called ``.cuda()``."""
    layer, x = build(0, lambda: nn.Linear(3, 2)), randn(4, 3)
    model = applied(layer, x)
    torch.save({"weights": model.state_dict(), "emulation": dv.state(model)}, tmp_path / "m.pt")
    saved = torch.load(tmp_path / "m.pt", map_location="cpu", weights_only=True)
    fresh = nn.Sequential(nn.Linear(3, 2))
    fresh.load_state_dict(saved["weights"])
    dv.load_state(fresh, saved["emulation"])
    assert torch.equal(fresh(x), model(x))


def test_no_parameter_is_added():
    """AdaPT: the constructor always allocated a bias. TorchApprox: the LUT was in no state."""
    layer = build(0, lambda: nn.Linear(6, 5, bias=False))
    model = applied(layer, randn(4, 6), mul=TABLE)
    assert list(model.state_dict()) == ["0.weight"]
    assert [n for n, _ in model.named_parameters()] == ["0.weight"]


def test_kernel_of_one_pixel():
    """tf-approximate 12: 1 x 1 convolutions were wrong."""
    layer, x = build(0, lambda: nn.Conv2d(5, 7, 1, stride=2)), randn(2, 5, 5, 4)
    assert close(applied(layer, x)(x), layer(x))


def test_attention_products_are_reached():
    """TransAxx 1: approximate ``torch.matmul``, batched, with the second operand batched too."""

    class Attention(nn.Module):
        def forward(self, q, k, v):
            return torch.softmax(q @ k.transpose(-2, -1), -1) @ v

    q, k, v = (randn(2, 4, 5, 8, seed=i) for i in range(3))
    model = Attention()
    wanted = model(q, k, v)
    plan = dv.apply_(model, dv.Recipe(dv.rule("*", input="uint8", weight="uint8")), (q, k, v))
    assert [op.key for op in plan] == [".:matmul_0", ".:matmul_1"]
    assert close(model(q, k, v), wanted, steps=4)


def test_changing_the_weights_between_calls():
    """AdaPT quantised the weight in every forward; a kept one must not go stale."""
    layer, x = build(0, lambda: nn.Linear(6, 5)), randn(4, 6)
    model = applied(layer, x)
    with torch.no_grad():
        first = model(x)
        model[0].weight.mul_(-1)
        assert not torch.equal(model(x), first)
        assert close(model(x), F.linear(x, -layer.weight, layer.bias))


def test_c1_two_negative_operands_are_not_two_positive_ones():
    """AdaPT C1: mul8s_1L2H's table held mul(|a|, |w|) where both operands are negative."""
    circuit = dv.multiplier("mul8s_1L2H@v1.1")
    codes = torch.arange(-128, 0, dtype=torch.int8)[:, None]
    products = dv.ops.linear_codes(codes, codes, circuit)
    assert torch.equal(products, circuit.table()[128:, 128:])
    positive = circuit.table()[1:128, 1:128].flip(0, 1)
    assert 0.7 < float((products[1:, 1:] != positive).float().mean()) < 0.8
    errors = circuit.errors()
    assert (round(errors.mae, 1), round(errors.bias, 2)) == (53.3, 0.75)


@pytest.mark.parametrize(("fmt", "beyond"), [("bf16", np.inf), ("fp8_e4m3fn", 448.0)])
def test_c12_exponents_overflow_to_infinity_or_saturate(fmt, beyond):
    """ApproxTrain C12: an exponent that overflowed ran into the sign bit."""
    mul = dv.multiplier("mitchell", format=fmt, output=fmt)
    most = float(dv.format(fmt).max)
    signs = np.array([-1.0, 1.0])
    assert np.array_equal(mul(signs * most, most), signs * beyond)
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, -most)
    x = torch.tensor([[most], [-most], [0.0]])
    y = applied(layer, x, input=fmt, weight=fmt, mul=repr(mul))(x).flatten()
    assert y.tolist() == [-beyond, beyond, 0.0]


def test_c12_exponents_underflow_to_zero_and_a_zero_stays_one():
    """ApproxTrain C12: a product was zero only by the sum of the exponents, so 0 was not a zero."""
    mul = dv.multiplier("mitchell", format="bf16", output="bf16")
    least, most = 2.0**-126, float(dv.format("bf16").max)
    assert mul([least, -least, 0.0, -0.0], [least, least, most, most]).tolist() == [0, 0, 0, 0]
    assert np.signbit(mul([-least, -0.0], [least, most])).all()


def test_c12_significands_of_more_than_eight_bits():
    """ApproxTrain C12: entries of eight bits capped the mantissa at 7 bits, though 11 were said."""
    fp16 = dv.multiplier("exact", format="fp16")
    a, w = 1 + 1023 / 1024, 1 + 1021 / 1024
    assert float(fp16(a, w)) == a * w


def test_c13_a_range_can_be_read_twice():
    """pytorch-quantization C13: reading it changed the histogram that it was read from."""
    seen = observer("percentile(90)")
    int8 = dv.format("int8")
    seen.update(randn(1, 1000))
    first = tuple(map(float, seen.range(int8)))
    assert tuple(map(float, seen.range(int8))) == first
    seen.update(randn(1, 1000, seed=1) / 100)
    assert float(seen.range(int8)[1]) < first[1]


def test_c15_a_range_may_lie_far_below_the_first_batch():
    """pytorch-quantization C15: none was found below 1/16 of the first batch's largest value."""
    seen = observer("percentile(99)")
    seen.update(torch.tensor([[1000.0]]))
    seen.update(torch.linspace(-1, 1, 1000)[None])
    assert float(seen.range(dv.format("int8"))[1]) < 1000 / 16
