"""`dovetail multiplier list` and `show`: the catalogue, and all that is known of one multiplier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dovetail.cli.completion import multipliers
from dovetail.cli.console import percent, ratio, say, say_json, table
from dovetail.cli.multiplier.map import drawn, write_map
from dovetail.cli.multiplier.options import (
    Bits,
    Check,
    Function,
    Layer,
    Operands,
    Signed,
    errors_under,
    operands_of,
    read,
)
from dovetail.cli.multiplier.sheets import cost_rows, facts_of, float_facts, float_sheet, sheet
from dovetail.cli.options import Json
from dovetail.errors import DovetailError

if TYPE_CHECKING:
    from dovetail.multipliers.facts import CircuitFacts

__all__ = ["list_", "show"]


def list_(
    bits: Annotated[int | None, typer.Option(help="Only this operand width.")] = None,
    signed: Annotated[
        bool | None, typer.Option("--signed/--unsigned", help="Only this kind of operand.")
    ] = None,
    json: Json = False,
) -> None:
    """The catalogued circuits and the families.

    \b
    Examples:
      dovetail multiplier list --bits 8 --signed
    """
    from dovetail.multipliers import catalog, families, multiplier, relative_energy

    circuits = catalog(bits=bits, signed=signed)
    rows: list[dict[str, Any]] = [
        {
            "name": c.spelling,
            "bits": c.bits[0],
            "signed": c.signed,
            "rank": c.rank,
            "mae": c.mae,
            "wce": c.wce,
            "mre": c.mre,
            "ep": c.ep,
            "relative_energy": relative_energy(multiplier(c.spelling)),
            **c.cost.to_dict(),
        }
        for c in circuits
    ]
    if json:
        known = {name: family.spelling for name, family in families().items()}
        say_json({"circuits": rows, "families": known})
        return
    shown = table(
        "Circuits",
        "Name",
        ">Operands",
        ">Rank",
        ">Mean |error|",
        ">Worst",
        ">Mean relative",
        ">Wrong",
        ">Energy",
        caption="Errors as published. Energy: of one product, relative to the exact circuit's.",
    )
    for row in rows:
        shown.add_row(
            row["name"],
            f"{'int' if row['signed'] else 'uint'}{row['bits']}",
            str(row["rank"]),
            f"{row['mae']:.4g}",
            f"{row['wce']:.4g}",
            percent(row["mre"], 2),
            percent(row["ep"]),
            ratio(row["relative_energy"]),
        )
    say(shown, "Families, with their parameters ('dovetail show families' tells more):")
    for family in families().values():
        say(f"  {family.spelling}")


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A circuit, a family such as 'drum(k=6)' or 'l_mul(format=bf16)', or a file: "
            ".npy .npz .csv .txt .hex .mem .bin .h .c .v.",
            show_default=False,
            autocompletion=multipliers,
        ),
    ],
    signed: Signed = None,
    bits: Bits = None,
    function: Function = None,
    check: Check = None,
    operands: Operands = None,
    layer: Layer = "*",
    map_: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="Write the picture of the error over all operands: .png or .svg.",
            show_default=False,
        ),
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="Draw that picture here.")] = False,
    json: Json = False,
) -> None:
    """Errors, cost, structure, and how the emulation would compute it.

    \b
    Examples:
      dovetail multiplier show mul8s_1L2N
      dovetail multiplier show "drum(k=6)" --json
      dovetail multiplier show table.npy --unsigned --bits 8
      dovetail multiplier show mul8s_1L2N --operands out/digits --map map.svg
    """
    from dovetail.multipliers import FloatMultiplier
    from dovetail.multipliers.catalog import figures_only

    figures = figures_only(name)
    if figures is not None:
        _show_figures(*figures, json=json)
        return
    m = read(name, signed, bits, function, check)
    if isinstance(m, FloatMultiplier):
        if operands is not None or map_ is not None or draw:
            raise DovetailError(f"{m!r} has no integer operands to weight errors by or to draw")
        say_json(float_facts(m)) if json else say(float_sheet(float_facts(m), m))
        return
    counts = operands_of(operands, layer)
    if m.bits is None:  # "exact", without a width
        own = (8, m.signed) if counts is None else (counts.mul._width(), counts.mul.signed)
        m = m.bind(*own)
    facts = facts_of(m)
    if counts is not None:
        facts["under_operands"] = errors_under(m, counts)
    if map_ is not None:
        write_map(m, map_)
    if json:
        say_json(facts)
        return
    say(sheet(facts, m.explain()))
    if draw:
        say(drawn(m))


def _show_figures(facts: CircuitFacts, remedy: str, *, json: bool) -> None:
    """What is published of a circuit whose products do not ship with dovetail."""
    cost = facts.cost.to_dict()
    if json:
        plain = {"name": facts.spelling, "bits": list(facts.bits), "signed": facts.signed}
        errors = {"mae": facts.mae, "wce": facts.wce, "mre": facts.mre, "ep": facts.ep}
        say_json({**plain, "published": errors, "cost": cost, "products": None, "remedy": remedy})
        return
    sheet = table(f"{facts.spelling}, as published", "", "", "")
    sheet.show_header = False
    operand = f"{'int' if facts.signed else 'uint'}{facts.bits[0]}"
    for row in [
        ("operands", f"{operand} × {operand}", "input × weight"),
        ("mean |error|", f"{facts.mae:g}", "MAE"),
        ("  relative", percent(facts.mre, 3), "MRE"),
        ("worst |error|", f"{facts.wce:g}", "WCE"),
        ("wrong products", percent(facts.ep, 2), "EP"),
        *cost_rows(cost),
    ]:
        sheet.add_row(*row)
    say(sheet, remedy)
