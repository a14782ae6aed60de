"""Compiled libraries on disk: found again by everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

__all__ = ["Entry", "cache_folder", "entry", "key_of", "write"]


def cache_folder() -> Path:
    """``$DOVETAIL_CACHE``, else ``dovetail`` in the user's cache folder."""
    chosen = os.environ.get("DOVETAIL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(chosen) if chosen else Path(base) / "dovetail"


@lru_cache(maxsize=1)
def machine() -> str:
    """The processor and the versions that a library was made for."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    except OSError:
        flags = platform.processor()
    return "\n".join((platform.machine(), flags, platform.python_version(), torch.__version__))


def key_of(*parts: str) -> str:
    """A name for a library made of ``parts``, on this machine.

    >>> key_of("a", "b") == key_of("a", "b"), key_of("a", "b") == key_of("ab")
    (True, False)
    """
    made = hashlib.sha256()
    for part in (*parts, machine()):
        made.update(f"{len(part)}:".encode())
        made.update(part.encode())
    return made.hexdigest()[:32]


def write(file: Path, raw: bytes) -> None:
    """In one step, so that another process sees all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", dir=file.parent)
    with os.fdopen(handle, "wb") as out:
        out.write(raw)
    Path(name).replace(file)


class Entry:
    """One folder of the cache: a library and what is known of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def library(self) -> Path:
        """The shared library: its own, or one that the facts say it shares with others."""
        return self.folder / str(self.facts.get("library", "program.so"))

    @property
    def facts(self) -> dict[str, Any]:
        """What the builder noted beside it."""
        found: dict[str, Any] = json.loads((self.folder / "facts.json").read_text("utf-8"))
        return found


def entry(key: str, build: Callable[[Path], dict[str, Any]]) -> Entry:
    """The entry ``key``; ``build(folder)`` makes ``program.so`` there and returns its facts.

    It appears in one step, so that another process sees all of it or nothing.
    """
    place = cache_folder() / "programs" / key
    if not (place / "facts.json").exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=place.parent))
        try:
            facts = build(work)
            (work / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
            work.replace(place)
        except OSError:
            if not (place / "facts.json").exists():  # else another process was first
                raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return Entry(place)
