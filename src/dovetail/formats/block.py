"""Formats whose elements share a power-of-two scale: block floating point and OCP MX."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.errors import DovetailError, unknown
from dovetail.formats.base import BlockFormat, ElementFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.rounding import NEAREST_EVEN, Rounding

__all__ = ["SCALE_MODES", "BlockFloat", "MXFormat", "PowerScaled"]

#: How the shared exponent follows from the largest magnitude of a block (torchao's names).
SCALE_MODES = ("FLOOR", "CEIL", "EVEN", "RCEIL")


class PowerScaled(BlockFormat):
    """Elements times ``2**s``, with one exponent ``s`` per block.

    ``s`` follows from the block's largest magnitude ``a``: FLOOR ``floor(log2 a) - emax``, where
    ``emax`` is the element's; CEIL ``ceil(log2 a) - emax``; EVEN as FLOOR, after ``a`` was rounded
    to the element's mantissa bits (half up); RCEIL the smallest with ``a <= 2**s * element.max``.
    It is clamped to ``exponents``.
    """

    mode = "FLOOR"
    scale_bits = 8
    exponents = (-127, 127)

    @property
    def mantissa_bits(self) -> int:
        """Bits behind the leading one of the largest element."""
        element = self.element
        assert isinstance(element, (FloatFormat, FixedFormat))
        return element.mantissa if isinstance(element, FloatFormat) else element.width - 2


def check_block(block: int, name: str) -> None:
    """Refuse a block size below 1."""
    if block < 1:
        raise DovetailError(f"{name}: a block has at least 1 element, not {block}")


@dataclass(frozen=True, repr=False)
class BlockFloat(PowerScaled):
    """Block floating point: ``mantissa``-bit integers (sign included) and one 8-bit exponent.

    With ``e = floor(log2(max|x|))`` of a block, clamped to -126..127, elements are integers of
    magnitude up to ``2**(mantissa - 1) - 1`` times ``2**(e - mantissa + 2)``; ``symmetric=False``
    adds the lowest two's-complement code. No -0. d-Matrix spells it ``BFP[mantissa|8]{block}``.

    >>> BlockFloat(8, 64).bytes_per_element, BlockFloat(8, 64).element
    (1.015625, fixed(8, 6, symmetric))
    """

    mantissa: int = 8
    block: int = 64
    symmetric: bool = True
    axis: int | None = None
    rounding: Rounding = NEAREST_EVEN

    exponents = (-126, 127)

    def __post_init__(self) -> None:
        if not 2 <= self.mantissa <= 24:
            near = min(max(self.mantissa, 2), 24)
            raise DovetailError(
                f"bfp(m={self.mantissa}): 2 to 24 mantissa bits, sign included; the nearest is "
                f"'bfp(m={near}, block={self.block})'"
            )
        check_block(self.block, f"bfp(m={self.mantissa}, block={self.block})")

    @property
    def element(self) -> ElementFormat:
        """The format of an element divided by its block's scale."""
        return FixedFormat(
            self.mantissa,
            self.mantissa - 2,
            symmetric=self.symmetric,
            rounding=self.rounding,
        )

    @property
    def spelling(self) -> str:
        from dovetail.formats.names.spell import spell_bfp

        return spell_bfp(self)


@dataclass(frozen=True, repr=False)
class MXFormat(PowerScaled):
    """OCP Microscaling (MX 1.0): narrow elements and one E8M0 scale ``2**-127..2**127`` per block.

    Elements beyond the largest one saturate; a block without a finite, nonzero value keeps its
    zeros. ``mode`` is how the scale is chosen (see `PowerScaled`); the standard's is FLOOR.

    >>> fmt = MXFormat(FloatFormat(2, 1, specials="finite"))
    >>> fmt, fmt.bytes_per_element
    (mxfp4, 0.53125)
    """

    elements: FloatFormat | FixedFormat
    block: int = 32
    mode: str = "FLOOR"
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in SCALE_MODES:
            raise unknown("scale mode", self.mode, SCALE_MODES)
        check_block(self.block, f"mx({self.elements}, block={self.block})")
        fixed = isinstance(self.elements, FixedFormat)
        fits = (
            self.elements.clamp
            if isinstance(self.elements, FixedFormat)
            else (self.elements.saturation == "SatFinite" and self.elements.subnormals)
        )
        if not self.elements.signed or not fits:
            raise DovetailError(
                f"mx({self.elements}): elements are signed, saturate and have subnormals"
            )
        if not (0 if fixed else 1) <= self.elements.emax <= 127 or self.elements.quantum < -126:
            raise DovetailError(
                f"mx({self.elements}): the largest element must lie in 2..2**128, "
                "such as fp4_e2m1fn's 6"
            )

    @property
    def element(self) -> FloatFormat | FixedFormat:
        """The format of an element divided by its block's scale."""
        return self.elements

    @property
    def spelling(self) -> str:
        from dovetail.formats.names.spell import spell_mx

        return spell_mx(self)
