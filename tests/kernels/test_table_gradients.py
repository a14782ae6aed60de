"""Gradients of a multiplier, against plain loops over the table that its terms stand for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.formats.quantization import quantize
from dovetail.gradients import gradient, terms_of
from dovetail.kernels import native, slope_library
from dovetail.kernels.ranges import operand_range
from gradient_models import Both, applied, backward, given_range
from helpers import build, randn, random_table

TABLE = random_table(7, -3000, 3000)
CIRCUIT = dv.multiplier("mul8s_1KX5")
WILD = (CIRCUIT, TABLE, dv.multiplier("mul8s_1L12"))


class Side:
    """An operand's codes, scales and clip mask, by the definitions."""

    def __init__(self, x, fmt, slot, given):
        self.fmt = dv.format(fmt)
        self.scale, self.zero = operand_range(x, self.fmt, slot, given)
        axis = 0 if self.scale.dim() else None
        self.codes = quantize(x.detach(), self.fmt, self.scale, self.zero, axis).numpy()
        self.inside = np.ones(x.shape)
        if given is not None:
            steps = torch.round(x.detach().float() / self.scale) + self.zero
            self.inside = ((steps >= self.fmt.qmin) & (steps <= self.fmt.qmax)).numpy()

    def at(self, n):
        """Scale and zero point of output ``n``."""
        scale, zero = (t if t.dim() == 0 else t[n] for t in (self.scale, self.zero))
        return float(scale), int(zero)


def tables(grad, mul, first, second):
    """``df/da`` and ``df/dw`` as functions of codes, in Python numbers."""
    ends = (first.fmt.qmin, first.fmt.qmax), (second.fmt.qmin, second.fmt.qmax)
    terms = terms_of(gradient(grad), mul, *ends)
    dense = (terms.p.T @ terms.q).tolist(), (terms.u.T @ terms.v).tolist()
    low = ends[0][0], ends[1][0]
    return [lambda a, w, t=t: t[int(a) - low[0]][int(w) - low[1]] for t in dense]


def linear_loops(gy, first, second, by_first, by_second):
    """``x [M, K]``, ``w [N, K]``, ``gy [M, N]``."""
    gx, gw = np.zeros(first.codes.shape), np.zeros(second.codes.shape)
    (count, depth), outputs = first.codes.shape, len(second.codes)
    sx, zx = first.at(0)
    for m, n, k in itertools.product(range(count), range(outputs), range(depth)):
        (sw, zw), g = second.at(n), float(gy[m, n])
        a, w = first.codes[m, k], second.codes[n, k]
        gx[m, k] += g * sw * (by_first(a, w) - zw)
        gw[n, k] += g * sx * (by_second(a, w) - zx)
    return gx * first.inside, gw * second.inside


def conv_loops(gy, first, second, by_first, by_second, geometry):
    """One convolution; the padding has the zero point's code, and no gradient."""
    stride, pads, dilation, groups = geometry
    sx, zx = first.at(0)
    codes = np.pad(first.codes.astype(int), [(0, 0), (0, 0), *pads], constant_values=zx)
    gx, gw = np.zeros(codes.shape), np.zeros(second.codes.shape)
    outputs, per_group = second.codes.shape[:2]
    for b, o in itertools.product(range(len(codes)), range(outputs)):
        (sw, zw), group = second.at(o), o // (outputs // groups)
        for pixel in itertools.product(*map(range, gy.shape[2:])):
            g = float(gy[(b, o, *pixel)])
            for c in range(per_group):
                for tap in itertools.product(*map(range, second.codes.shape[2:])):
                    by_axis = pixel, stride, tap, dilation
                    place = [p * s + t * d for p, s, t, d in zip(*by_axis, strict=True)]
                    at = (b, group * per_group + c, *place)
                    a, w = codes[at], second.codes[(o, c, *tap)]
                    gx[at] += g * sw * (by_first(a, w) - zw)
                    gw[(o, c, *tap)] += g * sx * (by_second(a, w) - zx)
    sizes = first.codes.shape[2:]
    inner = tuple(slice(low, low + n) for (low, _), n in zip(pads, sizes, strict=True))
    return gx[(slice(None), slice(None), *inner)] * first.inside, gw * second.inside


def assert_near(got, wanted, rtol=2e-5):
    wanted = torch.as_tensor(np.asarray(wanted))
    scale = float(wanted.abs().max()) or 1.0
    torch.testing.assert_close(got.double(), wanted.double(), rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("grad", ["lut1d", "lut2d", "lut2d(unclipped, window=3)", "poly"])
@pytest.mark.parametrize("mul", WILD, ids=str)
@pytest.mark.parametrize(
    "formats", [("int8", "int8"), ("int8(affine)", "int8(affine)"), ("int4", "int8(per_tensor)")]
)
def test_linear(grad, mul, formats):
    layer = build(0, lambda: nn.Linear(6, 4))
    example = randn(5, 6).clamp(-1, 1)
    model = applied(layer, example, grad, mul, *formats)
    x = (randn(5, 6, seed=3) * 1.5).requires_grad_()
    gy, (gx, gw, gb) = backward(model(x), x, layer.weight, layer.bias)
    first = Side(x, formats[0], "input", given_range(example, formats[0]))
    second = Side(layer.weight, formats[1], "weight", None)
    if "unclipped" in grad:
        first.inside[:] = 1
    wanted = linear_loops(gy, first, second, *tables(grad, mul, first, second))
    assert_near(gx, wanted[0])
    assert_near(gw, wanted[1])
    torch.testing.assert_close(gb, gy.sum(0))


CONVS = {
    "1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (2, 3, 8)),
    "groups": (lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), groups=2), (2, 4, 5, 4)),
    "depthwise": (lambda: nn.Conv2d(3, 6, 3, groups=3, dilation=2, padding=1), (1, 3, 6, 6)),
    "uneven": (lambda: nn.Conv2d(2, 3, (4, 3), padding="same"), (1, 2, 5, 5)),
    "unused": (lambda: nn.Conv2d(2, 3, 3, stride=2), (1, 2, 6, 6)),
    "3d": (lambda: nn.Conv3d(2, 3, 2, bias=False, padding=1), (1, 2, 3, 3, 2)),
}


@pytest.mark.parametrize("grad", ["lut1d", "lut2d(window=3)"])
@pytest.mark.parametrize("mul", WILD[:2], ids=str)
@pytest.mark.parametrize("input_", ["int8", "int8(affine)"])
@pytest.mark.parametrize("name", CONVS)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_conv(grad, mul, input_, name):
    make, shape = CONVS[name]
    layer = build(0, make)
    example = randn(*shape).clamp(-1, 1)
    model = applied(layer, example, grad, mul, input_)
    x = (randn(*shape, seed=3) * 1.5).requires_grad_()
    gy, (gx, gw, *_) = backward(model(x), x, *layer.parameters())
    first = Side(x, input_, "input", given_range(example, input_))
    second = Side(layer.weight, "int8", "weight", None)
    n = x.dim() - 2
    pads = [(p, p) for p in layer.padding] if layer.padding != "same" else [(1, 2), (1, 1)]
    geometry = layer.stride, pads[:n], layer.dilation, layer.groups
    wanted = conv_loops(gy, first, second, *tables(grad, mul, first, second), geometry)
    assert_near(gx, wanted[0])
    assert_near(gw, wanted[1])


class Product(nn.Module):
    def forward(self, x, y):
        return x @ y


@pytest.mark.parametrize(
    ("first", "second"), [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5))]
)
def test_matmul(first, second):
    mul, fmt = CIRCUIT, "int8(affine)"
    model, x, y = Product(), randn(*first), randn(*second, seed=1)
    rule = dv.rule("*", input=fmt, weight=fmt, mul=mul, grad="lut2d(window=3)")
    examples = x.clamp(-1, 1), y.clamp(-1, 1)
    dv.apply_(model, dv.Recipe(rule), examples)
    x.requires_grad_(), y.requires_grad_()
    gz, (gx, gy) = backward(model(x, y), x, y)
    ranges = [operand_range(e, dv.format(fmt), "second", None) for e in examples]
    batch = range(2 if 3 in (x.dim(), y.dim()) else 1)
    wx, wy = np.zeros(first), np.zeros(second)
    for b in batch:
        xb, yb = x[b] if x.dim() == 3 else x, y[b] if y.dim() == 3 else y
        sides = Side(xb, fmt, "input", ranges[0]), Side(yb.mT, fmt, "second", ranges[1])
        part = linear_loops(
            gz[b] if gz.dim() == 3 else gz, *sides, *tables("lut2d(window=3)", mul, *sides)
        )
        wx[b if x.dim() == 3 else ...] += part[0]
        wy[b if y.dim() == 3 else ...] += part[1].T
    assert_near(gx, wx)
    assert_near(gy, wy)


def test_a_transposed_convolution_is_a_plain_one_of_spread_pixels():
    layer = build(0, lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1))
    x = randn(2, 2, 4, 4)
    model = applied(layer, x, "lut2d(window=3)", CIRCUIT, "int8(affine)")
    x.requires_grad_()
    _, (gx, gw) = backward(model(x), x, layer.weight)
    plain = build(0, lambda: nn.Conv2d(2, 3, 3, padding=1, bias=False))
    plain.weight.data = layer.weight.data.transpose(0, 1).flip(2, 3).contiguous()
    spread = torch.zeros(2, 2, 7, 7)
    spread[..., ::2, ::2] = x.detach()
    other = applied(plain, x.detach(), "lut2d(window=3)", CIRCUIT, "int8(affine)")
    spread.requires_grad_()
    _, (wx, ww) = backward(other(spread), spread, plain.weight)
    torch.testing.assert_close(gx, wx[..., ::2, ::2])
    torch.testing.assert_close(gw, ww.transpose(0, 1).flip(2, 3))


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("shape", [(3, 40), (5, 3, 7), (0, 4), (2, 1)])
def test_lookups_in_the_core_are_those_of_torch(axis, shape, monkeypatch):
    """Bit for bit, at every level; NaN and infinities among the values."""
    if not native.available():
        pytest.skip("no native core")
    x = randn(*shape) * 3
    x.view(-1)[:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])[: x.numel()]
    rule = dv.Arithmetic(
        input=dv.format("int8(affine)"),
        weight=dv.format("int4"),
        mul=CIRCUIT,
        grad="lut2d(window=3)",
    )
    scale = torch.tensor(0.07) if axis is None else torch.rand(shape[0]) + 0.01
    zero = torch.zeros(scale.shape, dtype=torch.int32)
    for part in "pquv":
        with monkeypatch.context() as patch:
            patch.setattr(native, "available", lambda: False)
            wanted = slope_library._slopes(x, scale, zero + (part in "pu"), rule.spelling, part)
        for level in native.levels():
            native.set_isa(level)
            try:
                got = slope_library._slopes(x, scale, zero + (part in "pu"), rule.spelling, part)
            finally:
                native.set_isa(None)
            assert torch.equal(got, wanted)


def test_the_exact_multiplier_gives_what_ste_does():
    exact = dv.multiplier("exact(bits=8, signed=True)")
    grads = []
    for grad, mul in (("ste", "exact"), ("lut2d", exact), ("lut1d", exact), ("lut2d", "exact")):
        layer = build(0, lambda: nn.Conv2d(2, 3, 3, padding=1))
        x = randn(2, 2, 5, 5).requires_grad_()
        model = applied(layer, x.detach(), grad, mul, "int8(affine)")
        grads.append(backward(model(x), x, *layer.parameters())[1])
    for others in grads[1:]:
        for got, wanted in zip(others, grads[0], strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def emulated(grad="lut2d(window=3)", dtype=torch.float32):
    model, x = build(0, Both).to(dtype), randn(3, 2, 2, 2, dtype=dtype)
    rule = dv.rule("*", input="int8(affine)", weight="int8", mul=CIRCUIT, grad=grad)
    dv.apply_(model, dv.Recipe(rule), x)
    return model, x


def loss_of(model):
    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    return loss


@pytest.mark.parametrize("grad", ["lut1d", "lut2d(window=3)"])
def test_func_grad_equals_backward(grad):
    model, x = emulated(grad)
    parameters = dict(model.named_parameters())
    model(x).square().sum().backward()
    grads = torch.func.grad(loss_of(model))(parameters, x)
    for name, parameter in parameters.items():
        assert_near(grads[name], parameter.grad)


def test_per_sample_gradients():
    model, x = emulated()
    parameters = {k: v.detach() for k, v in model.named_parameters()}
    per_sample = torch.func.vmap(torch.func.grad(loss_of(model)), in_dims=(None, 0))
    got = per_sample(parameters, x[:, None])
    for i in range(len(x)):
        wanted = torch.func.grad(loss_of(model))(parameters, x[i : i + 1])
        for name in parameters:
            assert_near(got[name][i], wanted[name])


def test_double_precision_is_the_same_in_more_digits():
    grads = []
    for dtype in (torch.float32, torch.float64):
        model, x = emulated(dtype=dtype)
        x.requires_grad_()
        grads.append(torch.autograd.grad(model(x).square().sum(), (x, *model.parameters())))
    for single, double in zip(*grads, strict=True):
        assert double.dtype == torch.float64
        assert_near(single, double, 1e-4)


def test_a_recurrent_network():
    """Its gates are linear layers: the gradient is that of torch.func's other expression."""
    model, x = build(0, lambda: nn.LSTM(5, 4)), randn(6, 2, 5)
    rule = dv.rule("*", input="int8", weight="int8", mul="mul8s_1L12", grad="lut2d(window=32)")
    dv.apply_(model, dv.Recipe(rule), x)
    model(x)[0].square().sum().backward()

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (x,))[0].square().sum()

    wanted = torch.func.grad(loss)(dict(model.named_parameters()))
    for name, parameter in model.named_parameters():
        assert parameter.grad.any()
        assert_near(wanted[name], parameter.grad, 1e-4)


def test_double_backward():
    """The gradient's own derivative: df/da is a constant table, and only gy is differentiated."""
    layer = build(0, lambda: nn.Linear(3, 2))
    x = randn(4, 3)
    model = applied(layer, x, "lut2d(window=3)", CIRCUIT)
    x.requires_grad_()
    (first,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert second.isfinite().all()
    assert second.any()


def test_frozen_operands_get_none_and_the_rest_do():
    layer = build(0, lambda: nn.Conv2d(2, 3, 3, padding=1))
    x = randn(1, 2, 4, 4)
    model = applied(layer, x, "lut2d", CIRCUIT)
    model(x).sum().backward()
    whole = layer.weight.grad
    layer.weight.grad = None
    layer.weight.requires_grad_(False)
    leaf = x.clone().requires_grad_()
    model(leaf).sum().backward()
    assert layer.weight.grad is None
    assert leaf.grad.any()
    assert whole.any()
    layer.bias.grad = None
    model(x).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((3,), 16.0))


@pytest.mark.slow
@pytest.mark.parametrize("grad", ["lut1d", "lut2d(window=3)"])
def test_compiled_gradients_are_the_eager_ones(grad):
    model, x = emulated(grad)
    model(x).square().sum().backward()
    eager = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.compile(model, backend="aot_eager", fullgraph=True)(x).square().sum().backward()
    for got, parameter in zip(eager, model.parameters(), strict=True):
        assert torch.equal(got, parameter.grad)


def test_checkpointing_gives_the_same_gradients():
    from torch.utils.checkpoint import checkpoint

    grads = []
    for run in (lambda m, x: m(x), lambda m, x: checkpoint(m, x, use_reentrant=False)):
        model, x = emulated()
        run(model, x.requires_grad_()).square().sum().backward()
        grads.append([x.grad, *(p.grad for p in model.parameters())])
    for plain, recomputed in zip(*grads, strict=True):
        assert torch.equal(plain, recomputed)
