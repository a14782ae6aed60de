"""Every finite value of a format, listed."""

from __future__ import annotations

from dovetail.errors import DovetailError
from dovetail.formats.base import ElementFormat
from dovetail.formats.codebook import CodebookFormat, book_of
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat

__all__ = ["values_of"]


def values_of(fmt: ElementFormat) -> list[float]:
    """The finite values of a format of up to 16 bits in ascending order, -0 left out.

    >>> from dovetail.formats.names.known import FLOATS
    >>> values_of(FLOATS["fp4_e2m1fn"])[7:]
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    """
    if fmt.bits > 16:
        raise DovetailError(f"'{fmt}' has 2**{fmt.bits} values; 16 bits is what can be listed")
    if isinstance(fmt, FixedFormat):
        return [code * 2.0**fmt.quantum for code in range(fmt.lowest, fmt.highest + 1)]
    if isinstance(fmt, FloatFormat):
        skipped = 0 if fmt.subnormals else (1 << fmt.mantissa)
        values = [v for c, v in enumerate(fmt.magnitudes()) if c == 0 or c >= skipped]
        mirrored = fmt.signed
    else:
        assert isinstance(fmt, CodebookFormat)
        values, mirrored = list(book_of(fmt).values), fmt.mirrored and fmt.signed
    return ([-v for v in reversed(values) if v] if mirrored else []) + values
