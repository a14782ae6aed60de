"""The options that several sub-commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["File", "Json", "Set"]

File = Annotated[Path, typer.Argument(help="The experiment file.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change the file first, such as rules.1.mul=exact (lists count from 0). Repeatable.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, only that.")]
