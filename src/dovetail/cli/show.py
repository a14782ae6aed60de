"""`dovetail show`: what can be written in an experiment file."""

from __future__ import annotations

import typer

from dovetail.cli.console import NONE, say, say_json, table
from dovetail.cli.options import Json

__all__ = ["app"]

app = typer.Typer(help="What an experiment file can say.", no_args_is_help=True)


@app.command()
def formats(json: Json = False) -> None:
    """The number formats, their codes and their arguments."""
    from dovetail.formats import IntFormat, format_names
    from dovetail.formats import format as to_format

    formats = {name: to_format(name) for name in format_names()}
    codes = {
        name: (f.qmin, f.qmax) if isinstance(f, IntFormat) else (None, None)
        for name, f in formats.items()
    }
    if json:
        say_json([{"name": n, "lowest": low, "highest": high} for n, (low, high) in codes.items()])
        return
    shown = table("Formats", "Name", ">Lowest code", ">Highest code")
    for name, bounds in codes.items():
        shown.add_row(name, *(NONE if code is None else str(code) for code in bounds))
    say(
        shown,
        "Arguments, as in int8(affine, observer=percentile(99.9)):\n"
        "  affine       scale and zero point; the default of uint formats\n"
        "  symmetric    no zero point; the default of int formats, codes -127..127 in int8\n"
        "  full         the lowest code too, -128 in int8\n"
        "  per_tensor   one scale; the default except for weights\n"
        "  channel=N    one scale for each index of axis N; weights: channel=0\n"
        "  dynamic      the range of each batch instead of a calibrated one\n"
        "  po2          the scale rounded up to a power of two\n"
        "  observer=... how the range follows from the data",
    )


@app.command()
def schema() -> None:
    """The JSON schema of the experiment file, for editors and other tools."""
    from dovetail.recipe.experiment import Experiment

    say_json(Experiment.model_json_schema())
