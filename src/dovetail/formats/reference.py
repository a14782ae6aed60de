"""What a cast means: exact arithmetic on Python numbers, one value after another.

Everything faster is tested equal to this, bit for bit. An element format gives the two of its
values next to ``x`` (with the exponent range unbounded upwards), one function chooses between them
by the rounding mode, and saturation comes last, as in IEEE P3109. Block formats divide by their
scale, round as their element, and multiply again.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dovetail.formats.base import BlockFormat, ElementFormat, Format, Same
from dovetail.formats.block import PowerScaled
from dovetail.formats.codebook import CodebookFormat, book_of
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.rounding import Rounding
from dovetail.formats.scaled import E4M3, NVFP4, ScaledBlock

__all__ = ["philox", "round_value", "round_values", "shared_exponent"]


class Neighbours(NamedTuple):
    """``low <= x < high`` next to each other; where x lies relative to the boundary between them.

    ``side`` is -1, 0 (a tie) or 1; ``odd`` the parity of low's code; ``away`` whether
    high is the one farther from zero; ``share`` how far x is on the way from the other one to it.
    """

    low: Fraction
    high: Fraction
    side: int
    odd: bool
    share: Fraction
    away: bool = True


def round_value(x: float | Fraction, fmt: ElementFormat, random: int = 0) -> float:
    """One value, rounded. ``random`` is the word of 32 random bits of stochastic rounding.

    >>> round_value(464.0, FloatFormat(4, 3, specials="fn")), round_value(0.3, FixedFormat(8, 1))
    (448.0, 0.5)
    """
    if isinstance(x, float) and math.isnan(x):
        return math.nan
    if isinstance(fmt, FloatFormat):
        return _round_float(x, fmt, random)
    if isinstance(fmt, FixedFormat):
        return _round_fixed(x, fmt, random)
    assert isinstance(fmt, CodebookFormat)
    return _round_by_book(x, fmt, random)


def _choose(x: Fraction, near: Neighbours, mode: Rounding, negative: bool, random: int) -> Fraction:
    """The neighbour that ``x`` becomes; ``negative`` is the sign of the value x stands for."""
    if x == near.low:
        return near.low
    name = mode.name
    if name == "NearestTiesToEven":
        up = near.side > 0 or (near.side == 0 and near.odd)
    elif name == "NearestTiesToAway":
        up = near.side > 0 or (near.side == 0 and near.away)
    elif name == "TowardZero":
        up = not near.away
    elif name == "TowardPositive":
        up = near.away != negative
    elif name == "TowardNegative":
        up = near.away == negative
    elif name == "ToOdd":
        up = not near.odd
    else:
        r = random >> (32 - mode.bits)
        one = 1 << (mode.bits + 1)
        up = (math.floor(near.share * one) + 2 * r + 1 >= one) == near.away
    return near.high if up else near.low


def _side(x: Fraction, boundary: Fraction) -> int:
    return (x > boundary) - (x < boundary)


def _on_grid(x: Fraction, step: Fraction) -> Neighbours:
    """The multiples of ``step`` around ``x >= 0``; the parity is the multiple's."""
    k = math.floor(x / step)
    low, high = k * step, (k + 1) * step
    return Neighbours(low, high, _side(x, (low + high) / 2), k % 2 == 1, x / step - k)


def _exponent(x: Fraction) -> int:
    """``floor(log2 x)`` of a positive x, exactly."""
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if Fraction(2) ** guess <= x else guess - 1


def _negative(x: float | Fraction) -> bool:
    return math.copysign(1.0, x) < 0 if isinstance(x, float) else x < 0


def _round_float(x: float | Fraction, fmt: FloatFormat, random: int) -> float:
    negative = _negative(x)
    if negative and not fmt.signed:
        if not fmt.magnitude:
            return fmt.min
        x, negative = -x, False
    sign = -1.0 if negative else 1.0
    if isinstance(x, float) and math.isinf(x):
        return sign * _overflow(fmt, negative, infinite=True)
    size = abs(Fraction(x))
    first = (1 if fmt.zero else 0) - fmt.offset
    if size < Fraction(2) ** first and not fmt.zero:
        return fmt.min
    if size == 0 or (size < Fraction(2) ** first and not fmt.subnormals):
        return sign * 0.0 if fmt.has_negative_zero else 0.0
    exponent = max(_exponent(size), first)
    near = _on_grid(size, Fraction(2) ** (exponent - fmt.mantissa))
    if fmt.mantissa == 0:  # the parity of a power of two is that of its exponent's code
        near = near._replace(odd=near.low > 0 and (exponent + fmt.offset) % 2 == 1)
    chosen = _choose(size, near, fmt.rounding, negative, random)
    over = chosen > Fraction(fmt.max)
    y = _overflow(fmt, negative, infinite=False) if over else float(chosen)
    return sign * y if y or fmt.has_negative_zero else 0.0


def _overflow(fmt: FloatFormat, negative: bool, infinite: bool) -> float:
    """The magnitude of what lies beyond the largest finite value."""
    if fmt.saturation == "SatFinite" or (fmt.saturation == "SatPropagate" and not infinite):
        return fmt.max
    inward = ("TowardZero", "ToOdd", "TowardPositive" if negative else "TowardNegative")
    if not infinite and fmt.rounding.name in inward:
        return fmt.max
    return math.inf if fmt.has_inf else math.nan if fmt.has_nan else fmt.max


def _round_fixed(x: float | Fraction, fmt: FixedFormat, random: int) -> float:
    if isinstance(x, float) and math.isinf(x):
        return (fmt.min if x < 0 else fmt.max) if fmt.clamp else x
    negative, size = _negative(x), abs(Fraction(x))
    near = _on_grid(size, Fraction(2) ** fmt.quantum)
    y = _choose(size, near, fmt.rounding, negative, random)
    y = -y if negative else y
    if fmt.clamp:
        y = max(Fraction(fmt.min), min(Fraction(fmt.max), y))
    return float(y)  # a Fraction's zero has no sign


def _round_by_book(x: float | Fraction, fmt: CodebookFormat, random: int) -> float:
    if isinstance(x, float) and math.isinf(x):
        return fmt.min if x < 0 else fmt.max
    book, exact = book_of(fmt), Fraction(x)
    if exact < Fraction(fmt.min):
        return fmt.min
    negative = exact < 0
    value = abs(exact) if fmt.mirrored else exact
    place = bisect_left(book.values, value)
    if place == len(book.values):
        y = book.values[-1]
    elif book.values[place] == value:
        y = book.values[place]
    else:
        i = place - 1
        low, high = book.values[i], book.values[i + 1]
        side = _side(value, Fraction(book.boundaries[i]))
        side = -1 if side == 0 and not book.exact[i] else side
        # The one thing that is not exact: the share is a quotient of float64 differences.
        away = fmt.mirrored or value >= 0
        share = (float(value) - low) / (high - low)
        share = share if away else 1 - share
        near = Neighbours(Fraction(low), Fraction(high), side, i % 2 == 1, Fraction(share), away)
        y = float(_choose(value, near, fmt.rounding, negative, random))
    return -y if negative and fmt.mirrored and y else y


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
    element = fmt.element
    if fmt.mode == "RCEIL":
        ratio = largest / Fraction(element.max)
        exponent = _exponent(ratio)
        exponent += Fraction(2) ** exponent < ratio
    else:
        if fmt.mode == "EVEN":
            assert isinstance(element, (FloatFormat, FixedFormat))
            step = Fraction(2) ** (_exponent(largest) - mantissa_bits(element))
            largest = math.floor(largest / step + Fraction(1, 2)) * step
        exponent = _exponent(largest)
        if fmt.mode == "CEIL":
            exponent += Fraction(2) ** exponent < largest
        exponent -= element.emax
    return max(lowest, min(highest, exponent))


def mantissa_bits(element: FloatFormat | FixedFormat) -> int:
    """Bits behind the leading one of the largest element."""
    if isinstance(element, FloatFormat):
        return element.mantissa
    return element.width - 2


def _round_block(
    block: list[float], fmt: BlockFormat, words: list[int], wide: type, g: float
) -> list[float]:
    if not all(math.isfinite(v) for v in block):
        return [math.nan] * len(block)
    largest = max((abs(v) for v in block), default=0.0)
    element = fmt.element
    if isinstance(fmt, PowerScaled):
        scale = Fraction(2) ** shared_exponent(Fraction(largest), fmt)
        parts = [
            round_value(math.copysign(0.0, v) if v == 0 else Fraction(v) / scale, element, r)
            for v, r in zip(block, words, strict=True)
        ]
        return [p if p == 0 else float(Fraction(p) * scale) for p in parts]
    with np.errstate(all="ignore"):
        if isinstance(fmt, ScaledBlock):
            ratio = wide(largest) / wide(element.max)
            step = wide(round_value(float(ratio), fmt.scale))
            if step == 0:
                return [0.0] * len(block)
            parts = [
                round_value(float(wide(v) / step), element, r)
                for v, r in zip(block, words, strict=True)
            ]
            return [float(wide(p) * step) for p in parts]
        single = np.float32
        largest = min(largest, _FLOAT32_MAX)
        ratio = single(largest) / single(6.0) / single(g)
        ratio = min(max(ratio, single(2.0**-6)), single(448.0))
        s = single(round_value(float(ratio), E4M3))
        back = wide(single(1.0) / single(g) / s)
        parts = [
            round_value(float(wide(v) * back), element, r)
            for v, r in zip(block, words, strict=True)
        ]
        return [float(wide(p) * wide(single(g) * s)) for p in parts]


def _tensor_scale(blocks: list[list[float]]) -> float:
    """NVFP4's scale of a whole tensor."""
    single = np.float32
    finite = [b for b in blocks if all(math.isfinite(v) for v in b)]
    largest = min(max((abs(v) for b in finite for v in b), default=0.0), _FLOAT32_MAX)
    if largest == 0:
        return 1.0
    return float(max(single(largest) / single(448.0 * 6.0), single(2.0**-120)))


_FLOAT32_MAX = float(np.finfo(np.float32).max)


def round_values(x: Tensor, fmt: Format, axis: int = -1, seed: int = 0) -> Tensor:
    """A tensor, rounded value by value (slow): the definition of ``dv.cast``.

    >>> from dovetail.formats import format
    >>> round_values(torch.tensor([1.0, 0.5, 7.0, -5.0]), format("mxfp4(block=4)"))
    tensor([ 1.0000,  0.5000,  6.0000, -4.0000])
    """
    if isinstance(fmt, Same) or x.numel() == 0:
        return x.clone()
    words = philox(x.numel(), seed)
    values = x.detach().double()
    if isinstance(fmt, ElementFormat):
        flat = [
            round_value(v, fmt, r) for v, r in zip(values.flatten().tolist(), words, strict=True)
        ]
        return torch.tensor(flat, dtype=torch.float64).to(_wide(x)).to(x.dtype).view(x.shape)
    assert isinstance(fmt, BlockFormat)
    axis = axis if fmt.axis is None else fmt.axis
    moved = values.movedim(axis, -1)
    noise = torch.tensor(words, dtype=torch.int64).view(x.shape).movedim(axis, -1)
    length = moved.shape[-1]
    runs = [slice(i, i + fmt.block) for i in range(0, length, fmt.block)]
    lists = (t.reshape(-1, length).tolist() for t in (moved, noise))
    rows = list(zip(*lists, strict=True))
    g = 1.0
    if isinstance(fmt, NVFP4):
        g = _tensor_scale([row[run] for row, _ in rows for run in runs])
    wide = np.float64 if x.dtype == torch.float64 else np.float32
    out = [
        [v for run in runs for v in _round_block(row[run], fmt, noise_row[run], wide, g)]
        for row, noise_row in rows
    ]
    top = torch.finfo(x.dtype).max
    y = torch.tensor(out, dtype=torch.float64).view(moved.shape).movedim(-1, axis)
    return y.clamp(-top, top).to(_wide(x)).to(x.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def philox(count: int, seed: int) -> list[int]:
    """Words 0..count-1 of Philox4x32-10 (Salmon et al., SC'11): word ``i`` is lane ``i & 3`` of
    counter ``i >> 2``, key ``seed``.

    >>> philox(5, 0)[0] == 0x6627E8D5, philox(5, 0)[3] == 0x9B00DBD8
    (True, True)
    """
    words: list[int] = []
    for counter in range((count + 3) // 4):
        c = [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
        k = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
        for _ in range(10):
            a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [
                (b >> 32) ^ c[1] ^ k[0],
                b & 0xFFFFFFFF,
                (a >> 32) ^ c[3] ^ k[1],
                a & 0xFFFFFFFF,
            ]
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        words += c
    return words[:count]
