"""The C++ of an SDFG, with one entry point that takes an array of pointers."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dovetail.compiler.build.vectorise import vectorised
from dovetail.compiler.engine import contained, quiet
from dovetail.compiler.memory import Arena, plan

__all__ = ["HASH", "Source", "entry_of", "generate"]

#: What DaCe includes and nothing needs.
HASH = '#include "../../include/hash.h"\n'


@dataclass(frozen=True)
class Source:
    """One C++ file: its parameters in order, and the arena that some of them lie in.

    A program for GPUs has its kernels, and what launches them, in a second file.
    """

    code: str
    parameters: tuple[str, ...]
    arena: Arena
    kernels: str = ""


def generate(sdfg: Any, tag: str = "", donated: Iterable[str] = ()) -> Source:
    """The C++ of ``sdfg``, which stays as it is; ``tag`` ends the names that it exports.

    ``donated`` are inputs whose memory is used for others once they are read.
    """
    own = copy.deepcopy(sdfg)
    own._name += tag
    with quiet():
        own.expand_library_nodes()
        arena = plan(own, donated)
        with contained(own):
            frame = own.generate_code()[0].clean_code
    code = vectorised(frame.replace(HASH, ""))
    entry, names = entry_of(own.name, code, _ENTRY.replace("{tag}", tag))
    return Source(code + entry, names, arena)


_ENTRY = """
#include <cstdio>
#include <exception>
extern "C" void *dv_begin{tag}(int) {{ return __dace_init_{name}({begin}); }}
extern "C" void dv_end{tag}(void *state) {{ __dace_exit_{name}(({name}_state_t *)state); }}
extern "C" int dv_run{tag}(void *state, void **p, char *error, size_t size) {{
  try {{
    __program_{name}(({name}_state_t *)state{words});
    return 0;
  }} catch (const std::exception &problem) {{
    std::snprintf(error, size, "%s", problem.what());
    return 1;
  }}
}}
"""


def entry_of(name: str, code: str, template: str) -> tuple[str, tuple[str, ...]]:
    """What calls a generated program with an array of pointers, and the names of those."""
    typed = _parameters(code, f"__program_{name}")
    begin = ", ".join("0" for _ in _parameters(code, f"__dace_init_{name}", state=False))
    words = [
        f"({kind})p[{i}]" if kind.endswith("*") else f"({kind})(intptr_t)p[{i}]"
        for i, (kind, _) in enumerate(typed)
    ]
    text = template.format(
        name=name, words="".join(f", {word}" for word in words), begin=begin, count=len(words)
    )
    return text, tuple(parameter for _, parameter in typed)


def _parameters(code: str, function: str, state: bool = True) -> list[tuple[str, str]]:
    """Type and name of each parameter of an exported function, but for the state."""
    found = re.search(rf"DACE_EXPORTED [^(;]*\b{re.escape(function)}\(([^)]*)\)", code)
    assert found is not None, function
    words = [word.strip() for word in found[1].split(",") if word.strip()]
    made = []
    for word in words[1:] if state else words:
        split = re.match(r"(.*?)(\w+)$", word)
        assert split is not None, word
        made.append((split[1].replace("__restrict__", "").strip(), split[2]))
    return made
