"""Formats whose elements share a scale that is no power of two: SBFP, NF4 blocks, NVFP4."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.errors import DovetailError
from dovetail.formats.base import BlockFormat, ElementFormat
from dovetail.formats.block import check_block
from dovetail.formats.floating import FloatFormat
from dovetail.formats.rounding import NEAREST_EVEN, Rounding

__all__ = ["E4M3", "NVFP4", "ScaledBlock"]

#: The format of NVFP4's block scales.
E4M3 = FloatFormat(4, 3, specials="fn")


@dataclass(frozen=True, repr=False)
class ScaledBlock(BlockFormat):
    """Elements times one scale per block: ``round(max|x| / element.max)``, in the scale's format.

    In this order, in float32 (float64 for float64 input), each operation rounded once: the quotient
    of the block's largest magnitude and the largest element; its rounding to ``scale``; ``x``
    divided by the rounded scale; its rounding to ``element``; the product with the rounded scale. A
    scale that rounds to zero makes the block zero. d-Matrix's scaled block floating point
    ``SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{16}`` is one.

    >>> from dovetail.formats import format
    >>> format("SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{16}").bytes_per_element
    0.5625
    """

    elements: ElementFormat
    scale: FloatFormat
    block: int = 16
    axis: int | None = None

    def __post_init__(self) -> None:
        check_block(self.block, f"scaled({self.elements}, {self.scale}, block={self.block})")
        if self.elements.max <= 0 or not self.elements.max < 2.0**127:
            raise DovetailError(
                f"scaled({self.elements}): its largest element, {self.elements.max}, must be "
                "positive and below 2**127"
            )
        if self.scale.saturation != "SatFinite":
            raise DovetailError(f"scaled(..., {self.scale}): a scale saturates (SatFinite)")

    @property
    def element(self) -> ElementFormat:
        """The format of an element divided by its block's scale."""
        return self.elements

    @property
    def scale_bits(self) -> int:
        """Width of one stored scale."""
        return self.scale.bits

    @property
    def spelling(self) -> str:
        from dovetail.formats.names.spell import spell_scaled

        return spell_scaled(self)


@dataclass(frozen=True, repr=False)
class NVFP4(BlockFormat):
    """NVIDIA's FP4: E2M1 elements, an E4M3 scale per block of 16, one float32 scale per tensor.

    In torchao's order, in float32: ``g = max|x| / (448 * 6)`` over the tensor's finite blocks (1 if
    all are zero, else at least 2**-120, so that 1 / g / s is finite); per block
    ``s = e4m3(clamp((max|x| / 6) / g, 2**-6, 448))``; codes are ``e2m1(x * ((1 / g) / s))``,
    saturating; values ``code * (g * s)``. Scales are rounded to nearest, ties to even, whatever the
    rounding of the elements. ``g`` may be given to a cast instead (``scale=``), as one calibrated
    beforehand is: what lies beyond ``448 * 6 * g`` then saturates. (For float64 input the products
    with ``x`` and with the codes are formed in float64.)

    >>> NVFP4().bytes_per_element
    0.5625
    """

    block: int = 16
    axis: int | None = None
    rounding: Rounding = NEAREST_EVEN

    scale_bits = 8

    def __post_init__(self) -> None:
        check_block(self.block, f"nvfp4(block={self.block})")

    @property
    def element(self) -> ElementFormat:
        """The format of an element divided by its block's scale."""
        return FloatFormat(2, 1, specials="finite", rounding=self.rounding)

    @property
    def spelling(self) -> str:
        from dovetail.formats.names.spell import spell_nvfp4

        return spell_nvfp4(self)
