"""Which operators are library nodes: those named here, and whatever torch can call boxed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dovetail.compiler.nodes.aten.products import PRODUCTS
from dovetail.compiler.nodes.aten.schema import boxable
from dovetail.compiler.nodes.base import NodeSpec

__all__ = ["NODES"]


class _Nodes(Mapping[str, NodeSpec]):
    """``NodeSpec`` by operator; iteration shows those with an implementation of their own."""

    def __init__(self, own: dict[str, tuple[str, ...]]) -> None:
        self._own = own

    def __getitem__(self, key: str) -> NodeSpec:
        if key in self._own:
            return NodeSpec(key, self._own[key])
        if (reason := boxable(key)) is not None:
            raise KeyError(reason)
        return NodeSpec(key, ("native-op",) if key.startswith("dovetail.") else ("aten",))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and (key in self._own or boxable(key) is None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


NODES: Mapping[str, NodeSpec] = _Nodes(dict.fromkeys(PRODUCTS, ("aten",)))
