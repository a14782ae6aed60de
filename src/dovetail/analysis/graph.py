"""A model drawn as the graph of its operations, with the formats that flow along the edges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from dovetail.arithmetic import Arithmetic
from dovetail.emulation.operators import slot_of
from dovetail.emulation.plan import resolve
from dovetail.emulation.seen import Place
from dovetail.emulation.trace import trace
from dovetail.kinds import KINDS
from dovetail.recipe import Recipe

__all__ = ["Edge", "Graph", "Node", "graph"]

#: What an operation has besides the formats of what flows in and out.
_OWN = ("sparsity", "weight_storage", "weight", "mul", "acc", "bias", "fn")


@dataclass(frozen=True)
class Node:
    """An operation: its key in the plan, its kind, and what it was given of its own."""

    key: str
    kind: str
    given: str = ""


@dataclass(frozen=True)
class Edge:
    """What one operation gives another: the format it comes out in, and the one it goes in as."""

    source: str
    target: str
    formats: str = ""


@dataclass(frozen=True)
class Graph:
    """Operations in the order of their calls, and what flows between them.

    ``inputs`` is the node for the example's tensors.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def mermaid(self) -> str:
        """Text that GitHub, GitLab and many editors draw."""
        names = self._names()
        lines = ["flowchart TD"]
        for node in self.nodes:
            lines.append(f'    {names[node.key]}["{_escaped(_label(node, "<br/>"))}"]')
        for edge in self.edges:
            along = f'|"{_escaped(edge.formats)}"|' if edge.formats else ""
            lines.append(f"    {names[edge.source]} -->{along} {names[edge.target]}")
        return "\n".join(lines) + "\n"

    def dot(self) -> str:
        """Text for Graphviz: ``dot -Tsvg``."""
        names = self._names()
        lines = ["digraph {", "    node [shape=box, fontname=Helvetica]"]
        for node in self.nodes:
            lines.append(f"    {names[node.key]} [label={_quoted(_label(node, chr(10)))}]")
        for edge in self.edges:
            along = f" [label={_quoted(edge.formats)}]" if edge.formats else ""
            lines.append(f"    {names[edge.source]} -> {names[edge.target]}{along}")
        return "\n".join([*lines, "}"]) + "\n"

    def _names(self) -> dict[str, str]:
        return {node.key: f"n{i}" for i, node in enumerate(self.nodes)}


def graph(model: nn.Module, recipe: Recipe, example: Any) -> Graph:
    """Which operation feeds which in one run on ``example``, under ``recipe``.

    The model is one that is not emulated, as for :func:`dovetail.plan`. Reshapes, slices and other
    functions that no rule can reach are passed through; an operation that a module repeats in
    several calls is one node.

    >>> import dovetail as dv
    >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> recipe = dv.Recipe(dv.rule("0", output="bf16"), dv.rule("2", input="int8", weight="int4"))
    >>> for edge in graph(net, recipe, torch.ones(1, 4)).edges:
    ...     print(edge.source, "->", edge.target, edge.formats)
    inputs -> 0
    0 -> 1 bf16
    1 -> 2 as int8
    """
    lineage = _Lineage(example)
    with lineage:
        found = trace(model, example, lineage.call)
    plan = {(op.path, op.kind, op.index): op.arithmetic for op in resolve(model, recipe, found)}
    keys, given = {_INPUTS: "inputs"}, {}
    for place, seen in found.seen.items():
        address = seen.address
        keys[place] = address.key
        given[place] = plan.get((address.path, address.kind, address.index), Arithmetic())
    nodes = [Node("inputs", "")]
    nodes += [
        Node(keys[place], place[1], _given(place[1], given[place])) for place in lineage.order
    ]
    edges = [
        Edge(keys[s], keys[t], _flow(given.get(s), given[t], slot))
        for s, t, slot in dict.fromkeys(lineage.edges)
    ]
    return Graph(tuple(nodes), tuple(edges))


_INPUTS: Place = ("", "inputs", -1)


@dataclass
class _Tracked:
    """A tensor that keeps its storage alive, and the operations that its values came from."""

    tensor: Tensor
    sources: frozenset[Place]


class _Lineage(TorchFunctionMode):
    """Follows every storage back to the operations that filled it."""

    def __init__(self, example: Any) -> None:
        super().__init__()
        self.tracked: dict[int, _Tracked] = {}
        self.order: dict[Place, None] = {}
        self.edges: list[tuple[Place, Place, str]] = []
        self._note(_tensors(example), frozenset({_INPUTS}))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        filled = [t for t in _tensors(result) if _storage(t) not in self.tracked]
        if _writes(func) and args and isinstance(args[0], Tensor):
            filled.append(args[0])
        if filled:
            given = _tensors((args, kwargs or {}))
            self._note(filled, frozenset().union(*map(self._sources, given)))
        return result

    def call(self, place: Place, call: Any, result: Tensor) -> None:
        """An operation was called: edges to it, and from now on its result comes from it."""
        self.order.setdefault(place)
        for name, operand in call.operands.items():
            for source in sorted(self._sources(operand)):
                self.edges.append((source, place, slot_of(name)))
        self.tracked.pop(_storage(result), None)
        self._note([result], frozenset({place}))

    def _sources(self, tensor: Tensor) -> frozenset[Place]:
        tracked = self.tracked.get(_storage(tensor))
        return frozenset() if tracked is None else tracked.sources

    def _note(self, tensors: Iterable[Tensor], sources: frozenset[Place]) -> None:
        for tensor in tensors:
            self.tracked[_storage(tensor)] = _Tracked(tensor, sources)


def _writes(func: Callable[..., Any]) -> bool:
    """Whether it writes to its first argument, as ``add_`` and ``x[i] = y`` do."""
    name = getattr(func, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    with torch._C.DisableTorchFunction():
        return int(tensor.untyped_storage()._cdata)


def _given(kind: str, arithmetic: Arithmetic) -> str:
    words = arithmetic.describe()
    flows = KINDS[kind].activations
    return ", ".join(f"{n}={words[n]}" for n in _OWN if n in words and n not in flows)


def _flow(source: Arithmetic | None, target: Arithmetic, slot: str) -> str:
    out = "" if source is None or source.output is None else str(source.output)
    into = getattr(target, slot)
    return out if into is None else f"{out} as {into}".strip()


def _label(node: Node, newline: str) -> str:
    bare = ":" in node.key or not node.kind
    words = [node.key if bare else f"{node.key} ({node.kind})", node.given]
    return newline.join(word for word in words if word)


def _escaped(text: str) -> str:
    return text.replace('"', "#quot;")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
