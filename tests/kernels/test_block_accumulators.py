"""Products of block formats in an accumulator, and in other shapes: matrices, rows, empty ones."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch

import dovetail as dv
from block_products import extreme, fast, same, spread
from dovetail.kernels import block
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.realisation import using


@pytest.mark.parametrize("acc", [None, "fp16"])
def test_no_matrices(realisation, acc):
    """A batch without matrices has a result without matrices."""
    fmt, register = dv.format("mxint8"), None if acc is None else dv.accumulator(acc)
    x, y = torch.ones(0, 4, 40), torch.ones(0, 40, 3)
    assert block.matmul(x, y, fmt, fmt, register).shape == (0, 4, 3)
    assert block.matmul(x, torch.ones(40, 3), fmt, fmt, register).shape == (0, 4, 3)
    if register is not None:
        assert block.matmul_totals(x, y, fmt, fmt, register).total.shape == (0, 4, 3)
        none = block.matmul_totals(x[:, :, :0], y[:, :0], fmt, fmt, register)
        assert none.total.shape == (0, 4, 3)
        none = block.matmul_totals(torch.ones(2, 4, 0), torch.ones(0, 3), fmt, fmt, register)
        assert torch.equal(none.total, torch.zeros(2, 4, 3))


def test_nothing_to_sum(realisation):
    """No products: the bias, or zero."""
    bias = spread(3, seed=2)
    for acc in (None, dv.accumulator("fp16")):
        fmt = dv.format("mxint8")
        y = block.emulate(torch.ones(2, 0), torch.ones(3, 0), bias, fmt, fmt, LINEAR, acc)
        assert same(y, bias.expand(2, 3))
        assert same(
            block.matmul(torch.ones(4, 2, 0), torch.ones(0, 3), fmt, fmt, acc), torch.zeros(4, 2, 3)
        )


def test_matmul(realisation):
    x, y = spread(2, 1, 4, 40), spread(3, 40, 5, seed=1)
    fmt = dv.format("mxint8")
    got = block.matmul(x, y, fmt, fmt)
    assert got.shape == (2, 3, 4, 5)
    for i, j in itertools.product(range(2), range(3)):
        assert same(got[i, j], fast(x[i, 0], y[j].mT, None, "mxint8", "mxint8"))
    assert same(block.matmul(x, y[0], fmt, fmt), got[:, :1])


@pytest.mark.parametrize(
    "shapes", [((2, 3, 4, 20), (20, 5)), ((4, 20), (3, 20, 5)), ((0, 4, 20), (20, 5))]
)
def test_matmul_by_definition(realisation, shapes):
    x, y = spread(*shapes[0], binades=3), spread(*shapes[1], seed=1, binades=3)
    fmt, fp16 = dv.format("mxint8(block=8)"), dv.accumulator("fp16")
    for acc in (None, fp16):
        got = block.matmul(x, y, fmt, fmt, acc)
        with using("reference"):
            assert same(got, block.matmul(x, y, fmt, fmt, acc))
        assert got.shape == (x @ y).shape


ACCUMULATORS = ["fp32", "fp16", "bf16(chunk=2)", "fp32(order=tree)", "fp8_e5m2(order=chunk(2))"]
ACCUMULATORS += ["fp16(end)", "fp32(rounding=TowardZero)", "float(e=8, m=12)", "fp16(order=tree)"]


@cache
def accumulated_cases(acc: str, pair: tuple[str, str]):
    """Arguments of a product and what the definition makes of them."""
    formats, register = [dv.format(f) for f in pair], dv.accumulator(acc)
    cases = []
    for kind, binades in (("plain", 1), ("extreme", 40)):
        x, w = spread(8, 75, binades=binades), spread(4, 75, seed=9, binades=binades)
        if kind == "extreme":
            x, w = extreme(x), extreme(w)
        bias = spread(4, seed=7)
        cases += [(rows, w, bias, *formats, LINEAR, register) for rows in (x, x[:0], x[0])]
    x, w, blocks_of_two = (
        spread(1, 6, 5, 4),
        spread(4, 3, 3, 3, seed=1),
        dv.format("mxint8(block=2)"),
    )
    geometry = Geometry.conv(2, padding=1, groups=2, stride=2)
    cases.append((x, w, None, blocks_of_two, blocks_of_two, geometry, register))
    with using("reference"):
        return [(case, block.emulate(*case)) for case in cases]


@pytest.mark.parametrize("acc", ACCUMULATORS)
@pytest.mark.parametrize("pair", [("mxint8(block=16)",) * 2, ("bfp(m=16, block=48)",) * 2])
def test_accumulators_take_the_blocks_terms(realisation, acc, pair):
    for case, expected in accumulated_cases(acc, pair):
        assert same(block.emulate(*case), expected)


def test_fp32_is_what_stands_without_an_accumulator(realisation):
    x, w, fmt = spread(5, 96), spread(7, 96, seed=1), dv.format("mxint8")
    plain = block.emulate(x, w, None, fmt, fmt, LINEAR)
    assert same(block.emulate(x, w, None, fmt, fmt, LINEAR, dv.accumulator("fp32")), plain)
    narrow = block.emulate(x, w, None, fmt, fmt, LINEAR, dv.accumulator("fp16"))
    assert not torch.equal(narrow, plain)


def test_registers_and_overflows_are_counted():
    fmt, fp8 = dv.format("mxint8(block=2)"), dv.accumulator("fp8_e4m3")
    x, w = torch.full((3, 2, 8), 16.0), torch.ones(3, 8, 4)
    for found in (
        block.matmul_totals(x, w, fmt, fmt, fp8),
        block.totals(x, w[0].mT, fmt, fmt, LINEAR, fp8),
    ):
        assert found.additions == 4
        assert found.total.shape == found.overflows.shape == (3, 2, 4)
        assert bool((found.total == 128).all())
    strong = block.totals(8 * x, w[0].mT, fmt, fmt, LINEAR, fp8)
    assert bool((strong.total == 448).all())  # 256, 448 of 512, 448 of 704, 448 of 704
    assert bool((strong.overflows == 3).all())
