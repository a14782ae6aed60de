"""`FloatMultiplier.explain`: what was found of the products of significands, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dovetail.multipliers.float_structure import FloatStructure, structure_of
from dovetail.multipliers.floating import FloatMultiplier

__all__ = ["FloatExplanation", "explain"]


@dataclass(frozen=True, repr=False)
class FloatExplanation:
    """A floating-point multiplier's structure, and the realisation that holds for it.

    ``form`` is that of :class:`dovetail.multipliers.float_structure.FloatStructure`;
    ``realisation`` is what computes layers whose products are summed in float32.
    """

    spelling: str
    format: str
    output: str
    form: str
    offset: int | None
    largest: int
    realisation: str

    def lines(self) -> list[tuple[str, str, str]]:
        """What is said, as (subject, finding, remark)."""
        remarks = {
            "values": "each product is that of two integers, one of either operand",
            "logarithms": f"fractions are added, and {self.offset}; the carry doubles",
            "table": "no structure; products are looked up",
            "function": "too many pairs to list; products are evaluated",
        }
        return [
            ("operands", self.format, "or formats within it"),
            ("products", self.output, "rounded once"),
            ("significands", self.form, remarks[self.form]),
            ("largest product", f"{self.largest:,}", "of significands, in units of 2**-2m"),
            ("emulated by", self.realisation, "where sums are float32, in order of k"),
        ]

    def __str__(self) -> str:
        lines = self.lines()
        widths = [max(len(line[i]) for line in lines) for i in range(2)]
        rows = (f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in lines)
        return "\n".join([self.spelling, *rows])

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """All of it by name.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("mitchell", format="bf16").explain().to_dict()["offset"]
        0
        """
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def explain(mul: FloatMultiplier) -> FloatExplanation:
    """See `FloatMultiplier.explain`.

    >>> from dovetail.multipliers import multiplier
    >>> print(explain(multiplier("l_mul", format="bf16")))  # doctest: +ELLIPSIS
    l_mul(offset=4, format=bf16)
      operands         bf16 ...
    """
    # What a multiplier is knows nothing of what computes it; only this question needs both.
    from dovetail.kernels import native_float

    found: FloatStructure = structure_of(mul)
    return FloatExplanation(
        repr(mul),
        repr(mul.format),
        repr(mul.output),
        found.form,
        found.offset,
        found.largest,
        "native-floats" if native_float.holds(mul) else "torch-floats",
    )
