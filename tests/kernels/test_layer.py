"""Emulated layers, bit for bit: ``float(sum f - zero-point terms) * (sx * sw) + bias`` by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.kernels import using
from dovetail.kernels.realisation import Operands, _register
from helpers import (
    REALISATIONS,
    build,
    conv_loop,
    holds,
    linear_loop,
    randn,
    random_table,
    to_codes,
)

TABLE = random_table(4, -3000, 3000)
UNSIGNED = dv.multiplier(TABLE.table().numpy(), signed=False)
MIXED = [
    # input, weight, multiplier
    ("int8", "int8", "exact"),
    ("int8", "int8", TABLE),
    ("int8", "int8(per_tensor)", TABLE),
    ("int8(full)", "int8(full)", TABLE),
    ("int8(affine)", "int8", TABLE),
    ("int8(affine)", "int8(affine)", TABLE),
    ("int8(dynamic)", "int8", TABLE),
    ("int8(affine, dynamic)", "int8(affine, per_tensor)", TABLE),
    ("int8(po2)", "int8(po2)", TABLE),
    ("uint8", "uint8", UNSIGNED),
    ("uint8(dynamic)", "uint8(per_tensor)", UNSIGNED),
    ("uint8", "int8", "exact"),
    ("uint8", "uint8", "exact"),
    ("int4", "int6(affine)", TABLE),
    ("int8(affine)", "int4", "mul8s_1KV9"),
    ("int12", "int12", "drum(k=5, bits=12)"),
    ("int16", "int16(affine)", "exact"),
]


def grid(fmt, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point in float32, from the definition."""
    low, high = np.minimum(np.float32(low), 0), np.maximum(np.float32(high), 0)
    if fmt.affine:
        scale = ((high - low) / np.float32(fmt.qmax - fmt.qmin)).astype(np.float32)
        zero = np.clip(np.rint(fmt.qmin - low / scale), fmt.qmin, fmt.qmax).astype(np.int64)
        return scale, zero
    scale = (np.maximum(-low, high) / np.float32(fmt.qmax)).astype(np.float32)
    if fmt.po2:
        scale = (2.0 ** np.ceil(np.log2(scale.astype(np.float64)))).astype(np.float32)
    return scale, np.zeros(scale.shape, dtype=np.int64)


def by_hand(x, weight, bias, mul, input_, weight_, calibrated=None, conv=None):
    """The layer from the definition: codes in NumPy, sums by loops, one float expression."""
    fx, fw, mul = dv.format(input_), dv.format(weight_), dv.multiplier(mul)
    seen = x if calibrated is None or fx.dynamic else calibrated
    sx, zx = grid(fx, seen.float().min().numpy(), seen.float().max().numpy())
    flat = weight.detach().float().flatten(1).numpy()
    rows = flat.reshape(1, -1) if fw.per_tensor else flat
    sw, zw = grid(fw, rows.min(1), rows.max(1))
    sw, zw = np.broadcast_to(sw, len(flat)).copy(), np.broadcast_to(zw, len(flat)).copy()
    a = to_codes(x, sx, zx, fx.qmin, fx.qmax)
    w = to_codes(weight, sw, zw, fw.qmin, fw.qmax, axis=0)
    # Real products of (a - zx) and (w - zw), where f replaces the product a * w.
    exact = dv.multiplier("exact")
    centred_w = w - torch.from_numpy(zw).view(-1, *[1] * (w.dim() - 1))
    if conv is None:
        f, plain = linear_loop(a, w, mul), linear_loop(a, w, exact)
        real = linear_loop(a - int(zx), centred_w, exact)
        per = (1, -1)
    else:
        f = conv_loop(a, w, mul, **conv, pad_code=int(zx))
        plain = conv_loop(a, w, exact, **conv, pad_code=int(zx))
        real = conv_loop(a - int(zx), centred_w, exact, **conv)  # padded pixels are real zeros
        per = (1, -1, *[1] * (x.dim() - 2))
    total = (f - plain + real).numpy()
    wide = np.float64 if x.dtype == torch.float64 else np.float32
    scales = wide(sx) * sw.astype(wide)
    y = total.astype(wide) * scales.reshape(per if x.dim() > 1 else (-1,))
    if bias is not None:
        b = bias.detach().to(torch.float64 if wide is np.float64 else torch.float32).numpy()
        y = y + b.reshape(per if x.dim() > 1 else (-1,))
    return torch.from_numpy(y).to(x.dtype)


def applied(layer: nn.Module, example, **fields) -> nn.Module:
    model = nn.Sequential(layer)
    dv.apply_(model, dv.Recipe(dv.rule("*", **fields)), example)
    return model


def realisations_of(input_, weight_, mul) -> list[str]:
    """Those of which each says that it holds for operands of these formats."""
    fx, fw = dv.format(input_), dv.format(weight_)
    operands = Operands((fx.qmin, fx.qmax), (fw.qmin, fw.qmax))
    return [r for r in REALISATIONS if _register[r].when(dv.multiplier(mul), operands)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("input_", "weight_", "mul"), MIXED)
def test_linear(input_, weight_, mul, bias):
    layer = build(1, lambda: nn.Linear(17, 5, bias=bias))
    example, x = randn(4, 17), randn(3, 17, seed=1) * 1.5 + 0.3
    model = applied(layer, example, input=input_, weight=weight_, mul=mul)
    wanted = by_hand(x, layer.weight, layer.bias, mul, input_, weight_, example)
    for real in realisations_of(input_, weight_, mul):
        with using(real):
            assert torch.equal(model(x), wanted), real


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("input_", "weight_", "mul"), MIXED)
def test_conv_with_padding(input_, weight_, mul, bias):
    """Padded pixels are real zeros: they pass the multiplier as the zero point's code."""
    layer = build(2, lambda: nn.Conv2d(4, 6, (3, 2), padding=(1, 2), groups=2, bias=bias))
    example, x = randn(1, 4, 4, 4), randn(1, 4, 4, 4, seed=1) * 1.3 + 0.4
    model = applied(layer, example, input=input_, weight=weight_, mul=mul)
    conv = {"padding": (1, 2), "groups": 2}
    wanted = by_hand(x, layer.weight, layer.bias, mul, input_, weight_, example, conv)
    for real in realisations_of(input_, weight_, mul):
        with using(real):
            assert torch.equal(model(x), wanted), real


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(
    ("layer", "shape", "conv"),
    [
        (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=2), (2, 3, 7), {"stride": 2, "padding": 2}),
        (lambda: nn.Conv3d(2, 3, 2, padding=1), (1, 2, 3, 2, 3), {"padding": 1}),
        (lambda: nn.Conv2d(3, 3, 3, groups=3), (1, 3, 5, 5), {"groups": 3}),
        (
            lambda: nn.Conv2d(3, 9, 3, groups=3, padding=1),
            (1, 3, 4, 4),
            {"groups": 3, "padding": 1},
        ),
        (
            lambda: nn.Conv2d(2, 3, 3, dilation=2, padding=2),
            (1, 2, 5, 5),
            {"dilation": 2, "padding": 2},
        ),
        (
            lambda: nn.Conv2d(2, 3, (4, 2), padding="same"),
            (1, 2, 5, 5),
            {"padding": [(1, 2), (0, 1)]},
        ),
        (lambda: nn.Conv2d(2, 4, 2, padding="valid"), (1, 2, 4, 4), {}),
        (lambda: nn.Conv2d(2, 4, 4, padding=0), (1, 2, 4, 4), {}),  # one output pixel
    ],
    ids=["1d", "3d", "depthwise", "multiplier", "dilated", "same", "valid", "whole"],
)
@pytest.mark.parametrize("formats", [("int8(affine)", "int8"), ("uint8", "int8(affine)")])
def test_conv_modules(layer, shape, conv, formats):
    mul = "exact" if formats[0] == "uint8" else TABLE
    layer = build(3, layer)
    x = randn(*shape, seed=5) + 0.5
    model = applied(layer, x, input=formats[0], weight=formats[1], mul=mul)
    wanted = by_hand(x, layer.weight, layer.bias, mul, *formats, x, conv)
    assert torch.equal(model(x), wanted)


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
def test_padding_modes_pad_with_real_pixels(mode):
    layer = build(3, lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode))
    x = randn(1, 2, 4, 4) + 0.5
    model = applied(layer, x, input="int8(affine)", weight="int8", mul=TABLE)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode=mode)
    wanted = by_hand(padded, layer.weight, layer.bias, TABLE, "int8(affine)", "int8", padded, {})
    assert torch.equal(model(x), wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_other_floating_dtypes(dtype, bias):
    linear = build(1, lambda: nn.Linear(9, 4, bias=bias)).to(dtype)
    conv = build(1, lambda: nn.Conv2d(2, 3, 3, padding=1, bias=bias)).to(dtype)
    x, image = randn(5, 9, dtype=dtype), randn(1, 2, 4, 4, dtype=dtype)
    for layer, v, how in ((linear, x, None), (conv, image, {"padding": 1})):
        model = applied(layer, v, input="int8(affine)", weight="int8", mul=TABLE)
        y = model(v)
        assert y.dtype == dtype
        wanted = by_hand(v, layer.weight, layer.bias, TABLE, "int8(affine)", "int8", v, how)
        assert torch.equal(y, wanted)


@pytest.mark.parametrize("real", [r for r in REALISATIONS if holds(r, TABLE)])
@pytest.mark.parametrize("shape", [(17,), (0, 17), (1, 17), (2, 3, 17), (2, 0, 3, 17)])
def test_any_leading_dimensions(real, shape):
    layer = build(1, lambda: nn.Linear(17, 5))
    example, x = randn(4, 17), randn(*shape, seed=3)
    model = applied(layer, example, input="int8", weight="int8", mul=TABLE)
    with using(real):
        y = model(x)
    assert y.shape == (*shape[:-1], 5)
    wanted = by_hand(x.reshape(-1, 17), layer.weight, layer.bias, TABLE, "int8", "int8", example)
    assert torch.equal(y, wanted.reshape(y.shape))


@pytest.mark.parametrize("input_", ["int8", "int8(affine, dynamic)"])
def test_non_contiguous_and_unbatched(input_):
    layer = build(1, lambda: nn.Conv2d(2, 3, 3, padding=1))
    x = randn(4, 5, 2, 2).permute(3, 2, 1, 0)
    model = applied(layer, x, input=input_, weight="int8", mul=TABLE)
    assert torch.equal(model(x), model(x.contiguous()))
    assert torch.equal(model(x.contiguous(memory_format=torch.channels_last)), model(x))
    if "dynamic" not in input_:
        assert torch.equal(model(x[1]), model(x)[1])
        assert torch.equal(model(x)[:1], model(x[:1]))
    linear = applied(build(1, lambda: nn.Linear(5, 3)), randn(4, 5), input=input_, weight="int8")
    t = randn(5, 4).mT
    assert torch.equal(linear(t), linear(t.contiguous()))


@pytest.mark.parametrize("dynamic", ["", "dynamic"])
@pytest.mark.parametrize(
    ("first", "second"),
    [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((3, 1, 3, 4), (2, 4, 5))],
)
def test_matmul(first, second, dynamic):
    class Product(nn.Module):
        def forward(self, x, y):
            return x @ y

    x, y = randn(*first) + 0.2, randn(*second, seed=1) - 0.2
    model = Product()
    word = f"int8({'affine, ' + dynamic if dynamic else 'affine'})"
    dv.apply_(model, dv.Recipe(dv.rule("*", input=word, weight=word, mul=TABLE)), (x, y))
    got = model(x, y)
    fmt = dv.format("int8(affine)")
    sx, zx = grid(fmt, x.min().numpy(), x.max().numpy())
    sy, zy = grid(fmt, y.min().numpy(), y.max().numpy())
    a, b = to_codes(x, sx, zx, -128, 127), to_codes(y, sy, zy, -128, 127)
    batch = torch.broadcast_shapes(first[:-2], second[:-2])
    a = a.expand(*batch, *first[-2:]).reshape(-1, *first[-2:])
    b = b.expand(*batch, *second[-2:]).reshape(-1, *second[-2:])
    exact, totals = dv.multiplier("exact"), []
    for p, q in zip(a, b.mT, strict=True):
        error = linear_loop(p, q, TABLE) - linear_loop(p, q, exact)
        totals.append(error + (p - int(zx)) @ (q - int(zy)).mT)
    wanted = torch.stack(totals).float() * torch.from_numpy(np.asarray(sx * sy))
    assert torch.equal(got, wanted.reshape(*batch, first[-2], second[-1]))


@pytest.mark.parametrize("acc", ["int8", "int16", "int12(saturate, end)", "int32"])
def test_accumulator_comes_before_the_zero_point_terms_and_the_bias(acc):
    layer = build(1, lambda: nn.Linear(9, 4))
    x = randn(5, 9) + 0.5
    model = applied(layer, x, input="int8(affine)", weight="int8", mul=TABLE, acc=acc)
    fmt = dv.format("int8(affine)")
    sx, zx = grid(fmt, x.min().numpy(), x.max().numpy())
    sw, _ = grid(
        dv.format("int8"), *(f(layer.weight.detach(), 1).numpy() for f in (torch.amin, torch.amax))
    )
    a, w = to_codes(x, sx, zx, -128, 127), to_codes(layer.weight, sw, 0, -127, 127, axis=0)
    register = dv.accumulator(acc)
    half = 1 << (register.bits - 1)
    total = linear_loop(a, w, TABLE)
    total = (
        total.clamp(-half, half - 1) if "saturate" in acc else (total + half) % (2 * half) - half
    )
    total = total - int(zx) * w.sum(1)
    wanted = total.float() * torch.from_numpy(np.float32(sx) * sw) + layer.bias.detach()
    assert torch.equal(model(x), wanted)


def test_exact_multiplier_is_integer_arithmetic_and_near_the_float_layer():
    layer = build(1, lambda: nn.Linear(64, 8))
    x = randn(16, 64)
    model = applied(layer, x, input="int16(affine)", weight="int16")
    assert torch.allclose(model(x), nn.functional.linear(x, layer.weight, layer.bias), atol=1e-3)


@pytest.mark.parametrize("real", [r for r in REALISATIONS if holds(r, TABLE)])
@pytest.mark.parametrize("split", [1, 3])
def test_rows_do_not_depend_on_the_batch(real, split):
    layer = build(1, lambda: nn.Linear(33, 7))
    x = randn(7, 33)
    model = applied(layer, x, input="int8(affine)", weight="int8", mul=TABLE)
    with using(real):
        whole = model(x)
        parts = torch.cat([model(part) for part in x.split(split)])
    assert torch.equal(whole, parts)


def test_nan_and_infinity_follow_the_format():
    """NaN has no integer code and becomes zero; infinities saturate."""
    layer = build(1, lambda: nn.Linear(3, 2))
    example = torch.tensor([[-1.0, 0.5, 1.0]])
    model = applied(layer, example, input="int8", weight="int8")
    strange = torch.tensor([[float("nan"), float("inf"), -float("inf")]])
    assert torch.equal(model(strange), model(torch.tensor([[0.0, 9.0, -9.0]])))
