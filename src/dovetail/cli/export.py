"""`dovetail export`: the finished network in another form, compared with the emulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dovetail.cli.console import say, say_json, table
from dovetail.cli.options import Files, Json, Out, Set, Threads, overrides

if TYPE_CHECKING:
    from dovetail.interchange import Exported

__all__ = ["export", "exported_line"]


def export(
    files: Files,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="One form, such as onnx or golden; else all that `export` of the file names.",
            show_default=False,
        ),
    ] = None,
    set_: Set = None,
    out: Out = None,
    json: Json = False,
    threads: Threads = None,
) -> None:
    """Write an experiment's network as ONNX or golden vectors.

    It is the network of the last stage of a run: under the file's rules, calibrated, recovered,
    retrained. What is written is executed again and compared with the emulation first; what cannot
    be written exactly is refused by the name of its layer.

    \b
    Examples:
      dovetail export examples/digits.yaml --to onnx
      dovetail export examples/digits.yaml --to golden --out out/vectors
      dovetail export examples/digits.yaml --set 'export=[{to: onnx, batch: 1}]'
    """
    from dovetail.experiment import export as export_experiment

    found = export_experiment(
        files, overrides=overrides(set_, threads), to=to, out=out, progress=not json
    )
    if json:
        say_json([each.to_dict() for each in found])
        return
    for each in found:
        _print(each)


def _print(result: Exported) -> None:
    if result.compared:
        shown = table(
            f"{result.to}: compared with the emulation",
            "Operation",
            "What",
            ">Numbers",
            ">Different",
            ">By up to",
            caption="By up to: relative to the largest number that was expected.",
        )
        for row in result.compared:
            largest = "" if row.is_equal else f"{row.largest:.2g}"
            shown.add_row(row.name, row.kind, f"{row.elements:,}", f"{row.different:,}", largest)
        say(shown, "")
    say(exported_line(result))


def exported_line(result: Exported) -> str:
    """One line about what was written.

    >>> from pathlib import Path
    >>> from dovetail.interchange import Exported
    >>> exported_line(Exported("onnx", Path("out/m.onnx"), (), facts={"opset": 18}))
    'wrote out/m.onnx (opset 18), not compared with the emulation'
    """
    facts = ", ".join(f"{key} {value}" for key, value in result.facts.items())
    if not result.compared:
        told = "not compared with the emulation"
    elif result.is_equal:
        told = "every bit the emulation's"
    else:
        told = "equal to the emulation within the tolerance"
    return f"wrote {result.path} ({facts}), {told}"
