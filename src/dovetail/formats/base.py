"""What every number format is: a frozen value with one canonical spelling."""

from __future__ import annotations

from abc import ABC, abstractmethod

__all__ = ["Format"]


class Format(ABC):
    """Which values a tensor may take, and how it is rounded to them.

    Formats are frozen, hashable, comparable and picklable. ``repr(fmt)`` is the canonical
    spelling, and ``dv.format(repr(fmt)) == fmt``.
    """

    bits: int

    @property
    @abstractmethod
    def spelling(self) -> str:
        """The canonical spelling, as written in a recipe."""

    def __repr__(self) -> str:
        return self.spelling

    __str__ = __repr__
