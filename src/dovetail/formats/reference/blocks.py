"""What a cast of one block means: divided by its scale, rounded element by element, multiplied."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from dovetail.formats.base import BlockFormat
from dovetail.formats.block import PowerScaled
from dovetail.formats.reference.elements import floor_log2, round_value, two_to
from dovetail.formats.scaled import E4M3, ScaledBlock

__all__ = ["block_parts", "round_block", "shared_exponent", "tensor_scale"]


def shared_exponent(largest: Fraction, fmt: PowerScaled) -> int:
    """The exponent of a block's scale, from the largest magnitude in it.

    >>> from dovetail.formats import format
    >>> shared_exponent(Fraction(7), format("mxfp4")), shared_exponent(
    ...     Fraction(7), format("mxfp4(mode=RCEIL)")
    ... )
    (0, 1)
    """
    lowest, highest = fmt.exponents
    if largest == 0:
        return lowest
    if fmt.mode == "RCEIL":
        ratio = largest / Fraction(fmt.element.max)
        exponent = floor_log2(ratio)
        exponent += two_to(exponent) < ratio
    else:
        if fmt.mode == "EVEN":
            step = two_to(floor_log2(largest) - fmt.mantissa_bits)
            largest = math.floor(largest / step + Fraction(1, 2)) * step
        exponent = floor_log2(largest)
        if fmt.mode == "CEIL":
            exponent += two_to(exponent) < largest
        exponent -= fmt.element.emax
    return max(lowest, min(highest, exponent))


def round_block(
    block: list[float], fmt: BlockFormat, words: list[int], wide: type, g: float
) -> list[float]:
    """One block. ``wide`` is the NumPy type of real scales' arithmetic, ``g`` NVFP4's tensor scale.

    >>> from dovetail.formats import format
    >>> round_block([1.0, 7.0], format("mxfp4"), [0, 0], np.float32, 1.0)
    [1.0, 6.0]
    """
    if not all(math.isfinite(v) for v in block):
        return [math.nan] * len(block)
    largest = max((abs(v) for v in block), default=0.0)
    if isinstance(fmt, PowerScaled):
        return _by_power(block, fmt, words, largest)
    with np.errstate(all="ignore"):
        parts, s = _by_number(block, fmt, words, wide, g, largest)
        step = wide(s) if isinstance(fmt, ScaledBlock) else wide(np.float32(g) * np.float32(s))
        return [float(wide(p) * step) if step else 0.0 for p in parts]


def block_parts(
    block: list[float], fmt: BlockFormat, wide: type, g: float
) -> tuple[list[float], Fraction]:
    """The rounded elements of a block of finite values, and its scale, NVFP4's ``g`` left out.

    >>> from dovetail.formats import format
    >>> block_parts([1.0, 7.0], format("mxfp4"), np.float32, 1.0)
    ([1.0, 6.0], Fraction(1, 1))
    """
    largest, words = max((abs(v) for v in block), default=0.0), [0] * len(block)
    if isinstance(fmt, PowerScaled):
        scale = two_to(shared_exponent(Fraction(largest), fmt))
        return _elements(block, fmt, words, scale), scale
    with np.errstate(all="ignore"):
        parts, s = _by_number(block, fmt, words, wide, g, largest)
    return parts, Fraction(s)


def _by_power(
    block: list[float], fmt: PowerScaled, words: list[int], largest: float
) -> list[float]:
    scale = two_to(shared_exponent(Fraction(largest), fmt))
    parts = _elements(block, fmt, words, scale)
    return [p if p == 0 else float(Fraction(p) * scale) for p in parts]


def _elements(
    block: list[float], fmt: PowerScaled, words: list[int], scale: Fraction
) -> list[float]:
    return [
        round_value(math.copysign(0.0, v) if v == 0 else Fraction(v) / scale, fmt.element, r)
        for v, r in zip(block, words, strict=True)
    ]


def _by_number(
    block: list[float], fmt: BlockFormat, words: list[int], wide: Any, g: float, largest: float
) -> tuple[list[float], float]:
    """Elements, and the block's own scale: zeros where that is zero."""
    if isinstance(fmt, ScaledBlock):
        ratio = wide(largest) / wide(fmt.element.max)
        step = wide(round_value(float(ratio), fmt.scale))
        if step == 0:
            return [0.0] * len(block), 0.0
        s, ratios = float(step), [wide(v) / step for v in block]
    else:
        single = np.float32
        largest = min(largest, _FLOAT32_MAX)
        ratio = single(largest) / single(6.0) / single(g)
        ratio = min(max(ratio, single(2.0**-6)), single(448.0))
        s = round_value(float(ratio), E4M3)
        back = wide(single(1.0) / single(g) / single(s))
        ratios = [wide(v) * back for v in block]
    return [round_value(float(v), fmt.element, r) for v, r in zip(ratios, words, strict=True)], s


def tensor_scale(blocks: list[list[float]]) -> float:
    """NVFP4's scale of a whole tensor, from its blocks.

    >>> tensor_scale([[2688.0, 1.0], [math.nan, 1e6]])
    1.0
    """
    single = np.float32
    finite = [b for b in blocks if all(math.isfinite(v) for v in b)]
    largest = min(max((abs(v) for b in finite for v in b), default=0.0), _FLOAT32_MAX)
    if largest == 0:
        return 1.0
    return float(max(single(largest) / single(448.0 * 6.0), single(2.0**-120)))


_FLOAT32_MAX = float(np.finfo(np.float32).max)
