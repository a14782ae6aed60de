"""`dovetail show gradients | recoveries | observers | costs | exporters`: methods a file names."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dovetail.cli.completion import cost_tables
from dovetail.cli.console import NONE, say, say_json, table
from dovetail.cli.options import Json

__all__ = ["add_to"]

Table = Annotated[
    str | None,
    typer.Argument(
        help="A table such as horowitz2014, or a YAML file: all of its figures.",
        show_default=False,
        autocompletion=cost_tables,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Make these sub-commands ones of `app`."""
    for command in (gradients, recoveries, observers, costs, exporters):
        app.command()(command)


def gradients(json: Json = False) -> None:
    """Gradients of products and casts, for grad= in a rule.

    \b
    Example:
      dovetail show gradients
    """
    from dovetail.gradients.value import CASTS, PRODUCTS

    if json:
        say_json({"products": PRODUCTS, "casts": CASTS})
        return
    products = table("Gradients of a product f(a, w)", "Name", "What it is")
    for name, what in PRODUCTS.items():
        products.add_row(name, what)
    casts = table("Gradients of a cast", "Name", "What it is")
    for name, what in CASTS.items():
        casts.add_row(name, what)
    say(
        products,
        casts,
        "As in grad: ste, grad: lut1d(unclipped), grad: lut2d(window=4, cast=lsq).\n"
        "Without one: ste(clip).",
    )


def exporters(json: Json = False) -> None:
    """Forms that networks are written in, for `export`; their options.

    \b
    Example:
      dovetail show exporters
    """
    from dovetail.interchange import exporters_known

    rows: list[dict[str, Any]] = [
        {"name": e.name, "suffix": e.suffix, "what": e.summary, "options": e.options}
        for e in exporters_known().values()
    ]
    if json:
        say_json(rows)
        return
    shown = table("Exporters", "Name", "Writes", "What it is, and its options with their defaults")
    for row in rows:
        options = ", ".join(f"{key}: {value}" for key, value in row["options"].items())
        written = row["suffix"] or "a folder"
        shown.add_row(row["name"], written, f"{row['what']}\n{options}".strip())
    say(shown, "As in export: [{to: onnx}, {to: golden, vectors: 32}].")


def recoveries(json: Json = False) -> None:
    """Post-training recipes, for `recover`, and their options.

    \b
    Example:
      dovetail show recoveries
    """
    from dovetail.recipe.sections.recover import recoveries_known

    rows = recoveries_known()
    if json:
        say_json(rows)
        return
    shown = table("Recoveries", "Name", "What it does, and its options with their defaults")
    for row in rows:
        options = (f"{o['name']}={o['default']}: {o['what']}" for o in row["options"])
        shown.add_row(row["name"], "\n".join([row["what"], *(f"  {text}" for text in options)]))
    say(
        shown,
        "Each takes select=, patterns of the operations it changes, as rules have them.\n"
        "As in recover: [equalise, {smoothquant: {alpha: 0.7}}]; they are done in their order.",
    )


def observers(json: Json = False) -> None:
    """Observers: how a range follows from values.

    \b
    Example:
      dovetail show observers
    """
    from dovetail.formats.observers import OBSERVERS

    rows = [{"name": name, "what": what} for name, (_, what) in OBSERVERS.items()]
    if json:
        say_json(rows)
        return
    shown = table("Observers", "Name", "The range is")
    for row in rows:
        shown.add_row(row["name"], row["what"])
    say(
        shown,
        "As in calibrate: {observer: percentile(99.9)} for all operations, or in a format:\n"
        "int8(observer=mse).",
    )


def costs(name: Table = None, json: Json = False) -> None:
    """Tables of energy, area and delay; with a name its figures.

    \b
    Examples:
      dovetail show costs
      dovetail show costs horowitz2014
    """
    from dovetail.costs.files import load_table, table_names

    found = [load_table(each) for each in ([name] if name else table_names())]
    if json:
        dumped = [each.model_dump(by_alias=True) for each in found]
        say_json(dumped[0] if name else dumped)
        return
    if name is None:
        shown = table("Tables of costs", "Name", ">Node nm", "Source")
        for each in found:
            shown.add_row(each.name, _figure(each.node), each.source)
        say(shown, "'dovetail show costs NAME' tells the figures, docs/cost.md how to write one.")
        return
    (each,) = found
    shown = table(each.name, "Operation", ">Energy pJ", ">Area um2", ">Delay ns")
    for kind in ("add", "multiply", "circuits", "adders", "functions"):
        for what, figures in getattr(each, kind).items():
            costed = (figures.energy_pj, figures.area_um2, figures.delay_ns)
            shown.add_row(f"{kind} {what}", *map(_figure, costed))
    for what, memory in each.memory.items():
        size = "" if memory.bytes is None else f" of {memory.bytes:,} bytes"
        shown.add_row(
            f"memory {what}{size}, a byte", _figure(memory.energy_pj_per_byte), NONE, NONE
        )
    say(shown, f"Source: {each.source}")


def _figure(value: Any) -> str:
    return NONE if value is None else f"{value:g}"
