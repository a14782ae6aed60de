"""`dovetail`: the sub-commands put together, and what happens when one refuses."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from dovetail import __version__
from dovetail.cli import (
    attribute,
    compile,
    cost,
    export,
    multiplier,
    plan,
    report,
    run,
    search,
    show,
)
from dovetail.cli.console import say, say_error
from dovetail.cli.interrupt import Interruptible
from dovetail.errors import DovetailError

__all__ = ["app", "run_command"]

app = typer.Typer(
    name="dovetail",
    cls=Interruptible,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"dovetail {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """How a neural network behaves on arithmetic that does not exist yet.

    One YAML file is one experiment: a model, its data, and rules that say which operations get
    which number formats, multipliers and accumulators. The sub-commands read it.

    \b
    Begin with:
      dovetail run examples/digits.yaml     measure, retrain, report
      dovetail plan examples/digits.yaml    who gets what, and from which rule
      dovetail show formats                 what a file can say

    \b
    Exit codes:
      0    done
      1    a condition is missed, of `require` or by all designs of a search;
           or a check found a difference
      2    refused, before anything is computed; the reason is on standard error
      130  interrupted; the line on standard error says how to go on

    Results go to standard output (with --json as JSON, and only that), all else to standard error.
    NO_COLOR=1 turns colours off, COLUMNS=N sets the width of tables, DOVETAIL_TRACEBACK=1 shows
    where a refusal comes from.
    """


app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("attribute")(attribute.attribute)
app.command("search")(search.search)
app.command("report")(report.report)
app.command("cost")(cost.cost)
app.command("compile")(compile.compile)
app.command("export")(export.export)
app.add_typer(multiplier.app, name="multiplier")
app.add_typer(show.app, name="show")


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; see :func:`dovetail.cli.main.main`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets '?'
    try:
        app(args=arguments, prog_name="dovetail")
    except SystemExit as end:  # how typer ends, also after --help and after a usage error
        return end.code if isinstance(end.code, int) else 0
    except DovetailError as error:
        if os.environ.get("DOVETAIL_TRACEBACK") == "1":
            raise
        say_error(str(error))
        return 2
    return 0
