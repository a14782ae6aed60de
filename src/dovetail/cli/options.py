"""The options that several sub-commands share: one spelling, one meaning, one help text.

A sub-command that reads an experiment takes `Files`, `Set` and `Threads`, and gives them
to :func:`dovetail.recipe.schema.load`: `load(files, overrides(set_, threads))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Files", "Folder", "Json", "Out", "Set", "Threads", "overrides"]

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE",
        help="The experiment file. Each further file is laid over those before it, key by key: "
        "its keys count, its rules are appended.",
        show_default=False,
    ),
]
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
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder for what is written; else `report` of the file.",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Short for --set threads=N; else torch's choice.",
        show_default=False,
    ),
]
Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER", help="The folder that a finished run wrote.", show_default=False
    ),
]


def overrides(set_: Sequence[str] | None, threads: int | None = None) -> list[str]:
    """What `--set` and its short forms change, in the order in which it counts.

    >>> overrides(["seed=1"], threads=2)
    ['seed=1', 'threads=2']
    """
    return [*(set_ or ()), *([] if threads is None else [f"threads={threads}"])]
