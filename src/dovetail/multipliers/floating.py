"""Floating-point multipliers: an approximate product of significands, all else exact."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from dovetail._spelling import parse_call, spell_call
from dovetail.errors import DovetailError
from dovetail.formats import Format, cast
from dovetail.formats import format as to_format
from dovetail.formats.floating import FloatFormat
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.kept import KEPT_KINDS

if TYPE_CHECKING:
    from dovetail.multipliers.float_errors import FloatErrors
    from dovetail.multipliers.float_explanation import FloatExplanation

__all__ = ["FLOAT32", "FloatMultiplier", "float_multiplier", "within"]

FloatArray = npt.NDArray[np.float64]
NAME = "float_multiplier"

#: What a product is kept in unless ``output`` says otherwise.
FLOAT32 = FloatFormat(8, 23, saturation="SatNone")


@dataclass(frozen=True, repr=False)
class FloatMultiplier:
    """``f(a, w) = (-1)**(s_a + s_w) * mantissa(M_a, M_w) * 2**(e_a + e_w - 2m)``, then rounded.

    Operands are values of ``format``, read as ``(-1)**s * M * 2**(e - m)`` with m mantissa bits and
    ``2**m <= M < 2**(m+1)``; subnormal ones are normalised first. ``mantissa`` multiplies the
    significands M, or their fractions ``M - 2**m`` if it is m bits wide. Signs and exponents are
    exact. The product is rounded once, to ``output``, by that format's rules: its rounding,
    overflow (saturation or infinity), subnormals or flush to zero. In float32, the default, it is
    what the mantissa multiplier gave, unless it leaves float32's range or has more than 24 bits.
    NaN and infinity times zero give NaN, infinity times anything else infinity, and zero times a
    finite number zero, with the sign of the operands; what ``output`` cannot hold of these becomes
    what a cast makes of it.

    This is the definition; layers compute it by the realisations of
    :mod:`dovetail.kernels.float_mac`.
    """

    format: FloatFormat
    mantissa: Multiplier
    output: FloatFormat

    def __repr__(self) -> str:
        more = {} if self.output == FLOAT32 else {"output": repr(self.output)}
        name, args, given = parse_call(repr(self.mantissa))
        open_width = {"bits": self.format.mantissa + 1, "signed": False}
        if name not in KEPT_KINDS and open_width.items() <= given.items():
            given = {key: value for key, value in given.items() if key not in open_width}
            return spell_call(name, *args, **given, format=repr(self.format), **more)
        return spell_call(NAME, repr(self.format), mantissa=repr(self.mantissa), **more)

    @property
    def name(self) -> str:
        """The mantissa multiplier's short name.

        >>> float_multiplier("bf16", "mitchell").name
        'mitchell'
        """
        return self.mantissa.name

    @property
    def cost(self) -> None:
        """Nothing is known of its energy, area and delay."""
        return None

    def factors(self) -> None:
        """No factors of codes; `explain` says what structure significands have."""
        return

    @cached_property
    def content_key(self) -> str:
        """A sha256 of the definition, as `Multiplier.content_key`."""
        parts = (repr(self.format), self.mantissa.content_key, repr(self.output))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def errors(self) -> FloatErrors:
        """Relative errors against the exact product.

        Over all pairs of finite, non-zero operands of a format of up to 8 bits, else over all pairs
        of significands (from 12 mantissa bits on, a seeded sample of them): exponents add exactly.

        >>> from dovetail.multipliers import multiplier
        >>> round(multiplier("mitchell", format="fp8_e4m3fn").errors().worst, 6)  # 1.5 * 1.5 = 2
        0.111111
        """
        from dovetail.multipliers.float_errors import measure

        return measure(self)

    def explain(self) -> FloatExplanation:
        """What structure the products of significands have, and what computes them.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("l_mul", format="bf16").explain().form
        'logarithms'
        """
        from dovetail.multipliers.float_explanation import explain

        return explain(self)

    def __call__(self, first: Any, second: Any) -> FloatArray:
        """The products of two arrays or tensors of values of ``format``, broadcast, as float64.

        A value that ``format`` does not have is refused (cast to it first).

        >>> m = float_multiplier("bf16", mantissa="mitchell")
        >>> m([1.5, 3.0, 0.0, float("inf")], [1.5, -1.25, -2.0, 4.0])
        array([ 2. , -3.5, -0. ,  inf])
        """
        a, w = self._operand(first, "first (input)"), self._operand(second, "second (weight)")
        a, w = np.broadcast_arrays(a, w)
        regular = np.isfinite(a) & np.isfinite(w) & (a != 0) & (w != 0)
        # 1 stands in for what has no significand; its product is not used.
        (x, p), (y, q) = (self._parts(np.where(regular, side, 1.0)) for side in (a, w))
        product = self.products(x, y)
        magnitude = np.ldexp(product.astype(np.float64), p + q - 2 * self.format.mantissa)
        special = np.where(np.isinf(a) | np.isinf(w), np.inf, 0.0)
        invalid = (np.isinf(a) & (w == 0)) | (np.isinf(w) & (a == 0))
        special = np.where(invalid | np.isnan(a) | np.isnan(w), np.nan, special)
        value = np.where(regular, magnitude, special)
        value = np.where(np.signbit(a) != np.signbit(w), -value, value)
        return np.asarray(cast(torch.from_numpy(value), self.output).numpy())

    def products(self, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> Any:
        """The products of fractions (significands without their leading one), unrounded.

        >>> float_multiplier("bf16", "mitchell").products(np.array([64]), np.array([64]))
        array([32768])
        """
        one = 0 if self.mantissa._width()[0] == self.format.mantissa else 1
        product = self.mantissa(*(v + (one << self.format.mantissa) for v in (x, y)))
        if (product < 0).any():
            raise DovetailError(
                f"{self.mantissa!r} gives {int(product.min())} for significands, which are "
                f"positive; the sign of a product of floats comes from its operands"
            )
        return product

    def _parts(self, value: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """The fraction of each value, as an integer, and the exponent of its leading one."""
        significand, exponent = np.frexp(np.abs(value))
        fraction = np.ldexp(significand, self.format.mantissa + 1).astype(np.int64)
        return fraction - (1 << self.format.mantissa), exponent - 1

    def _operand(self, value: Any, which: str) -> FloatArray:
        given = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.tensor(value)
        if not (given.dtype.is_floating_point or given.dtype in _INTEGERS):
            raise DovetailError(f"the {which} operand has dtype {given.dtype}; give real numbers")
        x = given.to(torch.float64)
        finite = torch.isfinite(x)
        nearest = cast(torch.where(finite, x, 0.0), self.format)
        wrong = torch.where(finite, nearest != x, False)
        wrong |= (torch.isinf(x) & (not self.format.has_inf)) | (
            torch.isnan(x) & (not self.format.has_nan)
        )
        if bool(wrong.any()):
            found = float(x[wrong][0])
            near = f"; the nearest is {float(nearest[wrong][0])}" if np.isfinite(found) else ""
            raise DovetailError(
                f"the {which} operand holds {found}, which is no value of '{self.format!r}'{near} "
                f"(dv.cast(x, '{self.format!r}') rounds to it)"
            )
        return np.asarray(x.numpy())


_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def float_multiplier(
    format: str | Format, mantissa: Any = "exact", output: str | Format | None = None
) -> FloatMultiplier:
    """A multiplier of floating-point numbers of ``format``; see `FloatMultiplier`.

    ``mantissa``: an unsigned `Multiplier` (or what `dv.multiplier` makes one of: a family's name, a
    table, a callable) of m + 1 bits, for significands with their leading one, or of m bits, for
    fractions without it (a table ``[2**m, 2**m]``). Its products are in units of ``2**-2m``.
    ``output`` is the format of the product, by default float32; none may be wider. Families write
    the format among their parameters, ``dv.multiplier("mitchell(format=bf16)")``, and
    ``dv.multiplier(repr(m))`` is ``m`` again, where its mantissa is not made from a user's data in
    another process.

    >>> float_multiplier("fp8_e4m3fn", mantissa="kulkarni")
    kulkarni(format=fp8_e4m3fn)
    >>> float_multiplier("fp16")(60000, 2), float_multiplier("fp16", output="fp16")(60000, 2)
    (array(120000.), array(inf))
    """
    fmt = _operand_format(format)
    out = FLOAT32 if output is None else _float_format(output, "output")
    if not within(out, FLOAT32):
        raise DovetailError(f"output='{out!r}': products fit float32; the nearest is 'fp32'")
    return FloatMultiplier(fmt, _mantissa(mantissa, fmt), out)


def within(narrow: FloatFormat, wide: FloatFormat) -> bool:
    """Whether every value of ``narrow``, -0 aside, is one of ``wide``.

    >>> within(to_format("fp8_e5m2"), to_format("fp16")), within(to_format("bf16"), FLOAT32)
    (True, True)
    """
    return (
        narrow.mantissa <= wide.mantissa
        and narrow.max <= wide.max
        and narrow.quantum >= wide.quantum
        and narrow.smallest_subnormal >= wide.smallest_subnormal
        and narrow.zero <= wide.zero
        and narrow.signed <= wide.signed
        and narrow.has_inf <= wide.has_inf
        and narrow.has_nan <= wide.has_nan
    )


def _float_format(given: str | Format, which: str) -> FloatFormat:
    fmt = to_format(given)
    if not isinstance(fmt, FloatFormat):
        raise DovetailError(f"{which}='{fmt!r}' is not a floating-point format, such as 'bf16'")
    if fmt.rounding.is_stochastic:
        raise DovetailError(f"{which}='{fmt!r}': a product has one value; choose another rounding")
    return fmt


def _operand_format(given: str | Format) -> FloatFormat:
    fmt = _float_format(given, "format")
    if not within(fmt, FLOAT32) or fmt.mantissa > 15:
        raise DovetailError(
            f"format='{fmt!r}' is too wide: its values are float32 numbers of at most 15 mantissa "
            "bits; the nearest is 'bf16'"
        )
    if not fmt.zero:
        raise DovetailError(f"format='{fmt!r}' has no zero, which padded pixels are; use 'bf16'")
    return fmt


def _mantissa(spec: Any, fmt: FloatFormat) -> Multiplier:
    """The multiplier of ``fmt``'s significands; a family without a width gets theirs."""
    from dovetail.multipliers.registry import adaptable, multiplier

    width = fmt.mantissa + 1
    if isinstance(spec, Multiplier) or (isinstance(spec, str) and not adaptable(spec)):
        made = multiplier(spec)
    elif isinstance(spec, str) or callable(spec):
        made = multiplier(spec, bits=width, signed=False)
    else:
        made = multiplier(spec, signed=False)
    if made.bits is None:
        made = made.bind(width, signed=False)
    if made.signed or made.bits not in ((width, width), (width - 1, width - 1)):
        raise DovetailError(
            f"mantissa={made!r}: '{fmt!r}' has significands of {width} bits; give an unsigned "
            f"multiplier of {width} bits (leading one included) or {width - 1} (without)"
        )
    if made.max_abs >= 1 << 53:
        raise DovetailError(f"mantissa={made!r}: products of up to 53 bits are exact, not more")
    return made
