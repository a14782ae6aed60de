"""A nested SDFG in the place of an operator: one state after the other, each a map."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dovetail.compiler.engine import load_dace
from dovetail.compiler.nodes.aten.text import number
from dovetail.compiler.nodes.base import Operand
from dovetail.compiler.nodes.operator import Operator

__all__ = ["Body", "Tensor"]

#: Threads of a block of a GPU.
BLOCK = 256

dace = load_dace()
Indices = Sequence[Any]


@dataclass(frozen=True)
class Tensor:
    """A tensor in an array; ``at`` is the memlet of one element.

    Where the array is not flat, ``sizes`` and ``steps`` are its own.
    """

    data: str
    shape: tuple[Any, ...]
    strides: tuple[Any, ...]
    offset: Any = 0
    sizes: tuple[Any, ...] = ()
    steps: tuple[Any, ...] = ()

    def at(self, *indices: Any, **memlet: Any) -> Any:
        """One element: indices are numbers, or expressions of map parameters."""
        terms = [_text(self.offset)]
        for index, stride in zip(indices, self.strides, strict=bool(self.shape)):
            terms.append(f"({index}) * ({_text(stride)})")
        flat = " + ".join(terms)
        if not self.sizes:
            return dace.Memlet(f"{self.data}[{flat}]", **memlet)
        if (self.offset, self.sizes, self.steps) == (0, self.shape, self.strides):
            places = [f"{index}" for index in indices]
        else:
            places = [
                f"int_floor({flat}, {step}) % ({size})"
                for size, step in zip(self.sizes, self.steps, strict=True)
            ]
        return dace.Memlet(f"{self.data}[{', '.join(places)}]", **memlet)


def _text(value: Any) -> str:
    return str(value)


class Body:
    """The nested SDFG of a node, its arrays those of the state, named as the connectors."""

    def __init__(self, node: Operator, state: Any, sdfg: Any) -> None:
        self.call, self.outer = node.call, sdfg
        self.sdfg = dace.SDFG(f"{node.name.replace('.', '_')}_pure")
        for edge in (*state.in_edges(node), *state.out_edges(node)):
            outer = sdfg.arrays[edge.data.data]
            connector = edge.dst_conn if edge.dst is node else edge.src_conn
            inner = copy.deepcopy(outer)
            inner.transient = False
            self.sdfg.add_datadesc(connector, inner)
        self.on_device = self.call.target == "cuda"
        self.inputs = [self._tensor(o) for o in self.call.inputs]
        self.outputs = [self._tensor(o) for o in self.call.outputs]
        self._last: Any = None

    def _tensor(self, operand: Operand | None) -> Any:
        if operand is None:
            return None
        tensor = Tensor(operand.data, operand.shape, operand.strides, operand.offset)
        own = self.sdfg.arrays[operand.data]
        if len(own.shape) == 1 and own.strides[0] == 1:
            return tensor
        return replace(tensor, sizes=tuple(own.shape), steps=tuple(own.strides))

    def input(self, i: int) -> Tensor:
        """The input of that place, which is given."""
        found: Tensor = self.inputs[i]
        return found

    def dtype(self, tensor: Tensor) -> Any:
        """The type of the elements."""
        return self.sdfg.arrays[tensor.data].dtype

    def transient(self, name: str, shape: Sequence[Any], dtype: Any) -> Tensor:
        """A row-major tensor that lives as long as the operator runs."""
        size: Any = 1
        strides: list[Any] = []
        for n in reversed(shape):
            strides.insert(0, size)
            size = size * n
        kinds = dace.StorageType
        storage = kinds.GPU_Global if self.on_device else kinds.Default
        data, _ = self.sdfg.add_transient(name, (size,), dtype, storage=storage, find_new_name=True)
        return Tensor(data, tuple(shape), tuple(strides))

    def state(self, name: str) -> Any:
        """A state after the last one."""
        new = self.sdfg.add_state(name)
        if self._last is not None:
            self.sdfg.add_edge(self._last, new, dace.InterstateEdge())
        self._last = new
        return new

    def each(
        self,
        name: str,
        ranges: Mapping[str, Any],
        reads: Mapping[str, Any],
        code: str,
        writes: Mapping[str, Any],
    ) -> None:
        """``code`` for every point of ``ranges``."""
        _, entry, _ = self.state(name).add_mapped_tasklet(
            name, _ranges(ranges), dict(reads), code, dict(writes), external_edges=True
        )
        self._place(entry)

    def _place(self, entry: Any) -> None:
        """On a GPU, a map is a kernel with a thread for each point."""
        if self.on_device:
            entry.map.schedule = dace.ScheduleType.GPU_Device
            entry.map.gpu_block_size = [BLOCK]

    def sums(
        self,
        name: str,
        ranges: Mapping[str, Any],
        over: Mapping[str, Any],
        reads: Mapping[str, Any],
        code: str,
        result: Any,
        *,
        dtype: Any,
        start: str = "0",
        combine: str = "a + b",
        finish: str = "__y = __sum",
        beside: Mapping[str, Any] | None = None,
    ) -> None:
        """For every point of ``ranges`` the sum over ``over`` of what ``code`` leaves in ``__v``.

        It begins with ``start``, ``combine`` adds ``b`` to ``a``, and ``finish`` makes ``__y`` of
        ``__sum`` and of what is read ``beside``. Sums are formed in order.
        """
        state, ins = self.state(name), {**reads}
        total, _ = self.sdfg.add_transient(
            "sum", (1,), dtype, storage=dace.StorageType.Register, find_new_name=True
        )
        whole = f"{total}[0]"
        entry, exit_ = state.add_map(name, _ranges(ranges))
        self._place(entry)
        inner, out = state.add_map("over", _ranges(over), schedule=dace.ScheduleType.Sequential)
        first = state.add_tasklet("start", {}, {"__s": None}, f"__s = {start}")
        before, after = state.add_access(total), state.add_access(total)
        state.add_edge(entry, None, first, None, dace.Memlet())
        state.add_edge(first, "__s", before, None, dace.Memlet(whole))
        state.add_edge(before, None, inner, None, dace.Memlet())
        term = state.add_tasklet(name, dict.fromkeys(ins), {"__v": None}, code)
        sources: dict[str, Any] = {}
        for connector, memlet in ins.items():
            node = sources.setdefault(memlet.data, state.add_read(memlet.data))
            state.add_memlet_path(node, entry, inner, term, dst_conn=connector, memlet=memlet)
        added = dace.Memlet(whole, wcr=f"lambda a, b: {combine}")
        state.add_memlet_path(term, out, after, src_conn="__v", memlet=added)
        others = dict(beside or {})
        last = state.add_tasklet(
            "finish", {"__sum": None, **dict.fromkeys(others)}, {"__y": None}, finish
        )
        state.add_edge(after, None, last, "__sum", dace.Memlet(whole))
        for connector, memlet in others.items():
            node = sources.setdefault(memlet.data, state.add_read(memlet.data))
            state.add_memlet_path(node, entry, last, dst_conn=connector, memlet=memlet)
        written = state.add_write(result.data)
        state.add_memlet_path(last, exit_, written, src_conn="__y", memlet=result)


def _ranges(sizes: Mapping[str, Any]) -> dict[str, str]:
    """A map has at least one parameter."""
    made = {name: f"0:{n if isinstance(n, str) else number(n)}" for name, n in sizes.items()}
    return made or {"__one": "0:1"}
