"""The three ``torch.library`` ops: registered completely, and right on fake tensors."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch._subclasses import FakeTensorMode

import dovetail as dv
from dovetail.kernels import library, using
from dovetail.kernels.ranges import operand_range
from helpers import randn, random_table

INT8 = dv.Arithmetic(input=dv.format("int8(affine)"), weight=dv.format("int8")).spelling
DYNAMIC = dv.Arithmetic(
    input=dv.format("int8(dynamic)"), weight=dv.format("int8(dynamic)")
).spelling
SCALE, ZERO = torch.tensor(0.02), torch.tensor(5, dtype=torch.int32)
ONE = torch.tensor(0.01), torch.tensor(0, dtype=torch.int32)


def cases(grad: bool = True):
    def leaf(*shape, seed=0):
        return randn(*shape, seed=seed).requires_grad_(grad)

    given, none = (SCALE, ZERO), (None, None)
    geometry = ([2, 1], [1, 0, 2, 2], [1, 2], 2)
    return [
        (library.linear, (leaf(3, 7), leaf(4, 7, seed=1), leaf(4), *given, *none, INT8)),
        (library.linear, (leaf(2, 3, 7), leaf(4, 7, seed=1), None, *none, *none, DYNAMIC)),
        (library.linear, (leaf(7), leaf(4, 7, seed=1), None, *given, *none, INT8)),
        (
            library.conv,
            (leaf(1, 4, 6, 7), leaf(6, 2, 3, 2, seed=1), leaf(6), *given, *none, *geometry, INT8),
        ),
        (
            library.conv,
            (leaf(2, 3, 5), leaf(4, 3, 2), None, *none, *none, [1], [0, 0], [1], 1, DYNAMIC),
        ),
        (library.matmul, (leaf(3, 4), leaf(4, 5, seed=1), *given, *ONE, INT8)),
        (library.matmul, (leaf(2, 1, 3, 4), leaf(5, 4, 2, seed=1), *none, *none, DYNAMIC)),
    ]


@pytest.mark.parametrize("case", range(7))
def test_opcheck(case):
    op, arguments = cases()[case]
    torch.library.opcheck(op.default, arguments)


@pytest.mark.parametrize("case", range(7))
def test_fake_and_meta_shapes_are_the_real_ones(case):
    op, arguments = cases(grad=False)[case]
    real = op(*arguments)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        faked = [mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for v in arguments]
        fake = op(*faked)
    meta = op(*(v.to("meta") if isinstance(v, torch.Tensor) else v for v in arguments))
    for other in (fake, meta):
        assert (other.shape, other.dtype, other.stride()) == (real.shape, real.dtype, real.stride())


@pytest.mark.parametrize("case", range(7))
def test_the_result_may_be_changed_in_place(case):
    """As ``nn.ReLU(inplace=True)`` after a layer does."""
    op, arguments = cases()[case]
    y = op(*arguments)
    assert y.is_contiguous()
    wanted = torch.autograd.grad(torch.relu(y).sum(), arguments[0], retain_graph=True)[0]
    y.relu_()
    assert torch.equal(torch.autograd.grad(y.sum(), arguments[0])[0], wanted)


def test_the_arithmetic_travels_as_text_that_another_process_can_read():
    arithmetic = dv.Arithmetic(
        input=dv.format("int8(affine, dynamic)"),
        weight=dv.format("int4(channel=0)"),
        mul=dv.multiplier("mul8s_1L2H@v1.1"),
        acc=dv.accumulator("int16(saturate, end)"),
        grad="ste(unclipped)",
    )
    assert dv.Arithmetic.parse(arithmetic.spelling) == arithmetic


def one_by_one(x, w, arithmetic):
    """A batch of products, each by itself, with the ranges of the whole."""
    rule = dv.Arithmetic.parse(arithmetic)
    first = operand_range(x, rule.input, "input", None)
    second = operand_range(w, rule.weight, "second", None)
    batch = torch.broadcast_shapes(x.shape[:-2], w.shape[:-2])
    pairs = zip(
        x.expand(*batch, *x.shape[-2:]).flatten(0, -3),
        w.expand(*batch, *w.shape[-2:]).flatten(0, -3),
        strict=True,
    )
    out = [library.matmul(a, b, *first, *second, arithmetic) for a, b in pairs]
    return torch.stack(out).reshape(*batch, x.shape[-2], w.shape[-1])


@pytest.mark.parametrize(
    ("x", "w"),
    [
        ((3, 5, 4), (4, 6)),
        ((3, 5, 4), (1, 4, 6)),
        ((5, 4), (3, 4, 6)),
        ((1, 5, 4), (2, 3, 4, 6)),
        ((3, 5, 4), (3, 4, 6)),
        ((2, 1, 5, 4), (3, 4, 1)),
        ((2, 3, 1, 33), (2, 3, 33, 6)),
    ],
)
@pytest.mark.parametrize("fmt", ["int8(dynamic)", "int8(affine, dynamic)"])
@pytest.mark.parametrize("realisation", [None, "torch-products", "reference"])
@pytest.mark.parametrize("fields", [{}, {"acc": "int16(saturate)"}])
def test_a_batch_of_products_is_each_product_by_itself(x, w, fmt, realisation, fields):
    fmt = dv.format(fmt)
    acc = dv.accumulator(fields["acc"]) if fields else None
    arithmetic = dv.Arithmetic(input=fmt, weight=fmt, mul=random_table(4, -999, 999), acc=acc)
    left, right = randn(*x), randn(*w, seed=1)
    with using(realisation) if realisation else contextlib.nullcontext():
        got = library.matmul(left, right, None, None, None, None, arithmetic.spelling)
    assert got.is_contiguous()
    assert torch.equal(got, one_by_one(left, right, arithmetic.spelling))


@pytest.mark.parametrize(
    ("x", "w"), [((0, 3, 4), (0, 4, 5)), ((2, 0, 4), (4, 5)), ((2, 3, 0), (2, 0, 5))]
)
def test_a_product_of_nothing_is_zero(x, w):
    none = (None, None, None, None)
    y = library.matmul(randn(*x), randn(*w), *none, DYNAMIC)
    assert torch.equal(y, randn(*x) @ randn(*w))
