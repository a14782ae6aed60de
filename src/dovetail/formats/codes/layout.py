"""Which bits stand for which value: the code layouts of element formats.

    float     sign, exponent, mantissa, from the top (IEEE 754, OCP OFP8 and MX, IEEE P3109)
    fixed     two's complement, or plain binary where unsigned
    posit     Posit Standard (2022): two's complement of the magnitude's pattern, NaR = 100...0
    log       sign bit above the two's-complement logarithm, whose lowest code means zero
    table     the place in the ascending list

NaN is written as the positive quiet NaN with an otherwise empty payload; every NaN pattern is read.
A pattern that a format leaves out is read as what the layout says (the lowest two's-complement code
of a symmetric format is one step below the format's smallest value), except that a place beyond the
end of a table is refused.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import ElementFormat
from dovetail.formats.bits import power_of_two
from dovetail.formats.codebook import CodebookFormat, book_of
from dovetail.formats.codes.packing import code_dtype
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.logarithmic import LogFormat
from dovetail.formats.posit import PositFormat
from dovetail.formats.tables import TableFormat

__all__ = ["fits_float32", "from_codes", "inf_code", "nan_code", "narrowed", "to_codes"]

_F = 52  # fraction bits of float64, in which all of this is computed
_TABLED = 16  # codes of up to so many bits are read by a table


def fits_float32(fmt: ElementFormat) -> bool:
    """Whether float32 holds every value of ``fmt``.

    >>> fits_float32(FloatFormat(4, 3)), fits_float32(FixedFormat(32))
    (True, False)
    """
    if isinstance(fmt, FloatFormat):
        return fmt.mantissa <= 23 and fmt.quantum >= -149 and fmt.emax <= 127
    if isinstance(fmt, FixedFormat):
        return fmt.width <= 24 and fmt.quantum >= -149 and fmt.emax <= 127
    return isinstance(fmt, CodebookFormat)


def to_codes(values: Tensor, fmt: ElementFormat) -> Tensor:
    """The codes of ``values``, each of which is one of ``fmt``'s; in `code_dtype`, same shape.

    NaN must have a code (:func:`nan_code`); what is not one of the format's values has none.

    >>> to_codes(torch.tensor([1.0, -448.0, torch.nan]), FloatFormat(4, 3, specials="fn"))
    tensor([ 56, 254, 127], dtype=torch.uint8)
    >>> to_codes(torch.tensor([-0.5]), FixedFormat(8, 4)), to_codes(torch.tensor([-1.0]),
    ...     PositFormat(8))
    (tensor([248], dtype=torch.uint8), tensor([192], dtype=torch.uint8))
    """
    table = _half_table(fmt, str(values.device))
    if table is not None:
        # Times one: a NaN becomes quiet, so that its upper half shows that it is one.
        upper = (values.float().reshape(-1) * 1.0).view(torch.int32) >> 16
        return table.index_select(0, upper.bitwise_and_(0xFFFF)).view(values.shape)
    return _write(values.double(), fmt).to(code_dtype(fmt.bits))


def from_codes(codes: Tensor, fmt: ElementFormat, dtype: torch.dtype = torch.float64) -> Tensor:
    """The values that ``codes`` (as :func:`to_codes` gives them) stand for, rounded to ``dtype``.

    float16 and bfloat16 get float64's value rounded to float32 first, as casts do.

    >>> from_codes(torch.tensor([56, 254, 127], dtype=torch.uint8),
    ...     FloatFormat(4, 3, specials="fn"))
    tensor([   1., -448.,   nan], dtype=torch.float64)
    """
    if isinstance(fmt, TableFormat) and len(fmt.values) < 1 << fmt.bits and codes.numel():
        last = int(codes.max())
        if last >= len(fmt.values):
            raise DovetailError(
                f"code {last} has no value in '{fmt}', which ends at code {len(fmt.values) - 1}: "
                "these codes are damaged or of another format"
            )
    if fmt.bits > _TABLED:
        return narrowed(_read(codes.to(torch.int64), fmt), dtype)
    table = _table(fmt, dtype, str(codes.device))
    return table.index_select(0, codes.reshape(-1).to(torch.int32)).view(codes.shape)


def nan_code(fmt: ElementFormat) -> int | None:
    """The code that NaN is written as; None where the format has none.

    >>> nan_code(FloatFormat(5, 2)), nan_code(FloatFormat(2, 1, specials="finite"))
    (126, None)
    """
    if isinstance(fmt, PositFormat):
        return 1 << (fmt.width - 1)
    if not isinstance(fmt, FloatFormat) or not fmt.has_nan:
        return None
    top = (1 << (fmt.exponent + fmt.mantissa)) - 1
    if fmt.specials == "ieee":
        return top - (1 << (fmt.mantissa - 1)) + 1
    return top if fmt.specials == "fn" or not fmt.signed else top + 1


def inf_code(fmt: FloatFormat) -> int:
    """The code of +infinity in a format that has one.

    >>> inf_code(FloatFormat(5, 2)), inf_code(FloatFormat(4, 3, specials="extended"))
    (124, 127)
    """
    top = (1 << (fmt.exponent + fmt.mantissa)) - 1
    if fmt.specials == "ieee":
        return top - (1 << fmt.mantissa) + 1
    return top if fmt.signed else top - 1


def narrowed(wide: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 values in a tensor's dtype, through float32 where that is narrower still."""
    return wide if dtype == torch.float64 else wide.to(torch.float32).to(dtype)


def _scaled(x: Tensor, exponent: int) -> Tensor:
    """``x * 2**exponent`` in float64; in two steps, neither of which leaves the range of powers."""
    half = exponent // 2
    return x * 2.0**half * 2.0 ** (exponent - half)


def _write(wide: Tensor, fmt: ElementFormat) -> Tensor:
    """int64 codes of float64 values."""
    if isinstance(fmt, FloatFormat):
        return _float_to_codes(wide, fmt)
    if isinstance(fmt, FixedFormat):
        return _scaled(wide, -fmt.quantum).to(torch.int64) & ((1 << fmt.width) - 1)
    return _book_to_codes(wide, fmt)


def _float_to_codes(wide: Tensor, fmt: FloatFormat) -> Tensor:
    m, e = fmt.mantissa, fmt.exponent
    size, first = wide.abs(), fmt.quantum + m
    if first < -1022:  # normal in the format, subnormal in float64
        fraction, exponent = torch.frexp(size)
        codes = _scaled(fraction, m + 1).to(torch.int64) + (
            (exponent.to(torch.int64) - 2 + fmt.offset) << m
        )
    else:
        codes = (size.view(torch.int64) >> (_F - m)) - ((1023 - fmt.offset) << m)
    if fmt.zero:
        steps = _scaled(size.clamp(max=2.0**first), -fmt.quantum).to(torch.int64)
        codes = torch.where(size < 2.0**first, steps, codes)
    if fmt.has_inf:
        codes = torch.where(size == math.inf, inf_code(fmt), codes)
    if fmt.signed:
        negative = wide.view(torch.int64) < 0
        codes = codes | (negative.to(torch.int64) << (e + m))
    nan = nan_code(fmt)
    return codes if nan is None else torch.where(wide.isnan(), nan, codes)


def _book_to_codes(wide: Tensor, fmt: ElementFormat) -> Tensor:
    values = _magnitudes(fmt, str(wide.device))
    if isinstance(fmt, TableFormat):
        return torch.searchsorted(values, wide)
    place, negative = torch.searchsorted(values, wide.abs()), wide < 0
    if isinstance(fmt, PositFormat):
        pattern = torch.where(negative, (1 << fmt.width) - place, place)
        return torch.where(wide.isnan(), 1 << (fmt.width - 1), pattern)
    if isinstance(fmt, LogFormat):
        width = fmt.integer + fmt.fraction
        logarithm = (place - (1 << (width - 1))) & ((1 << width) - 1)
        return logarithm | (negative.to(torch.int64) << width)
    raise DovetailError(f"'{fmt}' has no code layout; the nearest format with one is a table(...)")


def _read(codes: Tensor, fmt: ElementFormat) -> Tensor:
    """float64 values of int64 codes."""
    if isinstance(fmt, FloatFormat):
        return _read_float(codes, fmt)
    if isinstance(fmt, FixedFormat):
        sign = fmt.signed << (fmt.width - 1)
        return _scaled(((codes ^ sign) - sign).double(), fmt.quantum)
    values = _magnitudes(fmt, str(codes.device))
    if isinstance(fmt, TableFormat):
        return values[codes.clamp(max=len(fmt.values) - 1)]
    if isinstance(fmt, PositFormat):
        negative = codes >= 1 << (fmt.width - 1)
        place = torch.where(negative, (1 << fmt.width) - codes, codes)
        place, unreal = place & ((1 << (fmt.width - 1)) - 1), place == 1 << (fmt.width - 1)
        size = values[place]
        return torch.where(unreal, math.nan, torch.where(negative, -size, size))
    assert isinstance(fmt, LogFormat)
    width = fmt.integer + fmt.fraction
    place = (codes & ((1 << width) - 1)) ^ (1 << (width - 1))
    size = values[place]
    return torch.where((codes >> width) > 0, -size, size) + 0.0  # -0 + 0 is +0


def _read_float(codes: Tensor, fmt: FloatFormat) -> Tensor:
    m, e = fmt.mantissa, fmt.exponent
    size = codes & ((1 << (e + m)) - 1)
    exponent, fraction = size >> m, size & ((1 << m) - 1)
    # 2**exponent as a product of two powers that float64 holds as normal numbers
    power = exponent - fmt.offset - m
    half = power >> 1
    values = (fraction + (1 << m)).double() * power_of_two(half) * power_of_two(power - half)
    if fmt.zero:
        values = torch.where(exponent == 0, _scaled(fraction.double(), fmt.quantum), values)
    if fmt.has_inf:
        values = torch.where(size == inf_code(fmt), math.inf, values)
    negative = (codes >> (e + m)) & 1 > 0
    if fmt.signed:
        values = torch.where(negative, -values, values)
    if fmt.has_nan:
        values = torch.where(_is_nan(size, negative, fmt), math.nan, values)
    return values


def _is_nan(size: Tensor, negative: Tensor, fmt: FloatFormat) -> Tensor:
    if fmt.specials == "ieee":
        return size > inf_code(fmt)
    if fmt.specials == "fn" or not fmt.signed:
        return size == (1 << (fmt.exponent + fmt.mantissa)) - 1
    return negative & (size == 0)


@lru_cache(maxsize=256)
def _table(fmt: ElementFormat, dtype: torch.dtype, device: str) -> Tensor:
    """The value of every code of a narrow format."""
    codes = torch.arange(1 << fmt.bits, dtype=torch.int64, device=device)
    return narrowed(_read(codes, fmt), dtype)


@lru_cache(maxsize=256)
def _half_table(fmt: ElementFormat, device: str) -> Tensor | None:
    """The code of the value with each upper half of float32's pattern, if that half says it all."""
    if fmt.bits > _TABLED or not fits_float32(fmt):
        return None
    values = _table(fmt, torch.float32, device)
    values = values[~values.isnan()]
    if bool((values.view(torch.int32) & 0xFFFF).any()):
        return None
    table = torch.zeros(1 << 16, dtype=code_dtype(fmt.bits), device=device)
    table[(values.view(torch.int32) >> 16).to(torch.int64) & 0xFFFF] = _write(
        values.double(), fmt
    ).to(table.dtype)
    nan = nan_code(fmt)
    if nan is not None:
        upper = torch.arange(1 << 16, device=device) & 0x7FFF
        table[upper > 0x7F80] = nan
    return table


@lru_cache(maxsize=64)
def _magnitudes(fmt: ElementFormat, device: str) -> Tensor:
    """A code book's list."""
    if not isinstance(fmt, (TableFormat, PositFormat, LogFormat)):
        raise DovetailError(
            f"'{fmt}' has no code layout; the nearest format that has one is 'table(...)'"
        )
    return torch.tensor(book_of(fmt).values, dtype=torch.float64, device=device)
