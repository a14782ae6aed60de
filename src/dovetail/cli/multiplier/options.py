"""Options that several sub-commands of `dovetail multiplier` share, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dovetail.errors import DovetailError

if TYPE_CHECKING:
    from dovetail.analysis.operands import OperandCounts
    from dovetail.multipliers import Multiplier

__all__ = [
    "Bits",
    "Check",
    "Function",
    "Layer",
    "Operands",
    "Signed",
    "errors_under",
    "operands_of",
    "read",
    "widths",
]

Signed = Annotated[
    bool | None, typer.Option("--signed/--unsigned", help="Of a file: its operands' kind.")
]
Bits = Annotated[str | None, typer.Option(help="Of a file: the operands' width, or input,weight.")]
Function = Annotated[str | None, typer.Option(help="Of a file: which function, module or array.")]
Check = Annotated[
    str | None, typer.Option(help="Of a file: its source, which must agree on every pair.")
]
Operands = Annotated[
    Path | None,
    typer.Option(
        metavar="PLACE",
        help="Weight errors by the operands that layers multiply: the folder of a finished run, an "
        "experiment file, or a .npz of operand counts.",
        show_default=False,
    ),
]
Layer = Annotated[
    str, typer.Option(metavar="GLOB", help="With --operands: of which layers, added up.")
]


def widths(text: str | None) -> int | tuple[int, ...] | None:
    """The widths of ``8`` or ``8,4``.

    >>> widths("8,4"), widths(None)
    ((8, 4), None)
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise DovetailError(f"--bits {text}: give a width such as 8, or input,weight such as 8,4")
    return int(text) if len(parts) == 1 else tuple(int(part) for part in parts)


def read(
    name: str, signed: bool | None, bits: str | None, function: str | None, check: str | None = None
) -> Any:
    """The multiplier of a name or a file, integer or floating-point."""
    from dovetail.multipliers import any_multiplier

    options = {"signed": signed, "bits": widths(bits), "function": function, "check": check}
    given = {key: value for key, value in options.items() if value is not None}
    return any_multiplier(name, **given)


def operands_of(place: Path | None, layer: str) -> OperandCounts | None:
    """What `--operands` and `--layer` say."""
    from dovetail.experiment.operands import captured

    return None if place is None else captured(place, layer)


def errors_under(m: Multiplier, counts: OperandCounts) -> dict[str, Any]:
    """The errors of ``m`` over the counted products, and their root mean square."""
    if m.bits is not None and (m.bits, m.signed) != (counts.mul.bits, counts.mul.signed):
        raise DovetailError(
            f"{m!r} multiplies {m._operands()} operands, and those counted are "
            f"{counts.mul._operands()} ones"
        )
    found = counts.errors(m)
    rms = (found.variance + found.bias**2) ** 0.5
    return {**found.to_dict(), "rms": rms, "products": int(counts.first.sum())}
