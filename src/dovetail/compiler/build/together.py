"""Several functions compiled by one run of the C++ compiler, most of whose time is headers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.compiler.build.cache import cache_folder, entry, key_of
from dovetail.compiler.build.compile import facts_of
from dovetail.compiler.build.library import compile_library
from dovetail.compiler.build.source import Source, generate

if TYPE_CHECKING:
    from dovetail.compiler.unit import Unit

__all__ = ["compile_together"]


def compile_together(units: Iterable[Unit]) -> None:
    """Compile ``units`` into one library; each finds its function there when it is first called.

    Those that the cache has are left out.

    Raises
    ------
    DovetailError
        Where the C++ compiler refuses what was generated for any of them.
    """
    programs = cache_folder() / "programs"
    waiting = {unit.key: unit for unit in units if not (programs / unit.key).exists()}
    sources = {
        key: generate(unit.sdfg, f"_{number}", unit.program.donated)
        for number, (key, unit) in enumerate(waiting.items())
    }
    if not sources:
        return
    shared = entry(f"together-{key_of(*sources)}", partial(_build, sources.values()))
    for number, (key, source) in enumerate(sources.items()):
        place = {"library": f"../{shared.folder.name}/program.so", "tag": f"_{number}"}
        facts = {**facts_of(source), **place}
        entry(key, lambda folder, facts=facts: facts)  # type: ignore[misc]


def _build(sources: Iterable[Source], folder: Path) -> dict[str, Any]:
    code = "\n".join(source.code for source in sources)
    (folder / "program.cpp").write_text(code, encoding="utf-8")
    compile_library(folder / "program.cpp", folder / "program.so")
    return {}
