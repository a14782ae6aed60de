"""What makes a multiplier a value: it is its definition, and not what was computed of it."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from typing import Any, TypeVar

__all__ = ["Definition"]

_D = TypeVar("_D", bound="Definition")


class Definition:
    """Equal to what has the same definition: name and parameters, or table. Never copied."""

    @cached_property
    def content_key(self) -> str:
        """A sha256 of the definition; equal multipliers share it, across processes too.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("drum(k=6)").content_key == multiplier("drum").content_key
        True
        """
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Definition):
            return NotImplemented
        return self is other or self.content_key == other.content_key

    def __hash__(self) -> int:
        return hash(self.content_key)

    def __copy__(self: _D) -> _D:
        return self

    def __deepcopy__(self: _D, memo: dict[int, Any]) -> _D:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """The definition alone: kept tables and factors are not pickled."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: self.__dict__[field.name] for field in fields}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
