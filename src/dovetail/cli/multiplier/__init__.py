"""`dovetail multiplier`: the catalogue, one multiplier, several, a file, new circuits."""

from __future__ import annotations

import typer

from dovetail.cli.multiplier.compare import compare
from dovetail.cli.multiplier.design import design
from dovetail.cli.multiplier.files import fit, import_
from dovetail.cli.multiplier.show import list_, show

__all__ = ["app"]

app = typer.Typer(
    help="Multipliers: what they compute, what they cost, and new ones.", no_args_is_help=True
)
app.command("list")(list_)
app.command("show")(show)
app.command("compare")(compare)
app.command("import")(import_)
app.command("fit")(fit)
app.command("design")(design)
