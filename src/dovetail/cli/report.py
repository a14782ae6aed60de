"""`dovetail report`: the page of a finished run drawn again, and its figures for papers."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from dovetail.cli.console import say, say_json
from dovetail.cli.interrupt import resumable
from dovetail.cli.options import Folder, Json

__all__ = ["report"]

_KEPT = "what was drawn so far is kept; the same command draws it all"


class Kind(str, Enum):
    """Files that figures are written as."""

    svg = "svg"
    png = "png"
    pdf = "pdf"


def report(
    folder: Folder,
    figures: Annotated[
        bool,
        typer.Option("--figures", help="Write every figure to FOLDER/figures, with CSV and LaTeX."),
    ] = False,
    kind: Annotated[
        list[Kind] | None,
        typer.Option(
            help="What figures are written as; png and pdf need matplotlib. Repeatable.",
            show_default="svg",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Draw a run's report again; write its figures for papers.

    With all that the folder holds by now: the page shows the run (report.json) and, where they
    are there, an attribution (attribution.json) and a search (search.json).

    \b
    Examples:
      dovetail report out/digits
      dovetail report out/digits --figures --kind svg --kind pdf
    """
    from dovetail._files import write
    from dovetail.analysis.report import page, read, save_figures
    from dovetail.experiment.progress import Steps

    contents, steps = read(folder), Steps(show=not json)
    place = folder / "report.html"
    written = [place]
    with steps.step("drawing the report"), resumable(_KEPT):
        write({place: page(contents)})
        if figures or kind:
            kinds = [each.value for each in kind or (Kind.svg,)]
            written += save_figures(contents, folder / "figures", kinds)
    if json:
        say_json({"written": [str(path) for path in written]})
    else:
        say(*map(str, written))
