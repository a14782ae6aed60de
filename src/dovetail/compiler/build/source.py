"""The C++ of an SDFG, with one entry point that takes an array of pointers."""

from __future__ import annotations

import copy
import re
import warnings
from dataclasses import dataclass
from typing import Any

from dovetail.compiler.build.vectorise import vectorised
from dovetail.compiler.engine import load_dace
from dovetail.compiler.memory import Arena, plan

__all__ = ["Source", "generate"]


@dataclass(frozen=True)
class Source:
    """One C++ file: its parameters in order, and the arena that some of them lie in."""

    code: str
    parameters: tuple[str, ...]
    arena: Arena


def generate(sdfg: Any) -> Source:
    """The C++ of ``sdfg``, which stays as it is."""
    own = copy.deepcopy(sdfg)
    config = load_dace().config
    with warnings.catch_warnings(), config.set_temporary("progress", value=False):
        warnings.simplefilter("ignore")
        own.expand_library_nodes()
        arena = plan(own)
        frame = own.generate_code()[0].clean_code
    code = vectorised(frame.replace('#include "../../include/hash.h"\n', ""))
    typed = _parameters(code, f"__program_{own.name}")
    begin = ", ".join("0" for _ in _parameters(code, f"__dace_init_{own.name}", state=False))
    words = [
        f"({kind})p[{i}]" if kind.endswith("*") else f"({kind})(intptr_t)p[{i}]"
        for i, (kind, _) in enumerate(typed)
    ]
    entry = _ENTRY.format(name=own.name, words="".join(f", {word}" for word in words), begin=begin)
    return Source(code + entry, tuple(name for _, name in typed), arena)


_ENTRY = """
#include <cstdio>
#include <exception>
extern "C" void *dv_begin() {{ return __dace_init_{name}({begin}); }}
extern "C" void dv_end(void *state) {{ __dace_exit_{name}(({name}_state_t *)state); }}
extern "C" int dv_run(void *state, void **p, char *error, size_t size) {{
  try {{
    __program_{name}(({name}_state_t *)state{words});
    return 0;
  }} catch (const std::exception &problem) {{
    std::snprintf(error, size, "%s", problem.what());
    return 1;
  }}
}}
"""


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
