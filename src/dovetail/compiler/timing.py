"""How long each group of a compiled function takes: from a build that looks at the clock between
them."""

from __future__ import annotations

import copy
import ctypes
import re
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.build.compile import library_of, source_of
from dovetail.compiler.build.kernel import Kernel
from dovetail.compiler.build.source import Source
from dovetail.compiler.engine import load_dace
from dovetail.compiler.memory import chain
from dovetail.compiler.unit import Unit
from dovetail.errors import DovetailError

__all__ = ["group_seconds"]

#: Timed runs, after one that is not.
RUNS = 9
_CLOCK = """
#include <chrono>
#include <ratio>
extern "C" {{ __attribute__((visibility("default"))) double dovetail_seconds[{count}]; }}
namespace dovetail_timing {{
inline std::chrono::steady_clock::time_point last;
inline void tick(int group) {{
  const auto now = std::chrono::steady_clock::now();
  if (group >= 0)
    dovetail_seconds[group] += std::chrono::duration<double>(now - last).count();
  last = now;
}}
}}
"""


def group_seconds(unit: Unit, inputs: Sequence[Any]) -> dict[int, float]:
    """The median seconds of each group of ``unit``, by number, on copies of ``inputs``.

    Empty where the SDFG's states do not run one after the other.
    """
    if unit.place.target == "cuda":
        raise DovetailError("timing=True is of code for the processor: compile with target='cpu'")
    if chain(unit.sdfg) is None:
        return {}
    count, identity = len(unit.program.groups), f"{unit.identity}\ntimed"
    source = partial(_timed_source, unit, count)
    kernel = Kernel(unit.program, library_of(unit.program, source, identity))
    clock = (ctypes.c_double * count).in_dll(kernel.library, "dovetail_seconds")
    taken: list[list[float]] = []
    with torch.no_grad():
        for _ in range(RUNS + 1):
            ctypes.memset(clock, 0, ctypes.sizeof(clock))
            kernel([x.detach().clone() if isinstance(x, Tensor) else x for x in inputs])
            taken.append(list(clock))
    return {i: statistics.median(run[i] for run in taken[1:]) for i in range(count)}


def _timed_source(unit: Unit, count: int) -> Source:
    return source_of(unit.program, _ticking(unit.sdfg, count))


def _ticking(sdfg: Any, count: int) -> Any:
    """A copy of ``sdfg`` with a look at the clock after each state."""
    dace = load_dace()
    own = copy.deepcopy(sdfg)
    own.append_global_code(_CLOCK.format(count=count))
    for state in chain(own) or ():
        found = re.match(r"g(\d+)_", state.label)
        after = own.add_state_after(state, f"tick_{state.label}")
        code = f"dovetail_timing::tick({found[1] if found else -1});"
        after.add_tasklet(
            "tick", {}, {}, code, language=dace.dtypes.Language.CPP, side_effects=True
        )
    return own
