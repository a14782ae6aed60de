"""Where files are written."""

from __future__ import annotations

from pathlib import Path

from dovetail.errors import DovetailError

__all__ = ["target"]


def target(path: str | Path) -> Path:
    """``path``, refused unless a file can stand there.

    >>> target("/nowhere/at/all/recipe.yaml")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: /nowhere/at/all/recipe.yaml: there is no folder '/nowhere/at/all'
    >>> target("recipe.yaml").name
    'recipe.yaml'
    """
    place = Path(path)
    if not place.parent.is_dir():
        raise DovetailError(f"{place}: there is no folder '{place.parent}'")
    if place.is_dir():
        raise DovetailError(f"{place} is a folder; name the file to write in it")
    return place
