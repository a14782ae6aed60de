"""Backward products of the multiplier, against plain loops: integer sums bit for bit, then scaled.

Of the loops, `product_of` has the multiplier's products one by one; codes and scales of gradients
are found here by their definition.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.formats.quantization import quantize
from dovetail.kernels import sum_library
from dovetail.kernels.geometry import Geometry
from dovetail.kernels.ranges import operand_range
from dovetail.kernels.realisation import using
from gradient_models import Both, applied, backward, given_range
from helpers import build, product_of, randn, random_table

TABLE = random_table(7, -3000, 3000)
MULTIPLIERS = (dv.multiplier("mul8s_1L12"), TABLE, dv.multiplier("sign_magnitude(mul8u_1JJQ)"))


class Side:
    """An operand's codes, zero points by output channel, scales and clip mask."""

    def __init__(self, x, fmt, slot, given, outputs=1):
        fmt = dv.format(fmt)
        self.scale, zero = operand_range(x.detach(), fmt, slot, given)
        axis = 0 if self.scale.dim() else None
        self.codes = quantize(x.detach(), fmt, self.scale, zero, axis).numpy().astype(int)
        self.zeros = zero.expand(outputs).tolist()
        self.inside = torch.ones(x.shape, dtype=torch.bool)
        if given is not None:
            steps = torch.round(x.detach() / self.scale) + zero
            self.inside = (steps >= fmt.qmin) & (steps <= fmt.qmax)


def codes_of(grad, bits=8):
    """The largest magnitude is the largest code; ties go to even."""
    most = 2 ** (bits - 1) - 1
    peak = grad.abs().max()
    scale = peak / most if peak > 0 else torch.tensor(1.0)
    return torch.round(grad / scale).clamp(-most, most).numpy().astype(int), scale


def linear_loops(f, q, h, first, second):
    """Integer sums: ``x [M, K]``, ``w [N, K]``, codes of gradients ``[M, N]``."""
    (count, depth), outputs = first.codes.shape, len(second.codes)
    gx, gw = np.zeros((count, depth), int), np.zeros((outputs, depth), int)
    for m, n, k in itertools.product(range(count), range(outputs), range(depth)):
        gx[m, k] += f(h[m, n], second.codes[n, k]) - second.zeros[n] * h[m, n]
        gw[n, k] += f(q[m, n], first.codes[m, k]) - first.zeros[0] * q[m, n]
    return torch.tensor(gx), torch.tensor(gw)


def conv_loops(f, q, h, first, second, geometry):
    """Integer sums of a convolution: the pairs of the forward pass, padding included."""
    stride, pads, dilation, groups = geometry
    zero = first.zeros[0]
    codes = np.pad(first.codes, [(0, 0), (0, 0), *pads], constant_values=zero)
    gx, gw = np.zeros(codes.shape, int), np.zeros(second.codes.shape, int)
    outputs, per_group = second.codes.shape[:2]
    for b, o in itertools.product(range(len(codes)), range(outputs)):
        for pixel in itertools.product(*map(range, q.shape[2:])):
            at_q, at_h = q[(b, o, *pixel)], h[(b, o, *pixel)]
            for c, *tap in itertools.product(range(per_group), *map(range, second.codes.shape[2:])):
                by_axis = pixel, stride, tap, dilation
                place = [p * s + t * d for p, s, t, d in zip(*by_axis, strict=True)]
                at = (b, o // (outputs // groups) * per_group + c, *place)
                w = second.codes[(o, c, *tap)]
                gx[at] += f(at_h, w) - second.zeros[o] * at_h
                gw[(o, c, *tap)] += f(at_q, codes[at]) - zero * at_q
    inner = tuple(slice(p, p + n) for (p, _), n in zip(pads, first.codes.shape[2:], strict=True))
    return torch.tensor(gx[(slice(None), slice(None), *inner)]), torch.tensor(gw)


def scaled(sums, side, scale):
    return torch.where(side.inside, sums.float() * scale, 0.0)


@pytest.mark.parametrize("mul", MULTIPLIERS, ids=str)
@pytest.mark.parametrize(
    ("formats", "grad"),
    [
        (("int8", "int8"), "approx"),
        (("int8(affine)", "int8(affine)"), "approx"),
        (("int8(affine)", "int8(affine, per_tensor)"), "approx"),
        (("int4", "int8(per_tensor)"), "approx(unclipped)"),
    ],
)
def test_linear(mul, formats, grad):
    layer = build(0, lambda: nn.Linear(6, 4))
    example = randn(5, 6).clamp(-1, 1)
    model = applied(layer, example, grad, mul, *formats)
    x = (randn(2, 5, 6, seed=3) * 1.5).requires_grad_()
    gy, (gx, gw, gb) = backward(model(x), x, layer.weight, layer.bias)
    rows = x.detach().reshape(-1, 6)
    first = Side(rows, formats[0], "input", given_range(example, formats[0]))
    second = Side(layer.weight, formats[1], "weight", None, 4)
    if "unclipped" in grad:
        first.inside[:] = True
    gy = gy.reshape(-1, 4)
    (q, unit), (h, folded) = codes_of(gy), codes_of(gy * second.scale)
    by_x, by_w = linear_loops(product_of(mul), q, h, first, second)
    assert torch.equal(gx.reshape(-1, 6), scaled(by_x, first, folded))
    assert torch.equal(gw, scaled(by_w, second, unit * first.scale))
    torch.testing.assert_close(gb, gy.sum(0))


CONVS = {
    "1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (2, 3, 8)),
    "groups": (lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), groups=2), (2, 4, 5, 4)),
    "depthwise": (lambda: nn.Conv2d(3, 6, 3, groups=3, dilation=2, padding=1), (1, 3, 6, 6)),
    "uneven": (lambda: nn.Conv2d(2, 3, (4, 3), padding="same"), (1, 2, 5, 5)),
    "unused": (lambda: nn.Conv2d(2, 3, 3, stride=2), (1, 2, 6, 6)),
    "one pixel": (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 2, 1, 1)),
    "beyond": (lambda: nn.Conv2d(2, 3, 1, padding=1, stride=2), (1, 2, 4, 3)),
    "3d": (lambda: nn.Conv3d(2, 3, 2, bias=False, padding=1), (1, 2, 3, 3, 2)),
}


@pytest.mark.parametrize("mul", MULTIPLIERS[:2], ids=str)
@pytest.mark.parametrize("fmt", ["int8", "int8(affine)"])
@pytest.mark.parametrize("name", CONVS)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_conv(mul, fmt, name):
    make, shape = CONVS[name]
    layer = build(0, make)
    example = randn(*shape).clamp(-1, 1)
    model = applied(layer, example, "approx", mul, fmt, fmt)
    x = (randn(*shape, seed=3) * 1.5).requires_grad_()
    gy, (gx, gw, *_) = backward(model(x), x, *layer.parameters())
    first = Side(x, fmt, "input", given_range(example, fmt))
    second = Side(layer.weight, fmt, "weight", None, len(layer.weight))
    n = x.dim() - 2
    pads = [(p, p) for p in layer.padding] if layer.padding != "same" else [(1, 2), (1, 1)]
    geometry = layer.stride, pads[:n], layer.dilation, layer.groups
    per_output = second.scale.view(-1, *[1] * n)
    (q, unit), (h, folded) = codes_of(gy), codes_of(gy * per_output)
    by_x, by_w = conv_loops(product_of(mul), q, h, first, second, geometry)
    assert torch.equal(gx, scaled(by_x, first, folded))
    assert torch.equal(gw, scaled(by_w, second, unit * first.scale))


class Product(nn.Module):
    def forward(self, x, y):
        return x @ y


@pytest.mark.parametrize(
    ("first", "second"),
    [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 3, 4), (2, 4, 5))],
)
def test_matmul(first, second):
    mul, fmt = MULTIPLIERS[0], "int8(affine)"
    model, x, y = Product(), randn(*first), randn(*second, seed=1)
    rule = dv.rule("*", input=fmt, weight=fmt, mul=mul, grad="approx")
    examples = x.clamp(-1, 1), y.clamp(-1, 1)
    dv.apply_(model, dv.Recipe(rule), examples)
    x.requires_grad_(), y.requires_grad_()
    gz, (gx, gy) = backward(model(x, y), x, y)
    ranges = [operand_range(e, dv.format(fmt), "second", None) for e in examples]
    whole = [Side(t, fmt, "second", r) for t, r in zip((x, y), ranges, strict=True)]
    (q, unit), (h, folded) = codes_of(gz), codes_of(gz * whole[1].scale)
    wx, wy = torch.zeros(first, dtype=torch.int64), torch.zeros(second, dtype=torch.int64)
    for b in range(2 if gz.dim() == 3 else 1):
        xb, yb = (t.detach()[b] if t.dim() == 3 else t.detach() for t in (x, y))
        columns = yb.shape[-1]
        sides = Side(xb, fmt, "input", ranges[0]), Side(yb.mT, fmt, "second", ranges[1], columns)
        at = b if gz.dim() == 3 else ...
        part = linear_loops(product_of(mul), q[at], h[at], *sides)
        wx[b if x.dim() == 3 else ...] += part[0]
        wy[b if y.dim() == 3 else ...] += part[1].T
    assert torch.equal(gx, scaled(wx, whole[0], folded))
    assert torch.equal(gy, scaled(wy, whole[1], unit * whole[0].scale))


def test_a_transposed_convolution_is_a_plain_one_of_spread_pixels():
    layer = build(0, lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, bias=False))
    x = randn(2, 2, 4, 4)
    model = applied(layer, x, "approx", MULTIPLIERS[0], "int8(affine)")
    x.requires_grad_()
    _, (gx, gw) = backward(model(x), x, layer.weight)
    plain = build(0, lambda: nn.Conv2d(2, 3, 3, padding=1, bias=False))
    plain.weight.data = layer.weight.data.transpose(0, 1).flip(2, 3).contiguous()
    spread = torch.zeros(2, 2, 7, 7)
    spread[..., ::2, ::2] = x.detach()
    other = applied(plain, x.detach(), "approx", MULTIPLIERS[0], "int8(affine)")
    spread.requires_grad_()
    _, (wx, ww) = backward(other(spread), spread, plain.weight)
    assert torch.equal(gx, wx[..., ::2, ::2])
    assert torch.equal(gw, ww.transpose(0, 1).flip(2, 3))


def emulated(mul="mul8s_1L12", dtype=torch.float32, fmt="int8"):
    model, x = build(0, Both).to(dtype), randn(3, 2, 2, 2, dtype=dtype)
    dv.apply_(model, dv.Recipe(dv.rule("*", input=fmt, weight=fmt, mul=mul, grad="approx")), x)
    return model, x


def gradients_of(model, x, run=None):
    model.zero_grad()
    (model if run is None else run)(x).square().sum().backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("mul", ["mul8s_1L12", TABLE], ids=str)
def test_every_realisation_gives_the_same_bits(mul):
    model, x = emulated(mul)
    wanted = gradients_of(model, x)
    for name in ("reference", "torch-products"):
        with using(name):
            found = gradients_of(model, x)
        assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize(("mul", "fmt"), [("mitchell(bits=16)", "int16"), ("mul12s_2QD", "int12")])
def test_wide_operands(mul, fmt):
    layer, x = build(0, lambda: nn.Linear(6, 4)), randn(5, 6)
    model = applied(layer, x, "approx", mul, fmt, fmt)
    gy, (gw,) = backward(model(x), layer.weight)
    first = Side(x, fmt, "input", None)
    second = Side(layer.weight, fmt, "weight", None, 4)
    q, unit = codes_of(gy, dv.multiplier(mul).bits[0])
    _, by_w = linear_loops(product_of(dv.multiplier(mul)), q, q, first, second)
    assert torch.equal(gw, scaled(by_w, second, unit * first.scale))


def test_which_products_with_zero_are_zero():
    """Where others are not, only the pairs of the forward pass are multiplied, place by place."""
    formats = dv.format("int8"), dv.format("int8")
    circuit, table = (
        dv.Arithmetic(*formats, mul=mul, grad="approx").spelling for mul in MULTIPLIERS[:2]
    )
    grad, codes = torch.ones(1, 2, 2, 2).char(), torch.ones(2, 1, 3, 3).char()
    geometry = Geometry.conv(2, padding=1)
    one = sum_library.input_sums(grad, codes, circuit, geometry, (2, 2))
    assert one is not None
    assert one.shape == (1, 1, 2, 2)
    assert sum_library.input_sums(grad, codes, table, geometry, (2, 2)) is None
    beyond = Geometry.conv(2, padding=3)
    assert sum_library.input_sums(grad, codes, circuit, beyond, (0, 0)) is None


def test_sums_that_leave_32_bits_are_made_in_runs():
    rule = dv.Arithmetic(
        dv.format("int8"), dv.format("int8"), mul=dv.multiplier("mul8s_1KV6"), grad="approx"
    )
    depth = 2**31 // 127**2 + 100
    grad = torch.full((1, 1, depth), 127, dtype=torch.int8)
    got = sum_library.backward_sums(grad, grad.expand(1, 2, depth), rule.spelling, False)
    assert got.tolist() == [[[127 * 127 * depth] * 2]]


def test_an_exact_circuit_leaves_the_rounding_of_gradients_and_no_width_leaves_nothing():
    exact = {}
    for mul, grad in itertools.product(("exact", "mul8s_1KV6"), ("ste", "approx")):
        layer = build(0, lambda: nn.Conv2d(2, 3, 3, padding=1))
        x = randn(2, 2, 5, 5).requires_grad_()
        model = applied(layer, x.detach(), grad, mul, "int8(affine)")
        exact[mul, grad] = backward(model(x), x, *layer.parameters())[1]
    for wanted, same, near in zip(
        exact["exact", "ste"], exact["exact", "approx"], exact["mul8s_1KV6", "approx"], strict=True
    ):
        assert torch.equal(wanted, same)
        assert (near - wanted).norm() < 0.02 * wanted.norm()


def test_compiled_steps_are_the_eager_ones():
    model, x = emulated(fmt="int8(affine)")
    wanted = gradients_of(model, x)
    found = gradients_of(model, x, torch.compile(model, backend="aot_eager", fullgraph=True))
    assert all(map(torch.equal, found, wanted))


def test_double_precision_is_scaled_in_it():
    single, double = (gradients_of(*emulated(dtype=d)) for d in (torch.float32, torch.float64))
    for a, b in zip(single, double, strict=True):
        assert b.dtype == torch.float64
        assert (a - b).norm() < 0.05 * b.norm()


def test_learned_scales_get_the_gradient_too():
    layer, x = build(0, lambda: nn.Linear(6, 4)), randn(5, 6)
    model = applied(layer, x, "approx(lsq)", "mul8s_1L12")
    model(x).square().sum().backward()
    assert all(p.grad.any() for p in dv.learned_parameters(model).values())


def test_a_recurrent_network():
    model, x = build(0, lambda: nn.LSTM(5, 4)), randn(6, 2, 5)
    rule = dv.rule("*", input="int8", weight="int8", mul="mul8s_1KV6", grad="approx")
    dv.apply_(model, dv.Recipe(rule), x)
    model(x)[0].square().sum().backward()
    found = [p.grad.clone() for p in model.parameters()]
    dv.remove_(model)
    model.zero_grad()
    model(x)[0].square().sum().backward()
    for got, parameter in zip(found, model.parameters(), strict=True):
        assert not torch.equal(got, parameter.grad)
        assert (got - parameter.grad).norm() < 0.1 * parameter.grad.norm()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_shows(bad):
    """A gradient scaler of mixed precision must see an overflow."""
    layer, x = build(0, lambda: nn.Linear(6, 4)), randn(5, 6).requires_grad_()
    model = applied(layer, x.detach(), "approx", "mul8s_1L12")
    gy = torch.ones(5, 4)
    gy[2, 1] = bad
    gx, gw = torch.autograd.grad(model(x), (x, layer.weight), gy)
    assert gx.isnan().all()
    assert gw.isnan().all()


@pytest.mark.parametrize("shape", [(0, 2, 5, 5), (2, 2, 3, 3)])
def test_empty_batches_and_zero_gradients(shape):
    layer = build(0, lambda: nn.Conv2d(2, 4, 3, groups=2))
    model = applied(layer, randn(1, 2, 5, 5), "approx", "mul8s_1KV6")
    x = randn(*shape).requires_grad_()
    y = model(x)
    gx, gw = torch.autograd.grad(y, (x, layer.weight), torch.zeros_like(y))
    assert gx.shape == x.shape
    assert not gx.any()
    assert not gw.any()


def test_torch_func_is_refused():
    model, x = emulated()
    parameters = dict(model.named_parameters())

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    with pytest.raises(DovetailError, match=r"approx rounds gradients.*call backward"):
        torch.func.grad(loss)(parameters)
