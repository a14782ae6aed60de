"""`dovetail multiplier compare`: several multipliers side by side."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dovetail.cli.completion import multipliers
from dovetail.cli.console import NONE, percent, ratio, say, say_json, table
from dovetail.cli.multiplier.options import Layer, Operands, errors_under, operands_of
from dovetail.cli.options import Json
from dovetail.errors import DovetailError

__all__ = ["compare"]

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME...",
        help="Circuits, families with their arguments, or files.",
        show_default=False,
        autocompletion=multipliers,
    ),
]


def compare(
    names: Names, operands: Operands = None, layer: Layer = "*", json: Json = False
) -> None:
    """Errors, energy and structure of several multipliers, one a row.

    \b
    Examples:
      dovetail multiplier compare mul8s_1L2H@v1.1 "drum(k=4)" mine.v
      dovetail multiplier compare exact mul8s_1KV9 --operands out/digits
    """
    from dovetail.multipliers import Multiplier, any_multiplier, relative_energy

    counts = operands_of(operands, layer)
    rows: list[dict[str, Any]] = []
    for name in names:
        m = any_multiplier(name)
        if not isinstance(m, Multiplier):
            raise DovetailError(
                f"{name} multiplies floating-point numbers; compare circuits of integers"
            )
        if m.bits is None and counts is not None:
            m = m.bind(counts.mul._width(), counts.mul.signed)
        factors, cost = m.factors(), m.cost
        rows.append(
            {
                "name": repr(m),
                "errors": m.errors().to_dict(),
                "under_operands": None if counts is None else errors_under(m, counts),
                "relative_energy": relative_energy(m),
                "cost": None if cost is None else cost.to_dict(),
                "rank": None if factors is None else factors.rank,
            }
        )
    if json:
        say_json(rows)
        return
    weighted = [] if counts is None else [">Bias\nthere", ">RMS\nthere"]
    shown = table(
        "Multipliers",
        "Name",
        ">MAE",
        ">MRED",
        ">Worst",
        ">Wrong",
        ">Bias",
        *weighted,
        ">Rank",
        ">Energy",
        caption="Errors over all operand pairs, uniformly"
        + (f"; there: over the products of {operands}" if counts is not None else "")
        + ". Energy: relative to the exact circuit's.",
    )
    for row in rows:
        errors, under = row["errors"], row["under_operands"]
        there = [] if under is None else [f"{under['bias']:+.4g}", f"{under['rms']:.4g}"]
        shown.add_row(
            row["name"],
            f"{errors['mae']:.4g}",
            percent(errors["mred"], 2),
            f"{errors['wce']:,}",
            percent(errors["ep"]),
            f"{errors['bias']:+.4g}",
            *there,
            NONE if row["rank"] is None else str(row["rank"]),
            ratio(row["relative_energy"]),
        )
    say(shown)
