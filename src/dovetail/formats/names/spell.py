"""The canonical spelling of each format: what its constructor reads back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dovetail._spelling import spell_call
from dovetail.errors import DovetailError
from dovetail.formats.base import Format
from dovetail.formats.block import BlockFloat, MXFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat, p3109
from dovetail.formats.logarithmic import LogFormat
from dovetail.formats.names.known import FLOATS, MX
from dovetail.formats.posit import PositFormat
from dovetail.formats.rounding import NEAREST_EVEN
from dovetail.formats.scaled import NVFP4, ScaledBlock
from dovetail.formats.tables import NF4, TableFormat

__all__ = [
    "spell_bfp",
    "spell_fixed",
    "spell_float",
    "spell_log",
    "spell_mx",
    "spell_nvfp4",
    "spell_posit",
    "spell_scaled",
    "spell_table",
]


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
