"""Reading the d-Matrix shorthand: ``BFP[8|8]{64}(SN)`` and its relatives, of all generations.

    SAME
    XP[n,±f](XYZ)             fixed point: X C clamps, Y S symmetric, Z rounding N U D S
    FP[s|e|m,b](XY)           floating point: X F flushes subnormals, Y rounding; the oldest files
                              leave out b, the IEEE bias, and X
    BFP[n|8]{k}(YZ)           block floating point; (Z) alone is symmetric
    SBFP<XP...><FP...>{k}     scaled block floating point
    MXFPp[EeMm]{k}, MXINTn{k} OCP MX

``{k,d}``, as in 2023, also fixes the axis d. Off is written ``_`` (or U in X, A in Y). What is
spelled is computed right, also where d-Matrix's own arithmetic is not: MX is OCP's, the largest
exponent of FP follows from its bias, rounding is done once. FP with 8 exponent bits is IEEE-like
(overflow is infinite); with fewer every code is a number, except ``FP[1|5|10,15]`` and its name
``FLOAT16``, which have the values of IEEE half precision, saturating at 65504.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from dovetail._reader import Reader
from dovetail.errors import DovetailError
from dovetail.formats.base import Format, Same
from dovetail.formats.block import BlockFloat, MXFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.rounding import Rounding
from dovetail.formats.scaled import ScaledBlock
from dovetail.formats.shorthand.aliases import OCP, ROUNDING, aliases

__all__ = ["is_shorthand", "parse_shorthand"]

_HEAD = re.compile(r"\s*(SAME|XP|FP|BFP|SBFP|MXFP\d*|MXINT\d*|TOPK|BTOPK|BERN|DENSE)\b|\s*SBFP<")
_SPARSITY = ("TOPK", "BTOPK", "BERN", "DENSE")


def is_shorthand(text: str) -> bool:
    """Whether ``text`` is written in this grammar, well or badly.

    >>> is_shorthand("BFP[8|8]{64"), is_shorthand("BFP16_64"), is_shorthand("bfp(m=8)")
    (True, True, False)
    """
    return bool(_HEAD.match(text)) or text.strip() in aliases()


def parse_shorthand(text: str) -> Format:
    """The format that a shorthand or a named alias spells.

    >>> parse_shorthand("BFP[8|8]{64}(SN)"), parse_shorthand("XP[8,+4](CSN)")
    (bfp(m=8, block=64), fixed(8, 4, symmetric))
    >>> parse_shorthand("BFP[8|7]{64}(SN)")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: cannot read 'BFP[8|7]{64}(SN)': expected '8]' at character 7, ...
    """
    named = aliases().get(text.strip())
    if named is not None:
        return parse_shorthand(named)
    return _Parser(text).whole()


class _Parser(Reader):
    """One pass over the text; ``at`` is the index of the next character to read."""

    def take(self, literal: str) -> None:
        for character in literal:
            self.skip()
            if not self.text.startswith(character, self.at):
                raise self.fail(f"'{literal}'")
            self.at += 1

    def follows_alone(self) -> bool:
        """Whether one letter stands between here and the closing bracket."""
        return re.compile(r"\s*[A-Z]\s*\)").match(self.text, self.at) is not None

    def number(self, low: int, high: int, what: str) -> int:
        self.skip()
        start = self.at
        match = re.compile(r"[+-]?\d+").match(self.text, start)
        if match is None:
            raise self.fail(what)
        value = int(match.group())
        if not low <= value <= high:
            near = min(max(value, low), high)
            raise self.fail(f"{what} in {low}..{high}; the nearest to {value} is {near}", start)
        self.at = match.end()
        return value

    def letter(self, choices: Iterable[str], what: str) -> str:
        self.skip()
        letter = self.text[self.at : self.at + 1]
        if letter not in choices or not letter:
            raise self.fail(f"{what} ({' '.join(choices)})")
        self.at += 1
        return letter

    def rounding(self) -> Rounding:
        return ROUNDING[self.letter(ROUNDING, "a rounding letter")]

    def head(self) -> str:
        self.skip()
        match = re.compile(r"[A-Z]+").match(self.text, self.at)
        if match is None:
            raise self.fail("one of " + ", ".join(self.heads()))
        self.at = match.end()
        return match.group()

    def heads(self) -> dict[str, Callable[[], Format]]:
        return {
            "SAME": Same,
            "XP": self.fixed,
            "FP": self.floating,
            "BFP": self.block_floating,
            "SBFP": self.scaled_block,
            "MXFP": self.mx_float,
            "MXINT": self.mx_integer,
        }

    def whole(self) -> Format:
        head = self.head()
        if head in _SPARSITY:
            raise DovetailError(
                f"'{self.text}' is a sparsity, not a number format; the nearest field is "
                f"sparsity='{self.text}'"
            )
        if head not in self.heads():
            raise self.fail("one of " + ", ".join(self.heads()), self.at - len(head))
        fmt = self.heads()[head]()
        self.skip()
        if self.at != len(self.text):
            raise self.fail("the end of the text")
        return fmt

    def fixed(self) -> FixedFormat:
        self.take("[")
        width = self.number(1, 24, "a width")
        self.take(",")
        fraction = self.number(-64, 128, "a number of fraction bits")
        self.take("](")
        clamp = self.letter("CU_", "C to clamp or _") == "C"
        symmetric = self.letter("SA_", "S for symmetric or _") == "S"
        rounding = self.rounding()
        self.take(")")
        return FixedFormat(width, fraction, True, symmetric, clamp, rounding)

    def floating(self) -> FloatFormat:
        self.take("[")
        signed = self.number(0, 1, "a number of sign bits") == 1
        self.take("|")
        exponent = self.number(1, 8, "a number of exponent bits")
        self.take("|")
        mantissa = self.number(0, 23, "a number of mantissa bits")
        bias = (1 << exponent - 1) - 1
        if self.follows(","):
            self.take(",")
            low = 127 if exponent == 8 else (1 << exponent) - 128
            bias = self.number(low, 127, "an exponent bias")
        self.take("](")
        # One letter alone is the rounding.
        flush = not self.follows_alone() and self.letter("F_", "F to flush subnormals or _") == "F"
        rounding = self.rounding()
        self.take(")")
        half = (signed, exponent, mantissa, bias) == (True, 5, 10, 15)
        wide = exponent == 8
        return FloatFormat(
            exponent,
            mantissa,
            bias,
            signed,
            specials="ieee" if wide or half else "finite",
            subnormals=not flush,
            magnitude=not signed,
            rounding=rounding,
            saturation="SatNone" if wide else "SatFinite",
        )

    def tensor(self) -> tuple[int, int | None]:
        """``{k}`` or ``{k,d}``."""
        self.take("{")
        block = self.number(1, 1 << 30, "a block size")
        axis = None
        if self.follows(","):
            self.take(",")
            axis = self.number(-8, 7, "an axis")
        self.take("}")
        return block, axis

    def block_floating(self) -> BlockFloat:
        self.take("[")
        mantissa = self.number(2, 24, "a number of mantissa bits")
        self.take("|")
        self.take("8]")
        block, axis = self.tensor()
        self.take("(")
        symmetric = True
        # One letter alone is the rounding, 'S' alone too.
        if not self.follows_alone():
            symmetric = self.letter("SA_", "S for symmetric or _") == "S"
        rounding = self.rounding()
        self.take(")")
        return BlockFloat(mantissa, block, symmetric, axis, rounding)

    def scaled_block(self) -> ScaledBlock:
        self.take("<")
        start = self.at
        self.take("XP")
        element = self.fixed()
        if element.fraction or not element.symmetric or not element.clamp:
            raise self.fail("symmetric clamped integers such as 'XP[4,0](CSN)'", start)
        self.take("><")
        self.take("FP")
        scale = self.floating()
        self.take(">")
        block, axis = self.tensor()
        scale = FloatFormat(
            scale.exponent,
            scale.mantissa,
            scale.bias,
            scale.signed,
            scale.specials,
            scale.subnormals,
            rounding=scale.rounding,
        )
        return ScaledBlock(element, scale, block, axis)

    def mx_float(self) -> MXFormat:
        total = self.number(3, 16, "a width")
        self.take("[")
        self.skip()
        start = self.at
        self.take("E")
        exponent = self.number(1, 8, "a number of exponent bits")
        self.take("M")
        mantissa = self.number(0, 10, "a number of mantissa bits")
        self.take("]")
        if total != 1 + exponent + mantissa:
            e = min(exponent, total - 1)
            raise self.fail(
                f"an element of {total} bits such as E{e}M{total - 1 - e}, as MXFP{total} says "
                f"(E{exponent}M{mantissa} has {1 + exponent + mantissa}),",
                start,
            )
        block, axis = self.tensor()
        specials = OCP.get((exponent, mantissa), "finite")
        return MXFormat(FloatFormat(exponent, mantissa, specials=specials), block, axis=axis)

    def mx_integer(self) -> MXFormat:
        width = self.number(2, 24, "a width")
        block, axis = self.tensor()
        return MXFormat(FixedFormat(width, width - 2, symmetric=True), block, axis=axis)
