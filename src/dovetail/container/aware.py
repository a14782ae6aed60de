"""``dv.aware()``: every ``nn.Module`` can be told its configuration; ``dv.unaware()`` undoes it."""

from __future__ import annotations

from typing import Any

from torch import nn

from dovetail.container.pending import Source, transform
from dovetail.errors import DovetailError

__all__ = ["aware", "unaware"]


def aware() -> None:
    """Give every ``nn.Module`` the method ``transform(config, *rules)``; see :func:`transform`.

    Nothing else of torch changes, forward or backward; a class with a ``transform`` of its own
    keeps it. Calling it twice is calling it once.

    >>> aware()
    >>> unaware()
    >>> hasattr(nn.Module, "transform")
    False
    """
    present = nn.Module.__dict__.get("transform", _transform)
    if present is not _transform:
        raise DovetailError("nn.Module has a method 'transform' of another package already")
    nn.Module.transform = _transform  # type: ignore[attr-defined]


def unaware() -> None:
    """Undo :func:`aware`; models keep what they were told."""
    if nn.Module.__dict__.get("transform") is _transform:
        del nn.Module.transform  # type: ignore[attr-defined]


def _transform(self: nn.Module, config: Source = None, *rules: Source, **options: Any) -> nn.Module:
    """Give this model a configuration; see ``dovetail.container.transform``."""
    return transform(self, config, *rules, **options)
