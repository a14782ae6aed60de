"""From a program to a library: emitted, transformed, generated, compiled, or found in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from dovetail.compiler.build.cache import Entry, entry, key_of
from dovetail.compiler.build.gpu import gpu
from dovetail.compiler.build.gpu_source import generate_gpu
from dovetail.compiler.build.library import compile_library
from dovetail.compiler.build.source import Source, generate
from dovetail.compiler.build.toolchain import compiler_version, flags
from dovetail.compiler.engine import engine_version
from dovetail.compiler.groups.model import Call, Program
from dovetail.compiler.identity import identity_of
from dovetail.compiler.nodes.users import implementations

__all__ = ["facts_of", "library_key", "library_of", "source_of", "versions"]


@lru_cache(maxsize=1)
def _own_source() -> str:
    """What identifies this compiler: every file that it consists of."""
    made = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*")):
        if path.suffix in (".py", ".h", ".c"):
            made.update(path.read_bytes())
    return made.hexdigest()


def versions() -> tuple[str, ...]:
    """What every library depends on: this compiler, DaCe, the C++ compiler, and its flags."""
    return _own_source(), engine_version(), compiler_version(), " ".join(flags())


def library_key(program: Program, identity: str = "") -> str:
    """What the library of ``program`` is found by.

    ``identity`` tells SDFGs apart that are made of the same program.
    """
    tools = gpu().identity() if program.target == "cuda" else ""
    return key_of(*versions(), tools, _text(program), _users(program), identity)


def facts_of(source: Source) -> dict[str, Any]:
    """What is noted beside a library, for who calls it."""
    return {
        "parameters": source.parameters,
        "offsets": source.arena.offsets,
        "arena": source.arena.size,
        "inside": source.arena.inside,
    }


def library_of(program: Program, source: Callable[[], Source], identity: str = "") -> Entry:
    """The library of ``program``; ``source()`` is asked only where the cache has none."""

    def build(folder: Path) -> dict[str, Any]:
        made = source()
        files = {"program.cpp": made.code, "kernels.cu": made.kernels}
        for name, text in files.items():
            if text:
                (folder / name).write_text(text, encoding="utf-8")
        if program.target == "cuda":
            gpu().build([folder / name for name in files], folder / "program.so")
        else:
            compile_library(folder / "program.cpp", folder / "program.so")
        return facts_of(made)

    return entry(library_key(program, identity), build)


def source_of(program: Program, sdfg: Any) -> Source:
    """The C++ of a program's SDFG, and its CUDA."""
    if program.target == "cuda":
        return generate_gpu(sdfg)
    return generate(sdfg, donated=program.donated)


def _users(program: Program) -> str:
    """The implementations by users that the calls of a program could be given."""
    keys = sorted({group.key for group in program.groups if isinstance(group, Call)})
    return "\n".join(f"{k} {identity_of(implementations[k])}" for k in keys if k in implementations)


def _text(program: Program) -> str:
    """Everything about a program but the values of its constants, which are arguments."""
    buffers = [(b.name, str(b.size), str(b.dtype), b.role) for b in program.buffers.values()]
    what = program.target, program.name, program.inputs, program.symbols, program.donated
    return repr((*what, buffers, program.groups))
