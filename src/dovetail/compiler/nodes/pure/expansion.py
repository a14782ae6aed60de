"""The ``pure`` expansion of an operator node: a nested SDFG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dovetail.compiler.nodes.aten.products import PRODUCTS
from dovetail.compiler.nodes.operator import Operator, expands
from dovetail.compiler.nodes.pure import pools
from dovetail.compiler.nodes.pure.body import Body
from dovetail.compiler.nodes.pure.casts import cast, cast_by_range, cast_integers
from dovetail.compiler.nodes.pure.convolution import backward, convolution
from dovetail.compiler.nodes.pure.layers import layer
from dovetail.compiler.nodes.pure.products import products

__all__ = ["BUILDERS", "pure"]

_MASKS = ("", "_masked")
BUILDERS: dict[str, Callable[[Body], None]] = {
    **{key: products for key in PRODUCTS if "_int_" not in key},
    "aten.convolution.default": convolution,
    "aten.convolution_backward.default": backward,
    **{f"dovetail.cast{mask}.default": cast for mask in _MASKS},
    **{f"dovetail.cast_integers{mask}.default": cast_integers for mask in _MASKS},
    **{f"dovetail.cast_by_range{mask}.default": cast_by_range for mask in _MASKS},
    "aten.max_pool2d_with_indices.default": pools.largest,
    "aten.max_pool2d_with_indices_backward.default": pools.largest_backward,
    "aten.avg_pool2d.default": pools.average,
    "aten.avg_pool2d_backward.default": pools.average_backward,
    "dovetail.linear.default": layer,
    "dovetail.conv.default": layer,
}


@expands("pure", [])
def pure(node: Operator, state: Any, sdfg: Any) -> Any:
    """Maps and tasklets."""
    body = Body(node, state, sdfg)
    BUILDERS[node.call.key](body)
    return body.sdfg
