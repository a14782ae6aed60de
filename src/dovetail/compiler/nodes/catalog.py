"""Which operators are library nodes: those named here, and whatever torch can call boxed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dovetail.compiler.nodes.aten.fused import FUSED, fused_refusal
from dovetail.compiler.nodes.aten.products import PRODUCTS
from dovetail.compiler.nodes.aten.schema import boxable
from dovetail.compiler.nodes.base import NodeSpec
from dovetail.compiler.nodes.native.blocks import block_refusal
from dovetail.compiler.nodes.native.casts import cast_refusal
from dovetail.compiler.nodes.native.layers import layer_refusal
from dovetail.compiler.nodes.pure.refusals import cast_in_full, in_full, layer_in_full, pool_in_full
from dovetail.compiler.nodes.users import implementations

__all__ = ["EAGER", "NODES"]

#: Before the name of an operator that is called in eager mode.
EAGER = "eager_mode."


_CASTS = [f"dovetail.{name}.default" for name in ("cast", "cast_integers", "cast_by_range")]
_MASKED = [key.replace(".default", "_masked.default") for key in _CASTS]
_LAYERS = ("dovetail.linear.default", "dovetail.conv.default")
_BLOCKS = ("dovetail.block_linear.default", "dovetail.block_conv.default")
_FLOATS = ("aten.convolution.default", "aten.convolution_backward.default")
_POOLS = [f"aten.{name}{back}.default" for name in ("max_pool2d_with_indices", "avg_pool2d")
          for back in ("", "_backward")]  # fmt: skip
_OWN = {
    **{key: NodeSpec(key, ("aten", "pure"), {"pure": pool_in_full}) for key in _POOLS},
    **{key: NodeSpec(key, ("aten", "pure"), {"pure": in_full}) for key in (*PRODUCTS, *_FLOATS)},
    **{key: NodeSpec(key, ("aten",), {"aten": fused_refusal}) for key in FUSED},
    **{
        key: NodeSpec(
            key,
            ("native", "native-op", "pure"),
            {"native": cast_refusal, "pure": cast_in_full},
        )
        for key in (*_CASTS, *_MASKED)
    },
    **{key: NodeSpec(key, ("native", "native-op"), {"native": block_refusal}) for key in _BLOCKS},
    **{
        key: NodeSpec(
            key,
            ("native", "native-op", "pure"),
            {"native": layer_refusal, "pure": layer_in_full},
        )
        for key in _LAYERS
    },
}


class _Nodes(Mapping[str, NodeSpec]):
    """``NodeSpec`` by operator; iteration shows those with an implementation of their own."""

    def __getitem__(self, key: str) -> NodeSpec:
        spec = self._own(key)
        users = implementations.get(key, {})
        if not users:
            return spec
        first = [name for name, made in users.items() if made.first]
        last = [name for name, made in users.items() if not made.first]
        reasons = {name: made.why_not for name, made in users.items()}
        names = (*reversed(first), *spec.implementations, *last)
        return NodeSpec(key, names, {**spec.refusals, **reasons})

    def _own(self, key: str) -> NodeSpec:
        if key in _OWN:
            return _OWN[key]
        if key.startswith(EAGER):
            return NodeSpec(key, ("eager",))
        if (reason := boxable(key)) is not None:
            raise KeyError(reason)
        return NodeSpec(key, ("native-op",) if key.startswith("dovetail.") else ("aten",))

    def __contains__(self, key: object) -> bool:
        known = isinstance(key, str) and (key in _OWN or key.startswith(EAGER))
        return known or (isinstance(key, str) and boxable(key) is None)

    def __iter__(self) -> Iterator[str]:
        return iter(_OWN)

    def __len__(self) -> int:
        return len(_OWN)


NODES: Mapping[str, NodeSpec] = _Nodes()
