"""Floating-point formats of any width: sign, exponent, mantissa, bias and special values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dovetail.errors import DovetailError, unknown
from dovetail.formats.base import ElementFormat
from dovetail.formats.rounding import NEAREST_EVEN, Rounding, check_saturation

__all__ = ["SPECIALS", "FloatFormat", "p3109"]

#: Which codes stand for something else than a finite number.
SPECIALS = ("ieee", "fn", "fnuz", "extended", "finite")


@dataclass(frozen=True, repr=False)
class FloatFormat(ElementFormat):
    """``(-1)**s * 2**(c - bias) * (1 + f / 2**mantissa)``, for the exponent code ``c`` > 0.

    The exponent code 0 holds the subnormals, ``2**(1 - bias) * f / 2**mantissa``; with
    ``subnormals=False`` a magnitude below ``2**(1 - bias)`` becomes zero *before* rounding (flush
    to zero); with ``zero=False`` (e8m0) the code 0 is an ordinary exponent, and every magnitude
    below the smallest value becomes that value.

    ``specials``: ``ieee`` (the last exponent code holds infinity and NaNs), ``fn`` (only the last
    code of each sign is NaN), ``fnuz`` (the code of -0 is NaN), ``extended`` (IEEE P3109: the last
    code is infinity, NaN as in fnuz; unsigned: the last two codes are infinity and NaN),
    ``finite`` (every code is a number). Unsigned formats clamp negative values to their smallest
    (``magnitude=True``: their sign is dropped instead, as d-Matrix's formats do).

    With no mantissa bits the parity of a code, which decides ties, is that of the exponent code.
    ``bias`` defaults to ``2**(exponent - 1) - 1``. Sources: IEEE 754-2019, IEEE P3109 (4.0), OCP
    OFP8 and MX 1.0, arXiv 2206.02915 (fnuz).

    >>> e4m3 = FloatFormat(4, 3, specials="fn")
    >>> e4m3.max, e4m3.smallest_subnormal, e4m3.bits
    (448.0, 0.001953125, 8)
    """

    exponent: int
    mantissa: int
    bias: int | None = None
    signed: bool = True
    specials: str = "ieee"
    subnormals: bool = True
    zero: bool = True
    magnitude: bool = False
    rounding: Rounding = NEAREST_EVEN
    saturation: str = "SatFinite"

    def __post_init__(self) -> None:
        if not 1 <= self.exponent <= 11 or not 0 <= self.mantissa <= 52:
            e, m = min(max(self.exponent, 1), 11), min(max(self.mantissa, 0), 52)
            raise DovetailError(
                f"float(e={self.exponent}, m={self.mantissa}): a format has 1 to 11 exponent and "
                f"0 to 52 mantissa bits; the nearest is 'float(e={e}, m={m})'"
            )
        if self.specials not in SPECIALS:
            raise unknown("specials", self.specials, SPECIALS)
        check_saturation(self.saturation)
        if self.bias is None:
            object.__setattr__(self, "bias", (1 << (self.exponent - 1)) - 1)
        name = f"float(e={self.exponent}, m={self.mantissa}, bias={self.bias}, ...)"
        if self._last < 1:
            raise DovetailError(
                f"{name}: specials={self.specials} leaves no code for a number; 'finite' does"
            )
        if not self.zero and (self.mantissa or not self.subnormals):
            raise DovetailError(f"{name}: zero=False is for formats without mantissa bits")
        if self.magnitude and self.signed:
            raise DovetailError(f"{name}: magnitude=True drops signs: it needs signed=False")
        if self._first_exponent - self.mantissa < -1074 or self.emax > 1023:
            raise DovetailError(
                f"{name} ranges over 2**{self._first_exponent - self.mantissa}..2**{self.emax}, "
                "beyond float64; move the bias towards "
                f"{(1 << (self.exponent - 1)) - 1}"
            )

    @property
    def offset(self) -> int:
        """The exponent bias as a number."""
        assert self.bias is not None
        return self.bias

    @property
    def bits(self) -> int:
        """Sign, exponent and mantissa bits together."""
        return self.signed + self.exponent + self.mantissa

    @property
    def _last(self) -> int:
        """Code of the largest finite magnitude."""
        top = (1 << (self.exponent + self.mantissa)) - 1
        if self.specials == "ieee":
            return top - (1 << self.mantissa)
        unsigned = not self.signed
        taken = {"fn": 1, "fnuz": unsigned, "extended": 1 + unsigned, "finite": 0}
        return top - int(taken[self.specials])

    @property
    def _first_exponent(self) -> int:
        """Exponent of the smallest normal value."""
        return (1 if self.zero else 0) - self.offset

    def decode(self, code: int) -> float:
        """The finite value of a magnitude's code (sign bit left out), by the definition.

        >>> FloatFormat(4, 3).decode(0b0111_000), FloatFormat(4, 3).decode(1)
        (1.0, 0.001953125)
        """
        exponent, fraction = code >> self.mantissa, code & ((1 << self.mantissa) - 1)
        if exponent == 0 and self.zero:
            return float(fraction) * 2.0 ** (1 - self.offset - self.mantissa)
        return (fraction + (1 << self.mantissa)) * 2.0 ** (exponent - self.offset - self.mantissa)

    def magnitudes(self) -> list[float]:
        """The finite magnitude of every code, in ascending order.

        >>> FloatFormat(2, 0, specials="finite").magnitudes()
        [0.0, 1.0, 2.0, 4.0]
        """
        return [self.decode(code) for code in range(self._last + 1)]

    @property
    def max(self) -> float:
        """The largest finite value."""
        return self.decode(self._last)

    @property
    def min(self) -> float:
        """The most negative finite value, or the smallest of an unsigned format."""
        if self.signed:
            return -self.max
        return 0.0 if self.zero else self.decode(0)

    @property
    def emax(self) -> int:
        """Exponent of the largest finite value: ``floor(log2(max))``."""
        exponent = self._last >> self.mantissa
        if exponent == 0:
            return (self._last.bit_length() - 1) + 1 - self.offset - self.mantissa
        return exponent - self.offset

    @property
    def quantum(self) -> int:
        """Exponent of the smallest step between neighbours."""
        return self._first_exponent - self.mantissa

    @property
    def smallest_normal(self) -> float:
        """The smallest positive value of full precision."""
        return 2.0**self._first_exponent

    @property
    def smallest_subnormal(self) -> float:
        """The smallest positive value."""
        if not self.subnormals:
            return self.smallest_normal
        return float(2.0**self.quantum)

    @property
    def has_inf(self) -> bool:
        """Whether infinities have codes."""
        return self.specials in ("ieee", "extended")

    @property
    def has_nan(self) -> bool:
        """Whether NaN has a code."""
        return self.specials != "finite" and not (self.specials == "ieee" and self.mantissa == 0)

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 has a code of its own; where it has not, -0 becomes +0."""
        return self.signed and self.specials in ("ieee", "fn", "finite")

    @property
    def bounds(self) -> tuple[float, float]:
        """Beyond these values rounding to nearest overflows: half a step outside min and max."""
        step = 2.0 ** (max(self.emax, self._first_exponent) - self.mantissa)
        low = -self.max - step / 2 if self.signed else self.min - self.smallest_subnormal / 2
        return low, self.max + step / 2

    @property
    def spelling(self) -> str:
        from dovetail.formats.names.spell import spell_float

        return spell_float(self)

    def with_rounding(self, rounding: str | Rounding) -> FloatFormat:
        """The same values, rounded to in another way.

        >>> FloatFormat(5, 10, saturation="SatNone").with_rounding("ToOdd")
        fp16(rounding=ToOdd)
        """
        return replace(self, rounding=Rounding.parse(rounding))


def p3109(bits: int, precision: int, signed: bool, extended: bool) -> FloatFormat:
    """IEEE P3109's ``binary{bits}p{precision}``: bias ``2**(bits - precision - signed)``.

    >>> p3109(8, 4, True, False) == FloatFormat(4, 3, bias=8, specials="fnuz")
    True
    """
    exponent = bits - precision + (0 if signed else 1)
    if not 3 <= bits <= 15 or not 1 <= precision <= 53 or not 1 <= exponent <= 11:
        raise DovetailError(
            f"'binary{bits}p{precision}': 3 to 15 bits, of which {bits - precision} are left for "
            "the exponent; 'binary8p4se' has 4"
        )
    return FloatFormat(
        exponent,
        precision - 1,
        bias=1 << (bits - precision - signed),
        signed=signed,
        specials="extended" if extended else "fnuz",
    )
