"""What the sums of products cost, for each product."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dovetail.accumulators import AdderAccumulator, FloatAccumulator, IntAccumulator
from dovetail.accumulators.base import Accumulator
from dovetail.arithmetic import Arithmetic
from dovetail.costs.operands import Float, Integer, Operand
from dovetail.costs.operations import FREE, Operations, Price
from dovetail.formats import NVFP4, ScaledBlock
from dovetail.formats.base import BlockFormat, ElementFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.scaled import E4M3

__all__ = ["Sum", "price_of_sum"]

FULL_ADDER = 7  # unit gates; an or is one


@dataclass(frozen=True)
class Sum:
    """Additions of one kind: so many ``share`` of the products take one at ``price``."""

    share: float
    price: Price


def price_of_sum(
    ops: Operations, arithmetic: Arithmetic, first: Operand, second: Operand, depth: int, how: str
) -> list[Sum]:
    """The additions that a product takes part in; ``how`` is the plan's word for the products.

    ``depth`` products make one result.
    """
    if how == "exact blocks":
        return _of_blocks(ops, arithmetic, depth)
    codes = isinstance(first, Integer) and isinstance(second, Integer)
    acc = arithmetic.acc
    if acc is None and codes:
        return [Sum(1.0, ops.add(_exact_sum(first, second, depth)))]
    if acc is None:
        return [Sum(1.0, ops.add(Float(8, 24)))]
    register = Sum(1.0, _register(ops, acc))
    if acc.chunk is None:
        return [register]
    wide = _exact_sum(first, second, acc.chunk) if codes else Float(11, 53)
    inside = (acc.chunk - 1) / acc.chunk
    return [Sum(inside, ops.add(wide)), Sum(1 / acc.chunk, register.price)]


def _exact_sum(first: Operand, second: Operand, depth: int) -> Integer:
    """Wide enough for every sum of so many products.

    >>> _exact_sum(Integer(8), Integer(8), 9)
    Integer(bits=20)
    """
    assert isinstance(first, Integer)
    assert isinstance(second, Integer)
    return Integer(first.bits + second.bits + math.ceil(math.log2(max(depth, 1))))


def _register(ops: Operations, acc: Accumulator) -> Price:
    declared = ops.tables.adders.get(acc.spelling)
    if declared is not None and declared.energy_pj is not None:
        how = f"{acc}: {declared.energy_pj:.4g} pJ ({declared.table})"
        return Price(declared.energy_pj, declared.area_um2, declared.delay_ns, how)
    if isinstance(acc, IntAccumulator):
        return ops.add(Integer(acc.bits))
    if isinstance(acc, FloatAccumulator):
        return ops.add(Float(acc.format.exponent, acc.format.mantissa + 1))
    assert isinstance(acc, AdderAccumulator)
    return _approximate(ops, acc)


def _approximate(ops: Operations, acc: AdderAccumulator) -> Price:
    """LOA and truncation by what they leave of an exact adder; of others nothing is known."""
    if acc.name not in ("loa", "truncated"):
        missing = f"declare 'adders: {{'{acc}': <pJ>}}' in a table of costs"
        return Price(None, how=f"{acc}: not known", missing=missing)
    high = ops.add(Integer(acc.bits - acc.low)) if acc.bits > acc.low else FREE
    if acc.name == "truncated" or acc.low == 0 or high.energy_pj is None:
        return high
    low = ops.add(Integer(acc.low))
    assert low.energy_pj is not None
    energy = high.energy_pj + low.energy_pj / FULL_ADDER
    known = high.area_um2 is not None and low.area_um2 is not None
    area = high.area_um2 + low.area_um2 / FULL_ADDER if known else None  # type: ignore[operator]
    how = f"{acc}: an addition of its {acc.bits - acc.low} high bits, and {acc.low} or gates"
    return Price(energy, area, None, how)


def _of_blocks(ops: Operations, arithmetic: Arithmetic, depth: int) -> list[Sum]:
    """Inside a block exact integer additions; for each block the product of both scales (of powers
    of two an addition) and an addition in the register, float32 without one."""
    one, other = arithmetic.input, arithmetic.weight
    assert isinstance(one, BlockFormat)
    assert isinstance(other, BlockFormat)
    block = min(one.block, other.block, depth)
    wide = sum(_fixed_bits(fmt.element) for fmt in (one, other)) + math.ceil(math.log2(block))
    acc = arithmetic.acc
    register = ops.add(Float(8, 24)) if acc is None else _register(ops, acc)
    scale = one.scale if isinstance(one, ScaledBlock) else E4M3 if isinstance(one, NVFP4) else None
    if scale is not None and scale.mantissa:
        factor = Float(scale.exponent, scale.mantissa + 1)
        scales = ops.multiply(factor, factor)
    else:  # powers of two
        scales = ops.add(Integer(max(one.scale_bits, other.scale_bits)))
    return [
        Sum((block - 1) / block, ops.add(Integer(wide))),
        Sum(1 / block, register),
        Sum(1 / block, scales),
    ]


def _fixed_bits(element: ElementFormat) -> int:
    """Bits in which every value of the format is a whole multiple of the smallest.

    >>> from dovetail.formats import format
    >>> _fixed_bits(format("fp4_e2m1fn")), _fixed_bits(format("fixed(8, 4)"))
    (5, 8)
    """
    if isinstance(element, FixedFormat):
        return element.bits
    return math.ceil(math.log2(element.max / element.smallest_subnormal + 1)) + 1
