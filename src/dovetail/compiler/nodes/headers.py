"""The C++ that generated code begins with."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

__all__ = ["header"]


@lru_cache(maxsize=8)
def header(*names: str) -> str:
    """The text of headers beside this file, one after the other.

    >>> "class Kept" in header("kept.h")
    True
    """
    return "\n".join((Path(__file__).parent / name).read_text() for name in names)
