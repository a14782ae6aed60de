"""ONNX operators inside a ``@dace.program``, by the name of the operator.

    from dovetail.compiler import onnx_ops

    @dace.program
    def convolved(X: dace.float32[1, 3, 8, 8], W: dace.float32[4, 3, 3, 3]):
        Y = dace.define_local([1, 4, 3, 3], dace.float32)
        onnx_ops.Conv(X=X, W=W, Y=Y, strides=[2, 2])
        return Y

Inputs and outputs are arrays, named as ONNX names them; attributes are constants, and so are inputs
that say shapes or axes. ``implementation=`` chooses among those of the operator's library nodes
(``aten``, ``native``, ``pure``), ``opset=`` among the operator's versions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dovetail._optional import optional
from dovetail.compiler.onnx.registry import find, names
from dovetail.errors import DovetailError

__all__ = ["names", "operator_in_programs", "schema_of"]


def schema_of(name: str, opset: int | None = None) -> Any:
    """ONNX's own description of an operator.

    >>> [entry.name for entry in schema_of("Conv", 17).inputs]
    ['X', 'W', 'B']
    """
    onnx = optional("onnx", extra="onnx")
    find("", name, opset or onnx.defs.onnx_opset_version())
    return onnx.defs.get_schema(name, opset or onnx.defs.onnx_opset_version())


def operator_in_programs(operator: str, module: str, name: str) -> Callable[..., Any]:
    """What ``module.name`` is: in a program the operator, anywhere else a refusal."""
    if operator not in names():
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    from dovetail.compiler.dace_programs import register_operator

    register_operator(operator, f"{module}.{name}")

    def call(**_: Any) -> None:
        raise DovetailError(f"{module}.{name} is called inside a @dace.program")

    call.__name__ = call.__qualname__ = name
    call.__module__ = module
    return call


def __getattr__(name: str) -> Callable[..., Any]:
    """The operator of that name."""
    if name.startswith("_"):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    made = operator_in_programs(name, __name__, name)
    globals()[name] = made
    return made
