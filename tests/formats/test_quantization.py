import math

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from dovetail import DovetailError, cast
from dovetail.formats import IntFormat
from dovetail.formats.cast import fake_quantize
from dovetail.formats.quantization import (
    dequantize,
    observed_range,
    quantize,
    scale_zero_point,
    unclipped,
)

EDGES = torch.tensor(
    [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e-45, -1e-38, 3e38, -3e38, math.inf, -math.inf, 127.49]
)


def onnx_quantize(x: np.ndarray, scale: float, zero: np.ndarray) -> np.ndarray:
    kind = TensorProto.INT8 if zero.dtype == np.int8 else TensorProto.UINT8
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape)),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("z", kind, []),
        ],
        [helper.make_tensor_value_info("y", kind, list(x.shape))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x, "s": np.array(scale, np.float32), "z": zero})[0]


@pytest.mark.parametrize(("signed", "zero"), [(True, 0), (True, -7), (False, 0), (False, 131)])
@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0, 3.7])
def test_equals_onnx_quantize_linear(signed, zero, scale):
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(5000, generator=generator) * 40 * scale, EDGES * scale])
    fmt = IntFormat(8, signed=signed, affine=True)
    ours = quantize(x, fmt, torch.tensor(scale), torch.tensor(zero))
    theirs = onnx_quantize(x.numpy(), scale, np.array(zero, np.int8 if signed else np.uint8))
    finite = np.isfinite(x.numpy())  # onnxruntime's infinities are platform defined
    assert np.array_equal(ours.numpy()[finite], theirs[finite])


def test_nan_becomes_zero_and_infinities_saturate():
    x = torch.tensor([math.nan, math.inf, -math.inf])
    codes = quantize(x, IntFormat(8, affine=True), torch.tensor(0.5), torch.tensor(3))
    assert codes.tolist() == [3, 127, -128]
    assert cast(x, "int8", scale=0.5).tolist() == [0.0, 63.5, -63.5]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_and_stride(dtype):
    x = torch.randn(6, 8).to(dtype).t()[::2]
    assert not x.is_contiguous()
    y = cast(x, "int8", scale=0.03)
    assert y.dtype == dtype
    assert y.shape == x.shape
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scale = torch.tensor(0.03)
    hand = ((x.to(wide) / scale).round().clamp(-127, 127).to(wide) * scale).to(dtype)
    assert torch.equal(y, hand)


def test_ranges_by_hand():
    low, high = torch.tensor(-1.0), torch.tensor(3.0)
    assert scale_zero_point(IntFormat(8), low, high)[0] == torch.tensor(3.0) / 127
    scale, zero = scale_zero_point(IntFormat(8, signed=False, affine=True), low, high)
    assert scale == torch.tensor(4.0) / 255
    assert int(zero) == 64  # round(1 / (4/255)) = round(63.75)
    scale, _ = scale_zero_point(IntFormat(8, po2=True), low, high)
    assert float(scale) == 2.0**-5  # 3/127 = 0.0236 -> 0.03125
    exact = scale_zero_point(IntFormat(8, po2=True), torch.tensor(0.0), torch.tensor(127.0))
    assert float(exact[0]) == 1.0
    assert float(scale_zero_point(IntFormat(8), torch.tensor(0.0), torch.tensor(0.0))[0]) == 1.0


def test_ranges_ignore_what_is_not_finite():
    low, high = observed_range(torch.tensor([math.nan, math.inf, 2.0, -1.0]), None)
    assert (float(low), float(high)) == (-1.0, 2.0)
    assert observed_range(torch.empty(0, 3), 1)[0].shape == (3,)


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30),
    st.integers(2, 16),
    st.booleans(),
    st.booleans(),
)
def test_cast_properties(values, bits, signed, affine):
    fmt = IntFormat(bits, signed=signed, affine=affine)
    x = torch.tensor(values)
    scale, zero = scale_zero_point(fmt, *observed_range(x, None))
    codes = quantize(x, fmt, scale, zero)
    back = dequantize(codes, scale, zero)
    assert int(codes.min()) >= fmt.qmin
    assert int(codes.max()) <= fmt.qmax
    assert torch.equal(quantize(back, fmt, scale, zero), codes)  # idempotent
    order = x.argsort()
    assert bool((codes[order].long().diff() >= 0).all())  # monotone


def test_per_channel_equals_each_channel_alone():
    x = torch.randn(4, 5, 6)
    y = cast(x, "int4", channel=1)
    for c in range(5):
        assert torch.equal(y[:, c], cast(x[:, c], "int4"))


def test_gradient_is_straight_through_where_not_clipped():
    x = torch.tensor([0.3, -9.0, 9.0, math.nan], requires_grad=True)
    cast(x, "int4", scale=0.5).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 0.0, 0.0]
    y = torch.tensor([0.3, -9.0], requires_grad=True)
    cast(y, "int4", scale=0.5, clip=False).sum().backward()
    assert y.grad.tolist() == [1.0, 1.0]


def test_forward_with_gradient_has_the_same_bits():
    x = torch.cat([torch.randn(1000) * 3, EDGES])
    scale, zero = torch.tensor(0.037), torch.tensor(5, dtype=torch.int32)
    fmt = IntFormat(8, affine=True)
    plain = fake_quantize(x, fmt, scale, zero)
    tracked = fake_quantize(x.clone().requires_grad_(), fmt, scale, zero).detach()
    assert torch.equal(plain.view(torch.int32), tracked.view(torch.int32))


def test_mask_agrees_with_the_codes():
    x = torch.linspace(-5, 5, 1001)
    fmt, scale, zero = IntFormat(4), torch.tensor(0.5), torch.tensor(0)
    inside = unclipped(x, fmt, scale, zero)
    assert torch.equal(inside, (x / scale).round().abs() <= 7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cast(torch.arange(3), "int8"), "x.float()"),
        (lambda: cast(torch.ones(3), "int8", scale=-1.0), "positive"),
        (lambda: cast(torch.ones(3), "int8", scale=math.nan), "positive"),
        (lambda: cast(torch.ones(3), "int8", zero_point=1), "needs its scale"),
        (lambda: cast(torch.ones(3), "int8", channel=1), "not an axis"),
        (lambda: cast(torch.ones(3, 2), "int8", scale=torch.ones(2)), "needs the axis"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(DovetailError) as caught:
        call()
    assert message in str(caught.value)


def test_empty():
    assert cast(torch.empty(0, 4), "int8").shape == (0, 4)


@pytest.mark.parametrize("name", ["int4(group=5)", "int8(affine, group=3)", "uint4(group=7)"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_group_is_cast_as_if_it_stood_alone(name, axis):
    x = torch.randn(4, 6, 8)
    y = cast(x, name, axis)
    size = int(name.split("group=")[1].rstrip(")"))
    alone = name.replace(f"group={size}", "").replace("(affine, )", "(affine)").replace("()", "")
    lines, cast_lines = x.movedim(axis, -1), y.movedim(axis, -1)
    for i in range(0, lines.shape[-1], size):
        for line, found in zip(
            lines[..., i : i + size].reshape(-1, lines[..., i : i + size].shape[-1]),
            cast_lines[..., i : i + size].reshape(-1, lines[..., i : i + size].shape[-1]),
            strict=True,
        ):
            assert torch.equal(found, cast(line, alone))


def test_groups_of_whole_rows_as_d_matrix_has_them():
    """Its groups are of channels, all else included: here, groups of the tensor flattened."""
    x = torch.tensor([[0, 1], [3, 7], [5.1, 8], [10, 14], [0.1, 0.7]])
    expected = x.clone()
    expected[2, 0] = 6.0
    torch.testing.assert_close(cast(x, "shaped(int4(group=4), flatten=(0, 1))"), expected)
    scales = torch.tensor([1.0, 1.0, 2.0, 2.0, 0.1])
    torch.testing.assert_close(cast(x, "int4", scale=scales, channel=0), expected)
    assert torch.equal(cast(x, "shaped(int4(group=10), flatten=(0, 1))"), cast(x, "int4"))
    assert torch.equal(cast(x, "int4(group=2)", 1), cast(x, "int4", channel=0))
    assert torch.equal(cast(x, "int4(group=5)", 0), cast(x, "int4", channel=1))


def test_given_scales_of_groups_clip_and_pass_what_they_do_not_clip():
    x = torch.tensor([[0.3, 9.0, -0.7, 0.1]], requires_grad=True)
    y = cast(x, "int4(group=2)", scale=torch.tensor([[0.5, 0.05]]))
    assert y.tolist() == [[0.5, 3.5, pytest.approx(-0.35), pytest.approx(0.1)]]
    y.sum().backward()
    assert x.grad.tolist() == [[1.0, 0.0, 0.0, 1.0]]


def test_a_group_needs_no_range_and_passes_every_gradient():
    x = torch.tensor([1.0, 100.0, -3.0, 0.0], requires_grad=True)
    cast(x, "int4(group=2)").sum().backward()
    assert x.grad.tolist() == [1.0] * 4
    assert not IntFormat(4, group=2).is_static
    with pytest.raises(DovetailError, match="exclude each other"):
        IntFormat(4, group=2, channel=0)


def test_each_value_of_a_vector_can_be_a_channel():
    low, high = observed_range(torch.tensor([3.0, -1.0]), 0)
    assert low.tolist() == high.tolist() == [3.0, -1.0]
    assert cast(torch.tensor([3.0, 1.0]), "int2(channel=0)").tolist() == [3.0, 1.0]
