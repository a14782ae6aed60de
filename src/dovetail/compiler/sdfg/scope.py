"""Tasklets inside a map: one per statement, each result a scalar in a register."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from dovetail.compiler.groups.layout import Dim
from dovetail.compiler.groups.model import Access, Index, Statement
from dovetail.compiler.sdfg.arrays import dace, dtype_of, element, index_code, span

__all__ = ["Scope", "make_map"]

Operand = str | Access | Index


def make_map(
    label: str,
    params: Sequence[str],
    ranges: Sequence[tuple[Any, ...]],
    schedule: str = "Sequential",
) -> tuple[Any, Any]:
    """The entry and exit of a map over ``first <= parameter < end``, by a third number or ones."""
    subset = dace.subsets.Range([(r[0], r[1] - 1, r[2] if len(r) > 2 else 1) for r in ranges])
    made = dace.nodes.Map(label, list(params), subset, schedule=dace.ScheduleType[schedule])
    return dace.nodes.MapEntry(made), dace.nodes.MapExit(made)


class Scope:
    """The inside of one map, whose group's index has the values ``index``.

    ``outer`` is the scope around it, or None: arrays then are nodes of the state. Statements that
    an outer scope computes are read from it.
    """

    def __init__(
        self,
        state: Any,
        sizes: Mapping[str, Dim],
        nodes: tuple[Any, Any],
        index: Sequence[Any],
        outer: Scope | None = None,
    ) -> None:
        self.state, self.sizes, self.index, self.outer = state, sizes, index, outer
        self.sdfg = state.sdfg
        self.entry, self.exit = nodes
        #: The element of row arrays that this scope is at.
        self.row: Any = 0
        state.add_nodes_from(nodes)
        #: Results of statements in here, and of those of an outer scope that are read in here.
        self.values: dict[str, tuple[Any, Any]] = {}
        #: Row values as inner maps read them: an array of this scope and the element's memlet.
        self.rows: dict[str, tuple[str, torch.dtype]] = {}
        #: Arrays that live in this scope, each with the node that was written last.
        self.local: dict[str, Any] = {}
        self._outside: dict[str, Any] = {}
        self._loads: dict[Access, tuple[Any, Any]] = {}

    # -- arrays ---------------------------------------------------------------------------------

    def read(self, name: str, memlet: Any) -> tuple[Any, str, Any]:
        """Where ``memlet`` of the array ``name`` comes from in here."""
        if f"OUT_{name}" not in self.entry.out_connectors:
            source, connector = self._source(name)
            self.entry.add_in_connector(f"IN_{name}")
            self.entry.add_out_connector(f"OUT_{name}")
            whole = span(name, self.sizes[name])
            self.state.add_edge(source, connector, self.entry, f"IN_{name}", whole)
        return self.entry, f"OUT_{name}", memlet

    def _source(self, name: str) -> tuple[Any, Any]:
        """What an array comes from outside this map."""
        if self.outer is None:
            if name not in self._outside:
                self._outside[name] = self.state.add_read(name)
            return self._outside[name], None
        if name in self.outer.local:
            return self.outer.local[name], None
        node, connector, _ = self.outer.read(name, None)
        return node, connector

    def write(self, node: Any, connector: Any, memlet: Any) -> None:
        """An element from ``node`` through the map's exit to its array."""
        number = len(self.exit.in_connectors)
        self.exit.add_in_connector(f"IN_{number}")
        self.exit.add_out_connector(f"OUT_{number}")
        self.state.add_edge(node, connector, self.exit, f"IN_{number}", memlet)
        whole = span(memlet.data, self.sizes[memlet.data])
        whole.wcr = memlet.wcr
        self._deliver(f"OUT_{number}", whole)

    def _deliver(self, connector: str, whole: Any) -> None:
        """From the map's exit to an array around it, or through the exit of the outer map."""
        name = whole.data
        if self.outer is None:
            key = f"{name} written"
            if key not in self._outside:
                self._outside[key] = self.state.add_write(name)
            target = self._outside[key]
            self.state.add_edge(self.exit, connector, target, None, whole)
        elif name in self.outer.local:
            self.state.add_edge(self.exit, connector, self._renewed(name), None, whole)
        else:
            self.outer.write(self.exit, connector, whole)

    def _renewed(self, name: str) -> Any:
        """A later node of a local array of the outer scope; this map runs after the earlier one."""
        assert self.outer is not None
        key = f"{name} here"
        if key not in self._outside:
            before = self.outer.local[name]
            if before is not None:
                self.state.add_nedge(before, self.entry, dace.Memlet())
            self._outside[key] = self.outer.local[name] = self.state.add_access(name)
        return self._outside[key]

    def attach(self) -> None:
        """Tie an inner map that reads nothing to the map around it."""
        if self.outer is not None and self.state.in_degree(self.entry) == 0:
            self.state.add_nedge(self.outer.entry, self.entry, dace.Memlet())

    # -- statements -----------------------------------------------------------------------------

    def scalar(self, stem: str, dtype: torch.dtype) -> Any:
        """A node of a new scalar in a register."""
        name = self.sdfg.add_scalar(
            stem,
            dtype_of(dtype),
            storage=dace.StorageType.Register,
            transient=True,
            find_new_name=True,
        )[0]
        return self.state.add_access(name)

    def emit(
        self,
        statements: Iterable[Statement],
        stores: Mapping[str, Sequence[Any]],
        keep: bool = False,
    ) -> None:
        """Tasklets of ``statements``; ``stores`` are the memlets that each result goes to.

        With ``keep`` every result is also kept in a scalar, for the scopes inside this one.
        """
        body = list(statements)
        uses = Counter(o for s in body for o in s.operands if isinstance(o, Access))
        local = {o for s in body for o in s.operands if isinstance(o, str)}
        for statement in body:
            ins = [self._operand(o, uses) for o in statement.operands]
            kept = keep or statement.name in local
            self._tasklet(statement, ins, stores.get(statement.name, ()), kept)

    def _operand(self, operand: Operand, uses: Counter[Access]) -> Any:
        if isinstance(operand, Index):
            return index_code(operand, self.index)
        if isinstance(operand, str):
            return self.value(operand)
        if operand in self._loads:
            node, dtype = self._loads[operand]
            return node, None, _first(node), dtype
        found = (*self.read(operand.buffer, element(operand, self.index)), operand.dtype)
        if uses[operand] < 2:
            return found
        node = self.scalar(f"{operand.buffer}_read", operand.dtype)
        load = self._add(f"load_{operand.buffer}", "__o0 = {0}", [found], operand.dtype, ["__o0"])
        self._link(load, "__o0", node)
        self._loads[operand] = node, operand.dtype
        return node, None, _first(node), operand.dtype

    def value(self, name: str) -> Any:
        """A statement's result, from here or from the scope around this one."""
        if name in self.values:
            node, dtype = self.values[name]
            return node, None, _first(node), dtype
        assert self.outer is not None
        array, dtype = self.outer.rows[name]
        place = self.row if self.sizes[array] != 1 else 0
        memlet = dace.Memlet(data=array, subset=dace.subsets.Range([(place, place, 1)]))
        return (*self.read(array, memlet), dtype)

    def _tasklet(
        self, statement: Statement, ins: list[Any], stores: Sequence[Any], kept: bool
    ) -> None:
        outs = [f"__o{i}" for i in range(len(stores) + (kept or not stores))]
        code = "\n".join([f"__o0 = {statement.code}", *(f"{name} = __o0" for name in outs[1:])])
        made = self._add(statement.origin, code, ins, statement.dtype, outs)
        for connector, memlet in zip(outs, stores, strict=False):
            self.write(made, connector, memlet)
        if len(outs) > len(stores):
            node = self.scalar(statement.name, statement.dtype)
            self._link(made, outs[-1], node)
            self.values[statement.name] = node, statement.dtype

    def _link(self, tasklet: Any, connector: str, node: Any) -> None:
        self.state.add_edge(tasklet, connector, node, None, _first(node))

    def _add(
        self, label: str, code: str, ins: list[Any], dtype: torch.dtype, outs: list[str]
    ) -> Any:
        words = [entry if isinstance(entry, str) else f"__a{i}" for i, entry in enumerate(ins)]
        edges = [(i, entry) for i, entry in enumerate(ins) if not isinstance(entry, str)]
        made = self.state.add_tasklet(
            label or "value",
            {f"__a{i}": dtype_of(entry[3]) for i, entry in edges},
            dict.fromkeys(outs, dtype_of(dtype)),
            code.format(*words),
        )
        for i, (node, connector, memlet, _) in edges:
            self.state.add_edge(node, connector, made, f"__a{i}", memlet)
        if not edges:
            self.state.add_nedge(self.entry, made, dace.Memlet())
        return made


def _first(node: Any) -> Any:
    return dace.Memlet(data=node.data, subset="0")
