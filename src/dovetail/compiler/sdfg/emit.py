"""A program as an SDFG: a state per group, run one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dovetail.compiler.engine import quiet
from dovetail.compiler.groups.layout import Dim, total
from dovetail.compiler.groups.model import Call, Group, Loops, Program, Ref
from dovetail.compiler.nodes import NODES, Operand
from dovetail.compiler.sdfg.arrays import _sized, dace, dtype_of, symbol
from dovetail.compiler.sdfg.device_rows import emit_rows_on_device
from dovetail.compiler.sdfg.elementwise import emit_elementwise
from dovetail.compiler.sdfg.rows import emit_rows
from dovetail.errors import DovetailError

__all__ = ["emit"]

HEADER = '#include "dovetail_math.h"\n'
#: Elements beyond which an index needs more than the 32 bits that a thread's index has.
MOST_ELEMENTS = 2**31


def emit(program: Program) -> Any:
    """The SDFG of ``program``: inputs and outputs are its arguments, the rest its own memory."""
    with quiet():
        return _emit(program)


def _emit(program: Program) -> Any:
    sdfg = dace.SDFG(program.name)
    sdfg.append_global_code(HEADER, None)
    for buffer in program.buffers.values():
        _declare(sdfg, buffer, program.target == "cuda")
    sizes = {name: buffer.size for name, buffer in program.buffers.items()}
    last = sdfg.add_state("begin", is_start_block=True)
    for number, group in enumerate(program.groups):
        if not _runs(group):
            continue
        state = sdfg.add_state(f"g{number}_{_label(group)}")
        sdfg.add_edge(last, state, dace.InterstateEdge())
        _emit_group(state, group, sizes, f"g{number}_{_label(group)}", program.target == "cuda")
        last = state
    return sdfg


def _declare(sdfg: Any, buffer: Any, device: bool) -> None:
    if device and isinstance(buffer.size, int) and buffer.size >= MOST_ELEMENTS:
        raise DovetailError(
            f"'{buffer.name}' has {buffer.size} elements: code for GPUs reaches 2**31 - 1"
        )
    for found in getattr(buffer.size, "free_symbols", ()):
        if str(found) not in sdfg.symbols:
            sdfg.add_symbol(str(found), dace.int64)
            symbol(str(found))
    sdfg.add_array(
        buffer.name,
        [_sized(buffer.size) if buffer.size != 0 else 1],
        dtype_of(buffer.dtype),
        transient=buffer.role == "temporary",
        may_alias=True,
        storage=dace.StorageType.GPU_Global if device else dace.StorageType.Default,
    )


def _runs(group: Group) -> bool:
    """Whether there is anything to compute: no view, no nest without elements."""
    if isinstance(group, Loops):
        return bool(group.stores) and total(group.kept_shape) != 0
    return isinstance(group, Call)


def _label(group: Group) -> str:
    if isinstance(group, Call):
        return group.key.split(".")[1].strip("_")
    assert isinstance(group, Loops)
    return "rows" if group.is_reduction else "elementwise"


def _emit_group(
    state: Any, group: Group, sizes: Mapping[str, Dim], label: str, device: bool
) -> None:
    if isinstance(group, Call):
        inputs = [_operand(ref) for ref in group.inputs]
        outputs = [_operand(ref) for ref in group.outputs]
        NODES[group.key].add(
            state, state.sdfg, inputs, outputs, group.attributes, group.implementation
        )
    elif isinstance(group, Loops) and group.is_reduction:
        (emit_rows_on_device if device else emit_rows)(state, group, sizes, label)
    elif isinstance(group, Loops):
        emit_elementwise(state, group, sizes, label, device=device)


def _operand(ref: Ref | None) -> Operand | None:
    if ref is None:
        return None
    layout = ref.layout
    shape, strides = (tuple(map(_sized, dims)) for dims in (layout.shape, layout.strides))
    return Operand(ref.buffer, shape, strides, _sized(layout.offset), ref.dtype)
