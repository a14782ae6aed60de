"""What the native core reads of a multiplier of wide operands: tables of words by operand code.

A multiplier with exact factors becomes segments, products of two 16-bit numbers times a power of
two; wider factors are split into digits. The logarithmic families and ETM have none: theirs are
words that a law of arithmetic combines, as ``native/dovetail_wide.h`` describes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dovetail.kernels.realisation import Operands
from dovetail.multipliers import Multiplier
from dovetail.multipliers.error_tolerant import ETM
from dovetail.multipliers.factorisation import mask_factors
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.families import Mitchell
from dovetail.multipliers.logarithms import ALM, MBM
from dovetail.multipliers.magnitudes import leading_one
from dovetail.multipliers.operands import IntArray, operand_values
from dovetail.multipliers.partial_products import PartialProducts
from dovetail.multipliers.sign_magnitude import SignMagnitude

__all__ = ["ERROR_TOLERANT", "FACTORS", "LOG", "LOG_MEAN", "LOG_OR", "Words", "words_of"]

FACTORS, LOG, LOG_OR, LOG_MEAN, ERROR_TOLERANT = range(5)
MOST_BITS = 16
MOST_SEGMENTS = 64
#: Products of two factors stay below this, so that those of 32 pairs fit 32 bits.
_PEAK = 1 << 25
_FRACTION, _BIAS, _FAR = 23, 127, 40  # of float32, and how far below one a zero operand lies


@dataclass(frozen=True, eq=False)
class Words:
    """Tables ``[2**bits, words]`` of either operand, and how their words are combined."""

    law: int
    bits: tuple[int, int]
    first: npt.NDArray[np.generic]
    second: npt.NDArray[np.generic]
    segments: tuple[tuple[int, int, int], ...] = ()  # (first word, second word, shift)
    constant: IntArray | None = None
    low: int = 0
    signed: bool = True
    most: int = 0


class _Term(NamedTuple):
    first: IntArray
    second: IntArray
    shift: int


@lru_cache(maxsize=64)
def words_of(mul: Multiplier, operands: Operands) -> Words | None:
    """The tables for ``mul`` on these operands, or ``None`` where there are none.

    >>> from dovetail.multipliers import multiplier
    >>> wide = Operands((-32767, 32767), (-32767, 32767))
    >>> words_of(multiplier("exact"), wide).segments
    ((0, 0, 0), (0, 1, 11))
    >>> words_of(multiplier("mitchell(bits=16)"), wide).law == LOG
    True
    """
    ranges = (operands.first, operands.second)
    bits = mul.bits or (_width(*ranges[0]), _width(*ranges[1]))
    if max(bits) > MOST_BITS:
        return None
    law = _by_law(mul)
    if law is not None:
        return law
    if mul.bits is None:
        values = [operand_values(n, low < 0) for n, (low, _) in zip(bits, ranges, strict=True)]
        terms = [_Term(values[0], values[1], 0)]
    else:
        factors = mul.factors()
        if factors is None:
            return None
        terms = _terms(factors)
    used = [_used(n, *codes) for n, codes in zip(bits, ranges, strict=True)]
    found = _segmented(terms, bits, used, operands.second[0] < 0)
    if isinstance(mul, PartialProducts):
        # What a mask leaves out are low bits as a rule, so small numbers: one segment a term.
        left_out = (1 << bits[0] * bits[1]) - 1 ^ mul.mask
        terms = _terms(mask_factors(left_out, bits, mul.signed), -1)
        values = [operand_values(n, mul.signed) for n in bits]
        terms.append(_Term(values[0], values[1], 0))
        other = _segmented(terms, bits, used, operands.second[0] < 0)
        found = min(filter(None, (found, other)), key=lambda w: len(w.segments), default=None)
    return found


def _terms(factors: Factors, sign: int = 1) -> list[_Term]:
    return [_Term(sign * g, h, 0) for g, h in zip(factors.first, factors.second, strict=True)]


def _width(low: int, high: int) -> int:
    """Bits of a code that lies in this range."""
    return max(1, max(high, -low - 1).bit_length() + (low < 0))


def _used(bits: int, low: int, high: int) -> npt.NDArray[np.bool_]:
    """Which codes occur."""
    used = np.zeros(1 << bits, dtype=bool)
    used[np.arange(low, high + 1) & ((1 << bits) - 1)] = True
    return used


# Factors ------------------------------------------------------------------------------------------


def _segmented(
    terms: list[_Term],
    bits: tuple[int, int],
    used_codes: list[npt.NDArray[np.bool_]],
    signed: bool,
) -> Words | None:
    """Terms as products of 16-bit numbers. A first factor that only lies off centre is moved; what
    that takes from every product depends on the second operand alone: the ``constant``."""
    constant = np.zeros(1 << bits[1], dtype=np.int64)
    used = used_codes[0]
    narrow: list[_Term] = []
    for g, h, shift in terms:
        term = _Term(np.where(used, g, 0), np.where(used_codes[1], h, 0), shift)
        low, high = int(g[used].min()), int(g[used].max())
        centre = 0 if low >= -(1 << 15) and high < 1 << 15 else (low + high + 1) // 2
        if high - low < 1 << 16:
            narrow.append(_Term(np.where(used, term.first - centre, 0), term.second, term.shift))
            constant += (centre * term.second) << term.shift
        else:
            narrow += _digits(term.first, term.second, term.shift, 15)
    first: list[IntArray] = []
    second: list[IntArray] = []
    segments: list[tuple[int, int, int]] = []
    for g, h, shift in narrow:
        peak = int(np.abs(g).max())
        if peak == 0:
            continue
        if int(np.abs(h).max()) * peak < _PEAK and int(np.abs(h).max()) < 1 << 15:
            parts = [_Term(h, h, 0)]
        else:
            width = min(15, ((_PEAK - 1) // peak).bit_length())
            parts = _digits(h, h, 0, width)
        for part in parts:
            segments.append((len(first), len(second), shift + part.shift))
            second.append(part.first)
        first.append(g)
    if not segments:  # always zero
        first, second, segments = [np.zeros_like(used)], [np.zeros_like(constant)], [(0, 0, 0)]
    if len(segments) > MOST_SEGMENTS or max(shift for _, _, shift in segments) > 62:
        return None
    return Words(
        FACTORS,
        bits,
        np.ascontiguousarray(np.stack(first, axis=1), dtype=np.int16),
        np.ascontiguousarray(np.stack(second, axis=1), dtype=np.int16),
        tuple(sorted(segments, key=lambda segment: segment[2])),
        constant if constant.any() else None,
        signed=signed,
    )


def _digits(value: IntArray, other: IntArray, shift: int, width: int) -> list[_Term]:
    """``value`` as digits of ``width`` bits, balanced around zero, lowest first."""
    half, parts = 1 << width - 1, []
    while value.any():
        digit = ((value + half) & (2 * half - 1)) - half
        parts.append(_Term(digit, other, shift))
        value, shift = (value - digit) >> width, shift + width
    return parts


# Laws ---------------------------------------------------------------------------------------------


def _by_law(mul: Multiplier) -> Words | None:
    """The tables of a family that has a law; sums in the core hold products of 32 bits at most."""
    core = mul.core if isinstance(mul, SignMagnitude) else mul
    if not isinstance(core, (Mitchell, MBM, ALM, ETM)):
        return None
    assert mul.bits is not None
    most = replace(core, signed=mul.signed).max_abs
    if most >= 1 << (31 if mul.signed else 32):
        return None
    values = [operand_values(bits, mul.signed) for bits in mul.bits]
    if isinstance(core, ETM):
        words = [(side < 0) * (1 << 31) + np.abs(side) for side in values]
        law, low = ERROR_TOLERANT, core.split
    else:
        words = [_logarithms(values[0], _BIAS), _logarithms(values[1], 0)]
        law, low = LOG_MEAN if isinstance(core, MBM) else LOG, 0
    if isinstance(core, ALM):
        unit = 1 << _FRACTION - (max(core.bits) - 1)  # the last bit of the family's logarithms
        low = ((1 << core.m) - 1) * unit
        if core.adder == "loa":
            law = LOG_OR
        elif core.m:  # the highest of the bits left out still carries
            words = [side & ~(low >> 1 & ~(unit - 1)) for side in words]
    first, second = (np.ascontiguousarray(side & 0xFFFFFFFF, dtype=np.uint32) for side in words)
    return Words(law, mul.bits, first, second, (), None, low, mul.signed, most)


def _logarithms(values: IntArray, bias: int) -> IntArray:
    """Sign, leading one plus ``bias`` and fraction, laid out as in a float32."""
    magnitude = np.abs(values)
    place = leading_one(magnitude)
    fraction = (magnitude - (np.int64(1) << place)) << (_FRACTION - place)
    words = ((place + bias) << _FRACTION) + fraction
    zero = np.int64(bias - _FAR) << _FRACTION
    return np.where(magnitude == 0, zero, words) + (values < 0) * (np.int64(1) << 31)
