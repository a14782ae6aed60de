"""A format that is an arbitrary list of values, and the known lists that have names."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dovetail.errors import DovetailError
from dovetail.formats.codebook import Book, CodebookFormat, float32_near, floor64
from dovetail.formats.rounding import NEAREST_EVEN, Rounding

__all__ = ["NF4", "TableFormat"]

#: NormalFloat, 4 bits: quantiles of the normal distribution scaled to [-1, 1], with an exact zero
#: (Dettmers et al., QLoRA, arXiv 2305.14314, appendix E).
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


@dataclass(frozen=True, repr=False)
class TableFormat(CodebookFormat):
    """The values that are listed, as float32 numbers; a code is a place in the ascending list.

    To nearest means nearest by difference; at the exact middle the mode decides, for
    ``NearestTiesToEven`` by the parity of the code. Beyond the ends values are clamped.

    >>> TableFormat((1.0, -1.0, 0.25))
    table(-1.0, 0.25, 1.0)
    """

    values: tuple[float, ...]
    rounding: Rounding = NEAREST_EVEN

    mirrored = False

    def __post_init__(self) -> None:
        values = tuple(sorted({float32_near(v) + 0.0 for v in self.values}))
        if len(values) < 2 or len(values) > 1 << 16 or values[-1] <= 0:
            raise DovetailError(
                f"table: a code book holds 2 to 65536 different values, the largest of them "
                f"positive; this one has {len(values)}, up to {max(values, default=0)}"
            )
        object.__setattr__(self, "values", values)

    @property
    def bits(self) -> int:
        """Width of a code."""
        return (len(self.values) - 1).bit_length()

    def book(self) -> Book:
        pairs = zip(self.values, self.values[1:], strict=False)
        middles = [floor64((Fraction(a) + Fraction(b)) / 2) for a, b in pairs]
        return Book.of(self.values, middles)

    @property
    def spelling(self) -> str:
        from dovetail.formats.names.spell import spell_table

        return spell_table(self)
