"""Writing the d-Matrix shorthand: what the reader makes the same format of again."""

from __future__ import annotations

from dovetail.errors import DovetailError
from dovetail.formats.base import Format, Same
from dovetail.formats.block import BlockFloat, MXFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.integer import IntFormat
from dovetail.formats.rounding import Rounding
from dovetail.formats.scaled import ScaledBlock
from dovetail.formats.shorthand.aliases import ROUNDING
from dovetail.formats.shorthand.read import parse_shorthand

__all__ = ["to_shorthand"]


def to_shorthand(fmt: str | Format) -> str:
    """The d-Matrix spelling of a format, of which :func:`dovetail.format` makes an equal one.

    In today's grammar, with ``{k,d}`` where the format fixes an axis. A format that the grammar
    cannot express, exactly as it is, is refused with the nearest one that it can.

    >>> to_shorthand("bfp(m=8, block=64)"), to_shorthand("fixed(8, 4, symmetric)")
    ('BFP[8|8]{64}(SN)', 'XP[8,+4](CSN)')
    >>> to_shorthand("mxfp4"), to_shorthand("SBFP12_16")
    ('MXFP4[E2M1]{32}', 'SBFP<XP[4,+0](CSN)><FP[0|4|4,7](FN)>{16}')
    >>> to_shorthand("fp8_e4m3")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: 'fp8_e4m3fn' has no d-Matrix spelling; the nearest is ...
    """
    from dovetail.formats.registry import format as to_format

    exact = to_format(fmt)
    near = _nearest(exact)
    if near is None:
        raise DovetailError(
            f"'{exact}' has no d-Matrix spelling: that grammar has fixed, floating, block floating "
            "and scaled block floating point, and MX with the scale mode FLOOR"
        )
    read = parse_shorthand(near)
    if read != exact:
        raise DovetailError(
            f"'{exact}' has no d-Matrix spelling; the nearest is '{near}', which is '{read}'"
        )
    return near


def _nearest(fmt: Format) -> str | None:
    """The spelling that comes closest; right if the reader says so."""
    if isinstance(fmt, Same):
        return "SAME"
    if isinstance(fmt, FixedFormat):
        return _fixed(fmt)
    if isinstance(fmt, IntFormat):
        symmetric = not fmt.full and not fmt.affine
        return _fixed(FixedFormat(fmt.bits, symmetric=symmetric, rounding=fmt.rounding))
    if isinstance(fmt, FloatFormat):
        return _floating(fmt)
    if isinstance(fmt, BlockFloat):
        flags = ("S" if fmt.symmetric else "_") + _letter(fmt.rounding)
        return f"BFP[{fmt.mantissa}|8]{_tensor(fmt.block, fmt.axis)}({flags})"
    if isinstance(fmt, MXFormat):
        return _mx(fmt.elements) + _tensor(fmt.block, fmt.axis)
    if isinstance(fmt, ScaledBlock) and isinstance(fmt.elements, FixedFormat):
        whole = FixedFormat(fmt.elements.width, symmetric=True, rounding=fmt.elements.rounding)
        tensor = _tensor(fmt.block, fmt.axis)
        return f"SBFP<{_fixed(whole)}><{_floating(fmt.scale)}>{tensor}"
    return None


def _fixed(fmt: FixedFormat) -> str:
    flags = ("C" if fmt.clamp else "_") + ("S" if fmt.symmetric else "_") + _letter(fmt.rounding)
    return f"XP[{min(fmt.width, 24)},{fmt.fraction:+d}]({flags})"


def _floating(fmt: FloatFormat) -> str:
    exponent, mantissa = min(fmt.exponent, 8), min(fmt.mantissa, 23)
    low = 127 if exponent == 8 else (1 << exponent) - 128
    bias = min(max(fmt.offset, low), 127)
    flags = ("_" if fmt.subnormals else "F") + _letter(fmt.rounding)
    return f"FP[{int(fmt.signed)}|{exponent}|{mantissa},{bias}]({flags})"


def _mx(element: FloatFormat | FixedFormat) -> str:
    if isinstance(element, FixedFormat):
        return f"MXINT{min(max(element.width, 2), 24)}"
    exponent = min(max(element.exponent, 2 - element.mantissa), 8)
    mantissa = min(element.mantissa, 10, 15 - exponent)
    return f"MXFP{1 + exponent + mantissa}[E{exponent}M{mantissa}]"


def _tensor(block: int, axis: int | None) -> str:
    return f"{{{block}}}" if axis is None else f"{{{block},{min(max(axis, -8), 7)}}}"


def _letter(rounding: Rounding) -> str:
    return next((letter for letter, mode in ROUNDING.items() if mode == rounding), "N")
