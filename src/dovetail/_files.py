"""Where files are written, and how: whole, or not at all."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from pathlib import Path

from dovetail.errors import DovetailError

__all__ = ["target", "write"]


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


def write(contents: Mapping[Path, str | bytes]) -> None:
    """Write files, text as UTF-8, in folders that are there.

    An interruption leaves every file as it was, or whole: all are written beside their places
    first, and then moved there. Several processes may write the same ones.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write({Path(folder) / "a.txt": "one", Path(folder) / "b.bin": b"two"})
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['a.txt', 'b.bin']
    """
    own = uuid.uuid4().hex[:8]
    parts = {place: place.with_name(f".{place.name}.{own}.part") for place in contents}
    try:
        for place, content in contents.items():
            raw = content.encode("utf-8") if isinstance(content, str) else content
            parts[place].write_bytes(raw)
        for place, part in parts.items():
            part.replace(place)
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink()
