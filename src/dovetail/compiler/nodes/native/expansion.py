"""The ``native`` expansion of an operator node: one C++ tasklet that calls dovetail's core."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from dovetail.compiler.nodes.headers import header
from dovetail.compiler.nodes.native.blocks import block_code
from dovetail.compiler.nodes.native.casts import cast_code
from dovetail.compiler.nodes.native.layers import layer_code
from dovetail.compiler.nodes.native.structs import declarations
from dovetail.compiler.nodes.operator import Operator, declare, expands, tasklet
from dovetail.kernels import native as core

__all__ = ["core_header", "native"]


@lru_cache(maxsize=1)
def core_header() -> str:
    """The declarations that every ``native`` tasklet relies on."""
    rest = header("native/core.h", "native/layers.h")
    path = f'#define DOVETAIL_CORE_PATH "{core.library_path()}"'
    return f"#include <cstdint>\n{path}\n{declarations()}\n{rest}"


@expands("native", [])
def native(node: Operator, state: Any, sdfg: Any) -> Any:
    """Dovetail's own kernel, called without torch or Python in between."""
    del state
    declare(sdfg, header("kept.h"))
    declare(sdfg, core_header())
    call = node.call
    if call.key.startswith("dovetail.cast"):
        return tasklet(node, cast_code(call))
    if call.key.startswith("dovetail.block_"):
        return tasklet(node, block_code(call))
    declared, code = layer_code(call)
    declare(sdfg, declared)
    return tasklet(node, code)
