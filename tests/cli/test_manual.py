"""Help that teaches, and its page in the documentation."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dovetail.cli.app import app
from dovetail.cli.completion import cost_tables, multipliers
from dovetail.cli.main import main
from dovetail.cli.manual import manual
from dovetail.costs.files import table_names
from dovetail.multipliers import catalog

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def commands(command: Any = None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    command = command or get_command(app)
    inner = getattr(command, "commands", {})
    found = {} if inner else {path: command}
    for name, each in inner.items():
        found |= commands(each, (*path, name))
    return found


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == manual(), (
        "write it anew: python -m dovetail.cli.manual > docs/cli.md"
    )


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_teaches_by_examples_that_it_takes(path: tuple[str, ...]) -> None:
    command = commands()[path]
    text = command.help
    examples = re.findall(r"^ *dovetail (.*)$", text.split("Example", 1)[-1], re.M)
    assert examples, f"no example in the help of {path}"
    for example in examples:
        words = shlex.split(example.split(" > ")[0])
        assert tuple(words[: len(path)]) == path
        with command.make_context("dovetail", words[len(path) :]):
            pass
    first = text.split("\n\n")[0].split(".")[0]
    assert len(first) <= 66, "cut off in the list of commands"


@pytest.mark.parametrize("path", [("--help",), *((*p, "--help") for p in commands())], ids=" ".join)
def test_help_is_no_wider_than_a_terminal(path: tuple[str, ...], capsys) -> None:
    assert main(list(path)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    assert "\b" not in out


def test_completion_offers_what_there_is() -> None:
    assert set(multipliers("")) >= {circuit.spelling for circuit in catalog()}
    assert multipliers("mul8s_1KV9") == ["mul8s_1KV9", "mul8s_1KV9@v2022"]
    assert multipliers("nothing") == []
    assert cost_tables("") == table_names()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_names(shell: str, monkeypatch, capsys) -> None:
    words = "dovetail multiplier show mul8s_1KV9@"
    monkeypatch.setenv("_DOVETAIL_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", "3")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    main([])
    assert "mul8s_1KV9@v2022" in capsys.readouterr().out
