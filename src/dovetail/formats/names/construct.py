"""What each name of a format takes, and what it makes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from dovetail.errors import DovetailError
from dovetail.formats.base import ElementFormat, Format, Same
from dovetail.formats.block import BlockFloat, MXFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat, p3109
from dovetail.formats.logarithmic import LogFormat
from dovetail.formats.names.known import FLOATS, MX
from dovetail.formats.posit import PositFormat
from dovetail.formats.rounding import NEAREST_EVEN, Rounding
from dovetail.formats.scaled import NVFP4, ScaledBlock
from dovetail.formats.tables import NF4, TableFormat

__all__ = ["CONSTRUCTORS", "EXAMPLES", "p3109_named"]

_P3109 = re.compile(r"binary(\d+)p(\d+)([su])([ef])")


def p3109_named(name: str) -> Callable[..., Format] | None:
    """The constructor of an IEEE P3109 name such as ``binary8p4se``; None for other names.

    >>> p3109_named("binary8p4se")().max
    224.0
    """
    match = _P3109.fullmatch(name)
    if match is None:
        return None
    return _named_float(p3109(int(match[1]), int(match[2]), match[3] == "s", match[4] == "e"))


def _named_float(base: FloatFormat) -> Callable[..., Format]:
    def make(rounding: Rounding = NEAREST_EVEN, saturation: str = base.saturation) -> Format:
        return replace(base, rounding=rounding, saturation=saturation)

    return make


def _named_mx(base: FloatFormat | FixedFormat) -> Callable[..., Format]:
    def make(
        block: int = 32,
        mode: str = "FLOOR",
        axis: int | None = None,
        rounding: Rounding = NEAREST_EVEN,
    ) -> Format:
        return MXFormat(replace(base, rounding=rounding), block, mode, axis)

    def make_int(
        block: int = 32,
        mode: str = "FLOOR",
        axis: int | None = None,
        rounding: Rounding = NEAREST_EVEN,
        symmetric: bool = True,
    ) -> Format:
        assert isinstance(base, FixedFormat)
        element = replace(base, rounding=rounding, symmetric=symmetric)
        return MXFormat(element, block, mode, axis)

    return make_int if isinstance(base, FixedFormat) else make


def _float(
    e: int,
    m: int,
    bias: int | None = None,
    specials: str = "ieee",
    signed: bool = True,
    subnormals: bool = True,
    zero: bool = True,
    magnitude: bool = False,
    rounding: Rounding = NEAREST_EVEN,
    saturation: str = "SatFinite",
) -> Format:
    return FloatFormat(
        e, m, bias, signed, specials, subnormals, zero, magnitude, rounding, saturation
    )


def _fixed(
    width: int,
    fraction: int = 0,
    signed: bool = True,
    symmetric: bool = False,
    clamp: bool = True,
    rounding: Rounding = NEAREST_EVEN,
) -> Format:
    return FixedFormat(width, fraction, signed, symmetric, clamp, rounding)


_QUANTISATION = {
    "TRN": "TowardNegative",
    "TRN_ZERO": "TowardZero",
    "RND_INF": "NearestTiesToAway",
    "RND_CONV": "NearestTiesToEven",
}
_AP_OVERFLOW = {"SAT": False, "SAT_SYM": True}


def _ap_fixed(
    width: int, integer: int, quantisation: str = "RND_CONV", overflow: str = "SAT"
) -> Format:
    """Vivado HLS's ``ap_fixed<W, I, Q, O>``, in the modes that have a meaning here."""
    if quantisation not in _QUANTISATION or overflow not in _AP_OVERFLOW:
        raise DovetailError(
            f"ap_fixed({width}, {integer}, {quantisation}, {overflow}): the modes that dovetail "
            f"has are {', '.join(_QUANTISATION)} and {', '.join(_AP_OVERFLOW)}"
        )
    rounding = Rounding(_QUANTISATION[quantisation])
    return FixedFormat(width, width - integer, symmetric=_AP_OVERFLOW[overflow], rounding=rounding)


def _bfp(
    m: int = 8,
    block: int = 64,
    symmetric: bool = True,
    axis: int | None = None,
    rounding: Rounding = NEAREST_EVEN,
) -> Format:
    return BlockFloat(m, block, symmetric, axis, rounding)


def _mx(
    element: ElementFormat, block: int = 32, mode: str = "FLOOR", axis: int | None = None
) -> Format:
    if not isinstance(element, (FloatFormat, FixedFormat)):
        raise DovetailError(f"mx({element}): an element is a float or fixed format")
    return MXFormat(element, block, mode, axis)


def _scaled(
    element: ElementFormat, scale: ElementFormat, block: int = 16, axis: int | None = None
) -> Format:
    if not isinstance(scale, FloatFormat):
        raise DovetailError(f"scaled({element}, {scale}): a scale is a float format such as 'fp16'")
    return ScaledBlock(element, replace(scale, saturation="SatFinite"), block, axis)


def _nf4(
    block: int | None = None, axis: int | None = None, rounding: Rounding = NEAREST_EVEN
) -> Format:
    values = TableFormat(NF4, rounding)
    if block is None:
        return values
    return ScaledBlock(values, FloatFormat(8, 23), block, axis)


def _nvfp4(block: int = 16, axis: int | None = None, rounding: Rounding = NEAREST_EVEN) -> Format:
    return NVFP4(block, axis, rounding)


def _posit(width: int, es: int = 2, rounding: Rounding = NEAREST_EVEN) -> Format:
    return PositFormat(width, es, rounding)


def _log(
    integer: int, fraction: int = 0, signed: bool = True, rounding: Rounding = NEAREST_EVEN
) -> Format:
    return LogFormat(integer, fraction, signed, rounding)


def _table(*values: float, rounding: Rounding = NEAREST_EVEN) -> Format:
    return TableFormat(values, rounding)


#: Every name that is written as ``name(arguments)``.
CONSTRUCTORS: dict[str, Callable[..., Format]] = {
    **{name: _named_float(base) for name, base in FLOATS.items()},
    "fp8_e4m3": _named_float(FLOATS["fp8_e4m3fn"]),
    **{name: _named_mx(base) for name, base in MX.items()},
    "mxfp4_e2m1": _named_mx(MX["mxfp4"]),
    "ap_fixed": _ap_fixed,
    "bfp": _bfp,
    "fixed": _fixed,
    "float": _float,
    "log": _log,
    "mx": _mx,
    "nf4": _nf4,
    "nvfp4": _nvfp4,
    "posit": _posit,
    "same": Same,
    "scaled": _scaled,
    "table": _table,
}

#: A complete example of each name that cannot stand alone.
EXAMPLES = {
    "ap_fixed": "ap_fixed(8, 4, RND_CONV, SAT)",
    "fixed": "fixed(8, 4)",
    "float": "float(e=4, m=3)",
    "log": "log(4, 3)",
    "mx": "mx(fp8_e3m4)",
    "posit": "posit(8, 1)",
    "shaped": "shaped(mxfp4, permute=(0, 2, 1))",
    "scaled": "scaled(fixed(4, 0, symmetric), fp8_e4m3fn)",
    "table": "table(-1.0, 0.0, 1.0)",
}
