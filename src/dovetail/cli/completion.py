"""What a shell offers when a word is completed: only names that are found without loading torch."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files

__all__ = ["cost_tables", "multipliers"]


def multipliers(incomplete: str) -> list[str]:
    """The catalogued circuits whose names begin so.

    >>> "mul8s_1L2H@v1.1" in multipliers("mul8s_1L2")
    True
    """
    return sorted({name for name in _circuits() if name.startswith(incomplete)})


def cost_tables(incomplete: str) -> list[str]:
    """The tables of costs that ship with dovetail.

    >>> cost_tables("horo")
    ['horowitz2014']
    """
    folder = files("dovetail") / "costs" / "data"
    names = (file.name for file in folder.iterdir())
    found = (name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))
    return sorted(name for name in found if name.startswith(incomplete))


@lru_cache(maxsize=1)
def _circuits() -> tuple[str, ...]:
    return tuple(_spellings())


def _spellings() -> Iterator[str]:
    table = files("dovetail") / "multipliers" / "data" / "evoapprox.csv"
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        yield row["name"]
        yield f"{row['name']}@{row['version']}"
