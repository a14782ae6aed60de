"""Expansions of implementations that users write."""

from __future__ import annotations

from typing import Any

from dovetail.compiler.nodes.operator import Operator, declare, expands, tasklet
from dovetail.compiler.nodes.pure.body import Body
from dovetail.compiler.nodes.users import implementations

__all__ = ["known"]

_HEADERS = "#include <stdexcept>\n#include <string>"
#: A kernel that could not be launched says so nowhere else.
_LAUNCHED = """
if (const cudaError_t failed = cudaGetLastError(); failed != cudaSuccess)
  throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(failed));"""


def known(name: str) -> None:
    """Let nodes be expanded to the users' implementations of that name."""
    if name in Operator.implementations:
        return

    def expansion(node: Operator, state: Any, sdfg: Any) -> Any:
        made = implementations[node.call.key][name]
        if made.declarations:
            declare(sdfg, made.declarations)
        if not made.maps:
            code = made.function(node.call)
            if made.target == "cuda":
                declare(sdfg, _HEADERS)
                code += _LAUNCHED
            return tasklet(node, code)
        body = Body(node, state, sdfg)
        made.function(body)
        return body.sdfg

    expansion.__module__ = __name__
    expands(name, [])(expansion)
