"""The names of formats: what each constructor takes, and the canonical spelling of each value."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dovetail._spelling import spell_call
from dovetail.errors import DovetailError
from dovetail.formats.base import ElementFormat, Format, Same
from dovetail.formats.block import BlockFloat, MXFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat, p3109
from dovetail.formats.logarithmic import LogFormat
from dovetail.formats.posit import PositFormat
from dovetail.formats.rounding import NEAREST_EVEN, Rounding
from dovetail.formats.scaled import NVFP4, ScaledBlock
from dovetail.formats.tables import NF4, TableFormat

__all__ = ["CONSTRUCTORS", "EXAMPLES", "FLOATS", "MX", "p3109_named"]

#: Floating-point formats with names of their own.
FLOATS = {
    "fp4_e2m1fn": FloatFormat(2, 1, specials="finite"),
    "fp6_e2m3fn": FloatFormat(2, 3, specials="finite"),
    "fp6_e3m2fn": FloatFormat(3, 2, specials="finite"),
    "fp8_e3m4": FloatFormat(3, 4),
    "fp8_e4m3fn": FloatFormat(4, 3, specials="fn"),
    "fp8_e5m2": FloatFormat(5, 2),
    "fp8_e4m3fnuz": FloatFormat(4, 3, bias=8, specials="fnuz"),
    "fp8_e5m2fnuz": FloatFormat(5, 2, bias=16, specials="fnuz"),
    "fp8_e4m3b11fnuz": FloatFormat(4, 3, bias=11, specials="fnuz"),
    "e8m0fnu": FloatFormat(8, 0, signed=False, specials="fn", zero=False),
    "fp16": FloatFormat(5, 10, saturation="SatNone"),
    "bf16": FloatFormat(8, 7, saturation="SatNone"),
    "tf32": FloatFormat(8, 10, saturation="SatNone"),
    "fp32": FloatFormat(8, 23, saturation="SatNone"),
}

#: The elements of the named OCP MX formats.
MX: dict[str, FloatFormat | FixedFormat] = {
    "mxfp8_e4m3": FLOATS["fp8_e4m3fn"],
    "mxfp8_e5m2": FLOATS["fp8_e5m2"],
    "mxfp6_e3m2": FLOATS["fp6_e3m2fn"],
    "mxfp6_e2m3": FLOATS["fp6_e2m3fn"],
    "mxfp4": FLOATS["fp4_e2m1fn"],
    "mxint8": FixedFormat(8, 6, symmetric=True),
    "mxint6": FixedFormat(6, 4, symmetric=True),
    "mxint4": FixedFormat(4, 2, symmetric=True),
}

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


def _spell(name: str, *args: Any, flags: dict[str, bool] | None = None, **given: Any) -> str:
    """The call, with the flags that are set as bare words and without what is None or default."""
    words = [flag for flag, on in (flags or {}).items() if on]
    rest = {key: value for key, value in given.items() if value is not None}
    if rest.get("rounding") == NEAREST_EVEN:
        del rest["rounding"]
    inner = [str(v) if isinstance(v, Format) else spell_call("", v)[1:-1] for v in args] + words
    inner += [f"{key}={value}" for key, value in rest.items()]
    return f"{name}({', '.join(inner)})" if inner else name


def _unless(default: Any, value: Any) -> Any:
    return None if value == default else value


def spell_float(fmt: FloatFormat) -> str:
    """``fp8_e4m3fn``, ``binary8p3se`` or ``float(e=4, m=3, ...)``."""
    for name, base in (*FLOATS.items(), _as_p3109(fmt)):
        plain = replace(fmt, rounding=base.rounding, saturation=base.saturation)
        if plain == base:
            saturation = _unless(base.saturation, fmt.saturation)
            return _spell(name, rounding=fmt.rounding, saturation=saturation)
    default_bias = (1 << (fmt.exponent - 1)) - 1
    return _spell(
        "float",
        e=fmt.exponent,
        m=fmt.mantissa,
        bias=_unless(default_bias, fmt.bias),
        specials=_unless("ieee", fmt.specials),
        signed=_unless(True, fmt.signed),
        subnormals=_unless(True, fmt.subnormals),
        zero=_unless(True, fmt.zero),
        magnitude=_unless(False, fmt.magnitude),
        rounding=fmt.rounding,
        saturation=_unless("SatFinite", fmt.saturation),
    )


def _as_p3109(fmt: FloatFormat) -> tuple[str, FloatFormat]:
    """The P3109 format of the same widths, and its name; some format that differs if none."""
    extended = fmt.specials == "extended"
    signs = f"{'s' if fmt.signed else 'u'}{'e' if extended else 'f'}"
    name = f"binary{fmt.bits}p{fmt.mantissa + 1}{signs}"
    try:
        return name, p3109(fmt.bits, fmt.mantissa + 1, fmt.signed, extended)
    except DovetailError:
        return "fp32", FLOATS["fp32"]


def spell_fixed(fmt: FixedFormat) -> str:
    """``fixed(8, 4, symmetric)``."""
    return _spell(
        "fixed",
        fmt.width,
        fmt.fraction,
        flags={"symmetric": fmt.symmetric},
        signed=_unless(True, fmt.signed),
        clamp=_unless(True, fmt.clamp),
        rounding=fmt.rounding,
    )


def spell_table(fmt: TableFormat) -> str:
    """``nf4`` or ``table(-1.0, 0.0, 1.0)``."""
    if fmt.values == TableFormat(NF4).values:
        return _spell("nf4", rounding=fmt.rounding)
    return _spell("table", *fmt.values, rounding=fmt.rounding)


def spell_posit(fmt: PositFormat) -> str:
    """``posit(8, 1)``."""
    return _spell("posit", fmt.width, fmt.es, rounding=fmt.rounding)


def spell_log(fmt: LogFormat) -> str:
    """``log(4, 3)``."""
    signed = _unless(True, fmt.signed)
    return _spell("log", fmt.integer, fmt.fraction, signed=signed, rounding=fmt.rounding)


def spell_bfp(fmt: BlockFloat) -> str:
    """``bfp(m=8, block=64)``."""
    return _spell(
        "bfp",
        m=fmt.mantissa,
        block=fmt.block,
        symmetric=_unless(True, fmt.symmetric),
        axis=fmt.axis,
        rounding=fmt.rounding,
    )


def spell_mx(fmt: MXFormat) -> str:
    """``mxfp8_e4m3``, or ``mx(element, ...)`` for elements without a name in MX."""
    common = {
        "block": _unless(32, fmt.block),
        "mode": _unless("FLOOR", fmt.mode),
        "axis": fmt.axis,
    }
    for name, base in MX.items():
        plain = replace(fmt.elements, rounding=NEAREST_EVEN)
        if plain == base:
            return _spell(name, **common, rounding=fmt.rounding)
        if isinstance(base, FixedFormat) and plain == replace(base, symmetric=False):
            return _spell(name, **common, symmetric=False, rounding=fmt.rounding)
    return _spell("mx", fmt.elements, **common)


def spell_scaled(fmt: ScaledBlock) -> str:
    """``scaled(fixed(4, 0, symmetric), fp8_e4m3fn)``, or ``nf4(block=64)``."""
    table = fmt.elements
    nf4 = isinstance(table, TableFormat) and table.values == TableFormat(NF4).values
    if nf4 and fmt.scale == FloatFormat(8, 23):
        return _spell("nf4", block=fmt.block, axis=fmt.axis, rounding=table.rounding)
    block = _unless(16, fmt.block)
    return _spell("scaled", fmt.elements, fmt.scale, block=block, axis=fmt.axis)


def spell_nvfp4(fmt: NVFP4) -> str:
    """``nvfp4``."""
    return _spell("nvfp4", block=_unless(16, fmt.block), axis=fmt.axis, rounding=fmt.rounding)
