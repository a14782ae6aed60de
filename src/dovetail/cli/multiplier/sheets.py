"""All that is known of one multiplier, as values and as a sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from dovetail.cli.console import NONE, percent, ratio, table

if TYPE_CHECKING:
    from dovetail.multipliers import FloatMultiplier, Multiplier
    from dovetail.multipliers.explanation import Explanation

__all__ = ["cost_rows", "facts_of", "float_facts", "float_sheet", "sheet"]


def cost_rows(cost: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Energy, power, area and delay, as (name, value, remark)."""
    return [
        ("energy", f"{cost['energy_pj']:.4g} pJ", cost["source"]),
        ("power", f"{cost['power_mw']:.4g} mW", ""),
        ("area", f"{cost['area_um2']:.4g} um2", ""),
        ("delay", f"{cost['delay_ns']:.4g} ns", ""),
    ]


def facts_of(m: Multiplier) -> dict[str, Any]:
    """Everything that is known of a multiplier of integers."""
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


def sheet(facts: dict[str, Any], found: Explanation) -> Table:
    """What `facts_of` found and `Multiplier.explain` says."""
    errors, cost = facts["errors"], facts["cost"]
    first, second = (f"{'int' if facts['signed'] else 'uint'}{bits}" for bits in facts["bits"])
    made = table(facts["name"], "", "", "")
    made.show_header = False
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
    under = facts.get("under_operands")
    if under is not None:
        count = f"over {under['products']:,} products that layers really compute"
        rows += [
            ("under operands", f"{under['mae']:.6g}", f"mean |error| {count}"),
            ("  RMS", f"{under['rms']:.6g}", "root of the mean square error there"),
            ("  bias", f"{under['bias']:+.6g}", "mean error there"),
            ("  wrong products", percent(under["ep"], 2), ""),
        ]
    if cost is None:
        rows.append(("energy", NONE, "no cost is known"))
    else:
        energy, *rest = cost_rows(cost)
        to = "to the exact circuit of its width"
        rows += [energy, ("  relative", ratio(facts["relative_energy"]), to), *rest]
    for row in [*rows, *found.lines()]:
        made.add_row(*row)
    return made


def float_facts(m: FloatMultiplier) -> dict[str, Any]:
    """The same of a multiplier of floating-point numbers."""
    return {"name": repr(m), "errors": m.errors().to_dict(), "structure": m.explain().to_dict()}


def float_sheet(facts: dict[str, Any], m: FloatMultiplier) -> Table:
    """What `float_facts` found."""
    errors = facts["errors"]
    made = table(facts["name"], "", "", "")
    made.show_header = False
    rows = [
        ("mean relative error", percent(errors["mred"], 3), f"MRED, over {errors['method']}"),
        ("worst", percent(errors["worst"], 3), "relative to the exact product"),
        ("bias", percent(errors["bias"], 3), "mean error, likewise"),
        ("wrong products", percent(errors["ep"], 2), "EP"),
        ("overflows", percent(errors["overflow"], 2), "to infinity or NaN"),
    ]
    for row in [*rows, *m.explain().lines()]:
        made.add_row(*row)
    return made
