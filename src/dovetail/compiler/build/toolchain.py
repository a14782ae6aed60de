"""The C++ compiler: which one, how it is called, and what it says when it fails."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from dovetail.compiler.engine import load_dace
from dovetail.errors import DovetailError

__all__ = [
    "FLAGS",
    "compile_caller",
    "compiler",
    "compiler_version",
    "flags",
    "include_folder",
    "libraries",
    "run",
    "runtime_folder",
    "said_first",
]

#: No fast-math: results are those of IEEE arithmetic, one operation at a time. Not setting errno
#: and not trapping let a compiler vectorise square roots and choices, and change no value.
FLAGS = [
    "-std=c++20",
    "-O3",
    "-march=native",
    "-fPIC",
    "-shared",
    "-fopenmp",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-semantic-interposition",
    "-w",
]


def flags() -> list[str]:
    """``FLAGS``, then those in ``$DOVETAIL_CXXFLAGS``, of which the last of a kind holds.

    ``-O1`` there compiles sooner what runs once, as tests do.
    """
    return [*FLAGS, *shlex.split(os.environ.get("DOVETAIL_CXXFLAGS", ""))]


def include_folder() -> Path:
    """Where the headers are that generated code includes."""
    return Path(__file__).parents[1] / "include"


def runtime_folder() -> Path:
    """Where DaCe's own headers are."""
    return Path(str(load_dace().__file__)).parent / "runtime" / "include"


@lru_cache(maxsize=1)
def compiler() -> str:
    """``$CXX``, or g++, or another C++ compiler on the path."""
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise DovetailError("compiling needs a C++ compiler: install g++, or set CXX to one")


@lru_cache(maxsize=1)
def compiler_version() -> str:
    """The first line that the compiler says about itself."""
    return said_first(compiler(), "--version")


def said_first(*command: str, line: int = 0) -> str:
    """The first line, or another, of what a command says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[line] if done.stdout else ""


def libraries() -> Path:
    """Where torch's libraries are."""
    return Path(torch.__file__).parent / "lib"


def compile_caller(source: Path, target: Path) -> None:
    """Make a Python extension of one C file."""
    headers = f"-I{sysconfig.get_paths()['include']}"
    command = [compiler(), "-x", "c", "-O2", "-fPIC", "-shared", headers, str(source)]
    run([*command, "-o", str(target)], source)


def run(command: Sequence[str], source: Path, name: str = "the C++ compiler") -> None:
    """Run a compiler; what it says against ``source`` is the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DovetailError(f"{name} refused {source}:\n{done.stderr[:4000]}")
