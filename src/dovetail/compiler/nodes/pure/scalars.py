"""Scalar steps of casts, as the text of tasklets: one number in float64, every operation exact.

Float32 numbers times powers of two, and what rounding makes of them, are exact in float64; so the
result, a value of the format, is rounded once.
"""

from __future__ import annotations

from dovetail.formats import IntFormat
from dovetail.kernels.cast_structs import Element

__all__ = ["cover", "float_value", "integer_code", "round_to_integer", "scaled_value"]

_INFINITE = "1e999"


def round_to_integer(mode: str, x: str = "q", negative: str = "neg") -> str:
    """An expression that rounds a number, for most modes a magnitude of which ``negative`` is the
    sign."""
    ways = {
        "NearestTiesToEven": f"rint({x})",
        "NearestTiesToAway": f"floor({x} + 0.5)",
        "TowardZero": f"floor({x})",
        "TowardPositive": f"(floor({x}) if {negative} else ceil({x}))",
        "TowardNegative": f"(ceil({x}) if {negative} else floor({x}))",
        "ToOdd": f"(floor({x}) if fmod(floor({x}), 2.0) == 1.0 else ceil({x}))",
    }
    return ways[mode]


def _constant(value: float) -> str:
    if value != value:
        return "(m - m) / (m - m)"  # of a finite m: NaN
    if value in (float("inf"), float("-inf")):
        return _INFINITE if value > 0 else f"-{_INFINITE}"
    return repr(value)


def _rounded(element: Element, mode: str) -> list[str]:
    """``r``: the magnitude ``m`` rounded to the element's steps, without an end."""
    if element.mantissa < 0:
        step = f"step = {2.0**element.quantum!r}"
    else:
        first = element.quantum + element.mantissa
        step = f"step = ldexp(1.0, max(min(ilogb(m), 1023), {first}) - {element.mantissa})"
    lines = [step, "q = m / step", f"r = {round_to_integer(mode)} * step"]
    if element.flush:
        lines.append(f"r = (0.0 if m < {element.flush!r} else r)")
    if element.least:
        lines.append(f"r = (r if r > {element.least!r} else {element.least!r})")
    return lines


def float_value(element: Element, mode: str) -> str:
    """A tasklet from ``__x`` (float32) to ``__y``: the element's value."""
    top = [_constant(abs(v)) for v in element.max]
    over, infinite = ([_constant(v) for v in pair] for pair in (element.over, element.infinite))
    zero = "copysign(r, v)" if element.negative_zero else "(copysign(r, v) if r > 0.0 else 0.0)"
    return "\n".join(
        [
            "v = dace.float64(__x)",
            "m = fabs(v)",
            "neg = v < 0.0",
            *_rounded(element, mode),
            f"s = {zero}",
            f"t = ({top[1]} if neg else {top[0]})",
            f"s = (({over[1]} if neg else {over[0]}) if r > t else s)",
            f"s = (({infinite[1]} if neg else {infinite[0]}) if m > 1e308 else s)",
            "__y = dace.float32(v if v != v else s)",
        ]
    )


def scaled_value(element: Element, mode: str) -> str:
    """A tasklet from ``__x`` and its block's ``__e`` (an exponent) and ``__big`` to ``__y``."""
    top = [_constant(abs(v)) for v in element.max]
    zero = "copysign(r, v)" if element.negative_zero else "(copysign(r, v) if r > 0.0 else 0.0)"
    return "\n".join(
        [
            "v = dace.float64(__x)",
            "m = ldexp(fabs(v), -__e)",
            "neg = v < 0.0",
            *_rounded(element, mode),
            f"t = ({top[1]} if neg else {top[0]})",
            "r = ldexp((t if r > t else r), __e)",
            f"r = (r if r < {_LARGEST} else {_LARGEST})",
            f"s = {zero}",
            "__y = dace.float32(__big - __big if __big > 1e308 else s)",
        ]
    )


_LARGEST = repr(3.4028234663852886e38)


def integer_code(fmt: IntFormat) -> str:
    """A tasklet from ``__x``, ``__s`` and ``__z`` to ``__y``: the code, an integer in float32."""
    mode = fmt.rounding.name
    if mode == "NearestTiesToEven":
        steps = "dace.float32(rint(n))"
    else:
        magnitude = round_to_integer(mode, "q", "(n < 0.0)")
        steps = f"dace.float32(copysign({magnitude}, n))"
    return "\n".join(
        [
            "n = __x / __s",
            "n = (dace.float32(0.0) if n != n else n)",
            "q = dace.float32(fabs(n))",
            f"c = {steps} + dace.float32(__z)",
            f"c = (dace.float32({fmt.qmin}) if c < dace.float32({fmt.qmin}) else c)",
            f"__y = (dace.float32({fmt.qmax}) if c > dace.float32({fmt.qmax}) else c)",
        ]
    )


def cover(fmt: IntFormat) -> str:
    """A tasklet from a range ``__low``, ``__high`` to the scale ``__s`` and zero point ``__z``.

    The definition is ``dovetail.formats.quantization.scale_zero_point``.
    """
    largest = 3.4028234663852886e38
    limit, span = (largest / 2, fmt.qmax - fmt.qmin) if fmt.affine else (largest, fmt.qmax)
    size = "high - low" if fmt.affine else "max(-low, high)" if fmt.signed else "high"
    zero = "dace.int32(0)"
    if fmt.affine:
        at = f"rint(dace.float32({fmt.qmin}) - low / s)"
        zero = f"dace.int32(min(max({at}, {float(fmt.qmin)}), {float(fmt.qmax)}))"
    widest = largest * (1 - 2.0**-22) / span
    return "\n".join(
        [
            f"low = max(min(__low, dace.float32(0)), dace.float32({-limit!r}))",
            f"high = min(max(__high, dace.float32(0)), dace.float32({limit!r}))",
            f"s = ({size}) / dace.float32({span})",
            "s = (dace.float32(1) if s == dace.float32(0) else s)",
            f"s = min(max(s, dace.float32({2.0**-126!r})), dace.float32({widest!r}))",
            "__s = s",
            f"__z = {zero}",
        ]
    )
