"""The ``aten`` expansion of an operator node: one C++ tasklet that calls torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dovetail.compiler.nodes.aten.boxed import boxed_code
from dovetail.compiler.nodes.aten.eager import eager_code
from dovetail.compiler.nodes.aten.fused import FUSED, fused_code, is_packed
from dovetail.compiler.nodes.aten.pools import is_pooled, pool_code
from dovetail.compiler.nodes.aten.products import PRODUCTS, product_code
from dovetail.compiler.nodes.base import Call
from dovetail.compiler.nodes.environments import library
from dovetail.compiler.nodes.headers import header
from dovetail.compiler.nodes.operator import Operator, declare, expands, tasklet

__all__ = ["Torch", "aten", "eager", "native_op"]


Torch = library(
    "Torch",
    __name__,
    lambda: [
        str(Path(torch.__file__).parent / "lib" / name) for name in ("libtorch_cpu.so", "libc10.so")
    ],
)


@expands("aten", [Torch])
def aten(node: Operator, state: Any, sdfg: Any) -> Any:
    """Torch's own kernel: written in place where torch can, otherwise copied. The largest of
    windows is found by loops of our own, as torch finds it."""
    del state
    call = node.call
    if is_pooled(call):
        declare(sdfg, header("aten/pools.h"))
        return tasklet(node, pool_code(call))
    declare(sdfg, header("kept.h", "aten/aten.h"))
    return tasklet(node, _code(call))


def _code(call: Call) -> str:
    if call.key in PRODUCTS:
        return product_code(call)
    if call.target == "cuda":
        return boxed_code(call)  # the dispatcher finds the kernel by the tensors' device
    if call.key in FUSED or (call.key == "aten.convolution.default" and is_packed(call)):
        return fused_code(call)
    return boxed_code(call)


@expands("native-op", [Torch])
def native_op(node: Operator, state: Any, sdfg: Any) -> Any:
    """The registered operator of dovetail, called as torch calls it: the same kernel as in eager
    mode, at the price of a Python call."""
    return aten(node, state, sdfg)


@expands("eager", [Torch])
def eager(node: Operator, state: Any, sdfg: Any) -> Any:
    """The operator as torch's Python calls it, for what has no C form."""
    del state
    declare(sdfg, header("kept.h", "aten/aten.h"))
    return tasklet(node, eager_code(node.call))
