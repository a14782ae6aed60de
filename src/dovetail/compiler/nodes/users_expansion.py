"""Expansions of implementations that users write."""

from __future__ import annotations

from typing import Any

from dovetail.compiler.nodes.operator import Operator, declare, expands, tasklet
from dovetail.compiler.nodes.pure.body import Body
from dovetail.compiler.nodes.users import implementations

__all__ = ["known"]


def known(name: str) -> None:
    """Let nodes be expanded to the users' implementations of that name."""
    if name in Operator.implementations:
        return

    def expansion(node: Operator, state: Any, sdfg: Any) -> Any:
        made = implementations[node.call.key][name]
        if made.declarations:
            declare(sdfg, made.declarations)
        if not made.maps:
            return tasklet(node, made.function(node.call))
        body = Body(node, state, sdfg)
        made.function(body)
        return body.sdfg

    expansion.__module__ = __name__
    expands(name, [])(expansion)
