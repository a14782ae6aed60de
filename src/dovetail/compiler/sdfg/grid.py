"""What an SDFG becomes before CUDA is generated of it: chains of states, grids of one dimension."""

from __future__ import annotations

import warnings
from typing import Any

from dovetail.compiler.sdfg.arrays import dace, digit

__all__ = ["prepare"]

#: The one parameter of a grid.
_POINT = "__point"


def prepare(sdfg: Any) -> None:
    """Expand every node, put nested graphs of operators into the chain of states, flatten grids.

    Kernels run on one stream, in order: no state waits for it at its end.
    """
    from dace.transformation.interstate import InlineMultistateSDFG

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sdfg.expand_library_nodes()
        sdfg.apply_transformations_repeated(InlineMultistateSDFG, validate=False)
    for nested in sdfg.all_sdfgs_recursive():
        for state in nested.states():
            state.nosync = True
            for node in state.nodes():
                if isinstance(node, dace.nodes.MapEntry) and state.entry_node(node) is None:
                    _flatten(state, node)


def _flatten(state: Any, entry: Any) -> None:
    """One parameter for all of a kernel's map: a grid's other dimensions end at 65535 blocks."""
    made = entry.map
    if made.schedule != dace.ScheduleType.GPU_Device or len(made.params) == 1:
        return
    point = dace.symbolic.symbol(_POINT)
    digits, step = {}, dace.symbolic.pystr_to_symbolic("1")
    for param, (first, last, by) in reversed(list(zip(made.params, made.range, strict=True))):
        count = dace.symbolic.int_floor(last - first, by) + 1 if by != 1 else last - first + 1
        place = digit(point, step, count, first=param == made.params[0])
        digits[param] = dace.symbolic.symstr(first + by * place, cpp_mode=False)
        step = step * count
    made.params = [_POINT]
    made.range = dace.subsets.Range([(0, step - 1, 1)])
    state.scope_subgraph(entry).replace_dict(digits)
