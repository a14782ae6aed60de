"""Floating-point multipliers: an approximate product of significands, all else exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dovetail._spelling import parse_call, spell_call
from dovetail.errors import DovetailError
from dovetail.formats import Format, cast
from dovetail.formats import format as to_format
from dovetail.formats.floating import FloatFormat
from dovetail.multipliers.base import Multiplier

__all__ = ["FloatMultiplier", "float_multiplier"]

FloatArray = npt.NDArray[np.float64]
_NAME = "float_multiplier"


@dataclass(frozen=True, repr=False)
class FloatMultiplier:
    """``f(a, w) = (-1)**(s_a + s_w) * mantissa(M_a, M_w) * 2**(e_a + e_w - 2m)``, then rounded.

    Operands are values of ``format``, read as ``(-1)**s * M * 2**(e - m)`` with m mantissa bits and
    ``2**m <= M < 2**(m+1)``; subnormal ones are normalised first. ``mantissa`` multiplies the
    significands M, or their fractions ``M - 2**m`` if it is m bits wide. Signs and exponents are
    exact. The product is rounded once, to ``output``, by that format's rules: its rounding,
    overflow (saturation or infinity), subnormals or flush to zero. NaN and infinity times zero
    give NaN, infinity times anything else infinity, and zero times a finite number zero, with the
    sign of the operands; what ``output`` cannot hold of these becomes what a cast makes of it.

    This is the definition. No kernel computes it: a rule's ``mul`` refuses it.
    """

    format: FloatFormat
    mantissa: Multiplier
    output: FloatFormat

    def __repr__(self) -> str:
        more = {} if self.output == self.format else {"output": repr(self.output)}
        return spell_call(_NAME, repr(self.format), mantissa=repr(self.mantissa), **more)

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
        product = self.mantissa(x, y)
        if (product < 0).any():
            raise DovetailError(
                f"{self.mantissa!r} gives {int(product.min())} for significands, which are "
                f"positive; the sign of a product of floats comes from its operands"
            )
        magnitude = np.ldexp(product.astype(np.float64), p + q - 2 * self.format.mantissa)
        special = np.where(np.isinf(a) | np.isinf(w), np.inf, 0.0)
        invalid = (np.isinf(a) & (w == 0)) | (np.isinf(w) & (a == 0))
        special = np.where(invalid | np.isnan(a) | np.isnan(w), np.nan, special)
        value = np.where(regular, magnitude, special)
        value = np.where(np.signbit(a) != np.signbit(w), -value, value)
        return np.asarray(cast(torch.from_numpy(value), self.output).numpy())

    def _parts(self, value: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """What the mantissa multiplier sees of each value, and the exponent of its leading one."""
        fraction, exponent = np.frexp(np.abs(value))
        significand = np.ldexp(fraction, self.format.mantissa + 1).astype(np.int64)
        if self.mantissa._width()[0] == self.format.mantissa:
            significand -= 1 << self.format.mantissa
        return significand, exponent - 1

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
    ``output`` is the format of the product, by default ``format``. ``float_multiplier(repr(m))``
    is ``m`` again, where its mantissa is not made from a user's data in another process.

    >>> float_multiplier("fp8_e4m3fn", mantissa="kulkarni")
    float_multiplier(fp8_e4m3fn, mantissa=kulkarni(bits=4, signed=False))
    >>> float_multiplier("fp16")(60000, 2), float_multiplier("fp16")(2.0**-24, 0.75)
    (array(inf), array(5.96046448e-08))
    """
    if isinstance(format, str) and format.startswith(f"{_NAME}("):
        _, args, given = parse_call(format)
        if len(args) != 1 or not set(given) <= {"mantissa", "output"}:
            raise DovetailError(f"{format!r}: write {_NAME}(bf16, mantissa='mitchell')")
        return float_multiplier(args[0], **given)
    fmt = _float_format(format, "format")
    made = _mantissa(mantissa, fmt)
    return FloatMultiplier(fmt, made, fmt if output is None else _float_format(output, "output"))


def _float_format(given: str | Format, which: str) -> FloatFormat:
    fmt = to_format(given)
    if not isinstance(fmt, FloatFormat):
        raise DovetailError(f"{which}='{fmt!r}' is not a floating-point format, such as 'bf16'")
    if fmt.rounding.is_stochastic:
        raise DovetailError(f"{which}='{fmt!r}': a product has one value; choose another rounding")
    # Products are exact in float64 before they are rounded.
    if 2 * fmt.emax + 3 > 1023 or 2 * fmt.quantum < -1022 or fmt.mantissa > 15:
        raise DovetailError(
            f"{which}='{fmt!r}' is too wide: at most 9 exponent and 15 mantissa bits, as 'bf16'"
        )
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
    return made
