"""What is told of a family of multipliers: its parameters, a line, its paper."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Family", "described"]

_PAPER = re.compile(r"Papers?: ((?:(?!\n\n).)*?\b(?:19|20)\d\d\b)", re.DOTALL)
_PAPERS = re.compile(r"Papers: ((?:(?!\n\n).)*)", re.DOTALL)


@dataclass(frozen=True)
class Family:
    """A family of multipliers.

    ``spelling``: the name with every parameter and its default; ``summary``: what it is, in a line;
    ``paper``: where it was published, or empty.
    """

    name: str
    spelling: str
    summary: str
    paper: str


def described(name: str, parameters: str, docstring: str) -> Family:
    """The family whose factory has this parameter list and docstring.

    The docstring's first line is the summary; what follows ``Paper:`` up to the year, or
    ``Papers:`` up to the end of the paragraph, is cited.

    >>> described("f", "(k=1)", "Adds.\\n\\nPaper: A. Author, \\"On f\\", J 2015. More.").paper
    'A. Author, "On f", J 2015.'
    """
    found = _PAPERS.search(docstring) or _PAPER.search(docstring)
    paper = " ".join(found.group(1).split()).rstrip(".") + "." if found else ""
    return Family(name, f"{name}{parameters}", docstring.partition("\n")[0], paper)
