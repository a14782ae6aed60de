"""The reference of the command line, `docs/cli.md`, from the help that it prints itself.

python -m dovetail.cli.manual > docs/cli.md
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

__all__ = ["manual"]

_HEAD = """\
# The command line

<!-- python -m dovetail.cli.manual > docs/cli.md -->

Several experiment files are laid over one another, key by key, as deep as they have keys: what the
later file gives counts. A key that it gives as `null` is taken out. Its `rules` are appended,
because later rules win field by field as it is; `rules: {replace: [...]}` puts others in their
place. Any other list is replaced as a whole. `--set` comes last.

Completion of commands, options, multipliers and tables of costs: `dovetail --install-completion`.
"""


def manual() -> str:
    """The whole page, in Markdown: every command with its help, arguments and options.

    >>> "## `dovetail plan`" in manual().splitlines()
    True
    """
    from dovetail.cli.app import app

    return "\n".join([_HEAD, *_command(get_command(app), ["dovetail"])]).rstrip() + "\n"


def _command(command: Any, path: list[str]) -> Iterator[str]:
    yield f"## `{' '.join(path)}`\n"
    yield _prose(inspect.cleandoc(command.help or ""))
    rows = [_row(parameter) for parameter in command.params if not _is_shells(parameter)]
    if rows:
        yield "| | |\n|---|---|"
        yield from (f"| {name} | {what} |" for name, what in rows)
        yield ""
    for name, inner in getattr(command, "commands", {}).items():
        yield from _command(inner, [*path, name])


def _prose(text: str) -> str:
    """Paragraphs as they are; those that are not to be wrapped as blocks of code."""
    parts = []
    for part in text.split("\n\n"):
        lines = part.splitlines()
        if lines and lines[0] == "\b":
            parts += [lines[1], "```\n" + inspect.cleandoc("\n".join(lines[2:])) + "\n```"]
        else:
            parts.append(part)
    return "\n\n".join(parts) + "\n"


def _row(parameter: Any) -> tuple[str, str]:
    metavar = parameter.metavar or ""
    if parameter.param_type_name == "argument":
        return f"`{metavar or parameter.name.upper()}`", _cell(parameter.help)
    names = [*parameter.opts, *parameter.secondary_opts]
    return ", ".join(f"`{name} {metavar}`".replace(" `", "`") for name in names), _cell(
        parameter.help
    )


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _is_shells(parameter: Any) -> bool:
    """What typer adds for shells, and what every command has."""
    return bool({"--install-completion", "--show-completion", "--help"} & set(parameter.opts))


if __name__ == "__main__":
    sys.stdout.write(manual())
