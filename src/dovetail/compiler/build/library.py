"""A shared library of one C++ file; the headers that all programs include are compiled once."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from dovetail.compiler.build.cache import cache_folder, entry, key_of
from dovetail.compiler.build.toolchain import (
    compiler,
    compiler_version,
    flags,
    include_folder,
    libraries,
    run,
    runtime_folder,
)
from dovetail.compiler.engine import engine_version

__all__ = ["compile_library", "precompiled"]

#: What programs include, most of it for the sake of one or two names.
_HEADERS = (
    *("<dace/dace.h>", "<algorithm>", "<atomic>", "<cfloat>", "<initializer_list>", "<map>"),
    *("<memory>", "<mutex>", "<stdexcept>", "<string>", "<vector>", '"dovetail_math.h"'),
)
#: So many programs are compiled before the headers are: that takes as long as four programs save.
FIRST = 2


def compile_library(source: Path, target: Path) -> None:
    """Make the shared library ``target`` of one C++ file, linked with torch."""
    folder = libraries()
    command = [
        compiler(),
        *flags(),
        *_folders(),
        *precompiled(),
        str(source),
        "-o",
        str(target),
        f"-L{folder}",
        f"-Wl,-rpath,{folder}",
        "-ltorch_cpu",
        "-lc10",
    ]
    run(command, source)


def precompiled() -> list[str]:
    """How the compiler is told of the headers that it has compiled before.

    They are compiled where the cache holds a few programs, and by g++ only. They change no program:
    one that they do not fit is compiled with their text.
    """
    if not _is_gnu(compiler_version()) or not _is_worth():
        return []
    text = "".join(f"#include {name}\n" for name in _HEADERS)
    own = (include_folder() / "dovetail_math.h").read_text("utf-8")
    options = " ".join((*flags(), *_folders()))
    key = key_of(text, own, options, compiler_version(), engine_version())

    def build(folder: Path) -> dict[str, Any]:
        header = folder / "programs.h"
        header.write_text(text, encoding="utf-8")
        made = ["-x", "c++-header", str(header), "-o", f"{header}.gch"]
        run([compiler(), *flags(), *_folders(), *made], header)
        return {}

    return ["-include", str(entry(f"headers-{key}", build).folder / "programs.h")]


def _folders() -> list[str]:
    return [f"-I{runtime_folder()}", f"-I{include_folder()}"]


def _is_worth() -> bool:
    programs = (cache_folder() / "programs").glob("*/program.cpp")
    return len(list(islice(programs, FIRST))) == FIRST


def _is_gnu(version: str) -> bool:
    """Clang refuses what it cannot use of a precompiled header, where g++ reads the text."""
    return "g++" in version or "(GCC)" in version
