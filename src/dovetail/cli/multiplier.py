"""`dovetail multiplier`: the catalogue, and all that is known of one multiplier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dovetail.cli.completion import multipliers
from dovetail.cli.console import NONE, percent, ratio, say, say_json, table
from dovetail.cli.options import Json
from dovetail.errors import DovetailError

if TYPE_CHECKING:
    from dovetail.multipliers import FloatMultiplier, Multiplier
    from dovetail.multipliers.explanation import Explanation
    from dovetail.multipliers.facts import CircuitFacts

__all__ = ["app"]

app = typer.Typer(help="Multipliers: what they compute and what they cost.", no_args_is_help=True)


@app.command("list")
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


@app.command()
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
    signed: Annotated[
        bool | None, typer.Option("--signed/--unsigned", help="Of a file: its operands' kind.")
    ] = None,
    bits: Annotated[
        str | None, typer.Option(help="Of a file: the operands' width, or input,weight.")
    ] = None,
    function: Annotated[
        str | None, typer.Option(help="Of a file: which function, module or array.")
    ] = None,
    check: Annotated[
        str | None, typer.Option(help="Of a file: its source, which must agree on every pair.")
    ] = None,
    json: Json = False,
) -> None:
    """Errors, cost, structure, and how the emulation would compute it.

    \b
    Examples:
      dovetail multiplier show mul8s_1L2N
      dovetail multiplier show "drum(k=6)" --json
      dovetail multiplier show table.npy --unsigned --bits 8
    """
    from dovetail.multipliers import FloatMultiplier, any_multiplier
    from dovetail.multipliers.catalog import figures_only

    figures = figures_only(name)
    if figures is not None:
        _show_figures(*figures, json=json)
        return
    options = {"signed": signed, "bits": _widths(bits), "function": function, "check": check}
    m = any_multiplier(name, **{key: value for key, value in options.items() if value is not None})
    facts = _float_facts(m) if isinstance(m, FloatMultiplier) else _facts(m)
    if json:
        say_json(facts)
    elif isinstance(m, FloatMultiplier):
        say(_float_sheet(facts, m))
    else:
        say(_sheet(facts, m.explain()))


def _widths(text: str | None) -> int | tuple[int, ...] | None:
    """The widths of ``8`` or ``8,4``."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise DovetailError(f"--bits {text}: give a width such as 8, or input,weight such as 8,4")
    return int(text) if len(parts) == 1 else tuple(int(part) for part in parts)


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
        *_cost_rows(cost),
    ]:
        sheet.add_row(*row)
    say(sheet, remedy)


def _cost_rows(cost: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        ("energy", f"{cost['energy_pj']:.4g} pJ", cost["source"]),
        ("power", f"{cost['power_mw']:.4g} mW", ""),
        ("area", f"{cost['area_um2']:.4g} um2", ""),
        ("delay", f"{cost['delay_ns']:.4g} ns", ""),
    ]


def _facts(m: Multiplier) -> dict[str, Any]:
    from dovetail.multipliers import relative_energy

    factors, cost, found = m.factors(), m.cost, m.explain()
    return {
        "name": repr(m),
        "bits": list(m.bits or (8, 8)),
        "signed": m.signed,
        "errors": m.errors().to_dict(),
        "max_abs": m.max_abs,
        "factors": None if factors is None else {"rank": factors.rank, "bits": factors.width()},
        "cost": None if cost is None else cost.to_dict(),
        "relative_energy": relative_energy(m),
        "structure": found.to_dict(),
        "realisation": found.plans[0][0],
    }


def _sheet(facts: dict[str, Any], found: Explanation) -> Table:
    errors, cost = facts["errors"], facts["cost"]
    first, second = (f"{'int' if facts['signed'] else 'uint'}{bits}" for bits in facts["bits"])
    sheet = table(facts["name"], "", "", "")
    sheet.show_header = False
    rows = [
        ("operands", f"{first} × {second}", "input × weight"),
        ("largest product", f"{facts['max_abs']:,}", ""),
        ("mean |error|", f"{errors['mae']:.6g}", f"MAE, over {errors['method']}"),
        ("  relative", percent(errors["mred"], 3), "MRED, where the product is not zero"),
        ("  normalised", f"{errors['nmed']:.3g}", "NMED, over the largest exact product"),
        ("worst |error|", f"{errors['wce']:,}", "WCE"),
        ("wrong products", percent(errors["ep"], 2), "EP"),
        ("bias", f"{errors['bias']:+.6g}", "mean error"),
        ("variance", f"{errors['variance']:.6g}", "of the error"),
    ]
    if cost is None:
        rows.append(("energy", NONE, "no cost is known"))
    else:
        energy, *rest = _cost_rows(cost)
        to = "to the exact circuit of its width"
        rows += [energy, ("  relative", ratio(facts["relative_energy"]), to), *rest]
    for row in [*rows, *found.lines()]:
        sheet.add_row(*row)
    return sheet


def _float_facts(m: FloatMultiplier) -> dict[str, Any]:
    return {"name": repr(m), "errors": m.errors().to_dict(), "structure": m.explain().to_dict()}


def _float_sheet(facts: dict[str, Any], m: FloatMultiplier) -> Table:
    errors = facts["errors"]
    sheet = table(facts["name"], "", "", "")
    sheet.show_header = False
    rows = [
        ("mean relative error", percent(errors["mred"], 3), f"MRED, over {errors['method']}"),
        ("worst", percent(errors["worst"], 3), "relative to the exact product"),
        ("bias", percent(errors["bias"], 3), "mean error, likewise"),
        ("wrong products", percent(errors["ep"], 2), "EP"),
        ("overflows", percent(errors["overflow"], 2), "to infinity or NaN"),
    ]
    for row in [*rows, *m.explain().lines()]:
        sheet.add_row(*row)
    return sheet
